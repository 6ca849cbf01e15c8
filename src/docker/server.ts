/**
 * Serves the volume plugin API on a Unix socket: HTTP/1.1, one POST request per call, with limits for the size and duration
 * of a request.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { causeOf, messageOf, type Reason, VolumeError } from '../errors.ts';
import { metricCodes } from '../observe/call-codes.ts';
import type { Logger } from '../observe/log.ts';
import type { CallMeasurement } from '../observe/metrics.ts';
import { listenOnSocket } from '../unix-socket.ts';
import { type DockerFront, type PluginCall, pluginCalls } from './plugin.ts';
import { NoResponseError } from './requests.ts';

/** Far above the largest request, which consists of a name and some options. */
const maxBodyBytes = 64 * 1024;
const maxConnections = 64;
const contentType = 'application/vnd.docker.plugins.v1.2+json';

export interface DockerServeOptions {
  /** Path of the socket. */
  readonly socket: string;
  readonly front: DockerFront;
  readonly log: Logger;
  readonly callEnded: (call: CallMeasurement) => void;
  /** Time limit for receiving a request. */
  readonly requestTimeoutMs?: number;
}

export interface RunningPlugin {
  /** Removes the socket and waits for running calls. */
  close(): Promise<void>;
}

/** Serves the plugin API until `close` is called. Throws `unavailable` if the socket cannot be bound. */
export async function serveDocker(options: DockerServeOptions): Promise<RunningPlugin> {
  const { requestTimeoutMs = 10_000, log } = options;
  const server = createServer(
    {
      // Docker sends an empty Host header.
      requireHostHeader: false,
      requestTimeout: requestTimeoutMs,
      headersTimeout: requestTimeoutMs,
      connectionsCheckingInterval: Math.min(requestTimeoutMs, 5_000),
      keepAliveTimeout: 60_000,
      maxHeaderSize: 16 * 1024,
    },
    (request, response) => {
      answer(options, request, response).catch((error: unknown) => {
        log.error({ err: error }, 'plugin call could not be answered');
        response.destroy();
      });
    },
  );
  server.maxConnections = maxConnections;
  const socket = await listenOnSocket(server, {
    path: options.socket,
    flag: '--docker-socket',
    log,
  });
  return {
    close: async () => {
      await socket.remove();
      await new Promise<void>((resolve) => {
        server.close(() => {
          resolve();
        });
        server.closeIdleConnections();
      });
    },
  };
}

/** Thrown for a request that is refused at the HTTP level, before any call runs. */
class HttpError extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.name = 'HttpError';
    this.status = status;
  }
}

async function answer(
  options: DockerServeOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  try {
    const pluginCall = findCall(request);
    const body = await readBody(request);
    send(response, 200, await runCall(options, { pluginCall, body, response }));
  } catch (error) {
    if (request.destroyed && !request.complete) {
      const problem = messageOf(error);
      options.log.debug({ problem }, 'caller disconnected before the end of its request');
      return;
    }
    if (!(error instanceof HttpError)) throw error;
    // The rest of the request is not read.
    response.setHeader('connection', 'close');
    send(response, error.status, { Err: error.message });
  }
}

function findCall(request: IncomingMessage): PluginCall {
  const path = request.url ?? '';
  const found = Object.hasOwn(pluginCalls, path) ? pluginCalls[path] : undefined;
  if (found === undefined) throw new HttpError(404, 'unknown call of the plugin API');
  if (request.method !== 'POST') throw new HttpError(405, 'only POST requests are accepted');
  return found;
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  // By default, an error thrown in the loop destroys the request, and with it the connection for the response.
  const parts = request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>;
  for await (const chunk of parts) {
    length += chunk.length;
    if (length > maxBodyBytes) {
      throw new HttpError(413, `the body is longer than ${maxBodyBytes} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** Errors are also returned with status 200, because Docker then shows only their text. */
async function runCall(
  { front, log, callEnded }: DockerServeOptions,
  request: { pluginCall: PluginCall; body: string; response: ServerResponse },
): Promise<unknown> {
  const { pluginCall, body, response } = request;
  const { name, logClass } = pluginCall;
  const startedAtMs = performance.now();
  const abort = new AbortController();
  const abortIfUnanswered = (): void => {
    if (!response.writableFinished) abort.abort();
  };
  response.once('close', abortIfUnanswered);
  const callLog = log.child({ rpc: `docker ${name}` });
  let code: Reason | 'ok' = 'ok';
  try {
    return await pluginCall.answer(front, { log: callLog, signal: abort.signal }, body);
  } catch (error) {
    code = error instanceof VolumeError ? error.reason : 'internal';
    // Docker asks every plugin about every name.
    const isExpected = logClass === 'read' && code === 'not-found';
    // An internal error is a bug or damaged data, which an operator must examine.
    const failure =
      code === 'internal' ? { err: error } : { problem: messageOf(error), cause: causeOf(error) };
    callLog[isExpected ? 'debug' : 'warn']({ ...failure, code }, 'call failed');
    if (error instanceof NoResponseError) response.destroy();
    return { Err: textOf(error) };
  } finally {
    response.off('close', abortIfUnanswered);
    const durationMs = performance.now() - startedAtMs;
    const metricCode = code === 'ok' ? 'OK' : metricCodes[code];
    callEnded({ service: 'docker.VolumeDriver', rpc: name, code: metricCode, durationMs });
    const level = logClass === 'change' ? 'info' : 'trace';
    callLog[level]({ code, durationMs: Math.round(durationMs) }, 'call ended');
  }
}

/**
 * Returns the text that Docker shows after, for example, `VolumeDriver.Mount:`. The details of internal errors are only
 * logged.
 */
function textOf(error: unknown): string {
  if (error instanceof VolumeError) return error.message;
  return 'internal error, see the log of the driver';
}

function send(response: ServerResponse, status: number, content: unknown): void {
  if (response.destroyed) return;
  response.writeHead(status, { 'content-type': contentType });
  response.end(JSON.stringify(content));
}
