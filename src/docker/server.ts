/** The socket of the volume plugin API: HTTP/1.1, one POST a call, the body bounded in size and time. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type Reason, VolumeError } from '../errors.ts';
import { metricCodes } from '../observe/call-codes.ts';
import type { Logger } from '../observe/log.ts';
import { listenOnSocket } from '../unix-socket.ts';
import { type DockerFront, type PluginCall, pluginCalls } from './plugin.ts';
import { Unanswerable } from './requests.ts';

/** Docker's largest request is a name and some options. */
const longestBody = 64 * 1024;
const maxConnections = 64;
const contentType = 'application/vnd.docker.plugins.v1.2+json';

export interface DockerServeOptions {
  /** Path of the socket. */
  readonly socket: string;
  readonly front: DockerFront;
  readonly log: Logger;
  readonly callEnded: (call: EndedPluginCall) => void;
  /** How long a request may take to arrive; the default suits a socket of this machine. */
  readonly requestTimeoutMs?: number;
}

export interface EndedPluginCall {
  readonly service: string;
  readonly rpc: string;
  /** `ok`, or the reason of the failure. */
  readonly code: string;
  readonly durationMs: number;
}

export interface RunningPlugin {
  /** Ends the socket; calls under way are answered first, as long as the domain lets them run. */
  close(): Promise<void>;
}

/** Serves the plugin. Throws `unavailable` when the socket cannot be bound. */
export async function serveDocker(options: DockerServeOptions): Promise<RunningPlugin> {
  const { requestTimeoutMs = 10_000, log } = options;
  const server = createServer(
    {
      // Docker sends an empty one.
      requireHostHeader: false,
      requestTimeout: requestTimeoutMs,
      headersTimeout: requestTimeoutMs,
      connectionsCheckingInterval: Math.min(requestTimeoutMs, 5_000),
      keepAliveTimeout: 60_000,
      maxHeaderSize: 16 * 1024,
    },
    (request, response) => {
      answer(options, request, response).catch((error: unknown) => {
        log.error({ err: error }, 'a plugin call could not be answered');
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

/** A refusal of the request itself, before there is a call. */
class HttpRefusal extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.name = 'HttpRefusal';
    this.status = status;
  }
}

async function answer(
  options: DockerServeOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  try {
    const found = callOf(request);
    const body = await readBody(request);
    send(response, 200, await runCall(options, { found, body, response }));
  } catch (error) {
    if (request.destroyed && !request.complete) {
      options.log.debug({ err: error }, 'a caller went away before it had said all');
      return;
    }
    if (!(error instanceof HttpRefusal)) throw error;
    // What is left of the request is not read.
    response.setHeader('connection', 'close');
    send(response, error.status, { Err: error.message });
  }
}

function callOf(request: IncomingMessage): PluginCall {
  const path = request.url ?? '';
  const found = Object.hasOwn(pluginCalls, path) ? pluginCalls[path] : undefined;
  if (found === undefined) throw new HttpRefusal(404, 'this plugin has no such call');
  if (request.method !== 'POST') throw new HttpRefusal(405, 'calls of a plugin are POST requests');
  return found;
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  // The request must outlive a refusal: its connection carries the answer.
  const parts = request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>;
  for await (const chunk of parts) {
    length += chunk.length;
    if (length > longestBody) {
      throw new HttpRefusal(413, `the body is longer than ${longestBody} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** Docker shows the text of an error best when the status is 200. */
async function runCall(
  { front, log, callEnded }: DockerServeOptions,
  asked: { found: PluginCall; body: string; response: ServerResponse },
): Promise<unknown> {
  const { found, body, response } = asked;
  const startedAtMs = performance.now();
  const abort = new AbortController();
  const hangUp = (): void => {
    if (!response.writableFinished) abort.abort();
  };
  response.once('close', hangUp);
  const child = log.child({ rpc: `docker ${found.name}` });
  let code: Reason | 'ok' = 'ok';
  try {
    return await found.answer(front, { log: child, signal: abort.signal }, body);
  } catch (error) {
    code = error instanceof VolumeError ? error.reason : 'internal';
    // Docker asks every driver about every name.
    const isUsual = found.weight === 'read' && code === 'not-found';
    child[isUsual ? 'debug' : 'warn']({ err: error, code }, 'call failed');
    if (error instanceof Unanswerable) response.destroy();
    return { Err: textOf(error) };
  } finally {
    response.off('close', hangUp);
    const durationMs = performance.now() - startedAtMs;
    const metricCode = code === 'ok' ? 'OK' : metricCodes[code];
    callEnded({ service: 'docker.VolumeDriver', rpc: found.name, code: metricCode, durationMs });
    const level = found.weight === 'change' ? 'info' : 'trace';
    child[level]({ code, durationMs: Math.round(durationMs) }, 'call ended');
  }
}

/** What a person reads behind `VolumeDriver.Mount:`. What is not ours to say stays in the log. */
function textOf(error: unknown): string {
  if (error instanceof VolumeError) return error.message;
  return "internal error, see the driver's log";
}

function send(response: ServerResponse, status: number, content: unknown): void {
  if (response.destroyed) return;
  response.writeHead(status, { 'content-type': contentType });
  response.end(JSON.stringify(content));
}
