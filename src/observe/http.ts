/**
 * Serves `/metrics`, `/healthz` and `/readyz`. Requests are limited in size, time and number, because pods may be able
 * to reach the address.
 */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { timedOut, withTimeout } from '../async.ts';
import { messageOf, VolumeError } from '../errors.ts';
import type { Logger } from './log.ts';

export interface HttpResponse {
  readonly status: number;
  readonly contentType?: string;
  readonly body: string;
}

export interface HttpOptions {
  readonly host: string;
  readonly port: number;
  readonly metrics: () => Promise<HttpResponse>;
  /** Returns why the driver is not ready; undefined if it is. */
  readonly findReadinessProblem: () => Promise<string | undefined>;
  /** A request that takes longer gets a 503 response. */
  readonly timeoutMs?: number;
}

export interface HttpListener {
  readonly port: number;
  close(): void;
}

const limits = {
  maxHeaderSize: 8 * 1024,
  headersTimeout: 5_000,
  requestTimeout: 10_000,
  keepAliveTimeout: 5_000,
  connectionsCheckingInterval: 5_000,
} as const;
const maxConnections = 64;

/** Starts the listener. Rejects with Node's error, for example EADDRINUSE. */
export async function serveHttp(options: HttpOptions): Promise<HttpListener> {
  const server = createServer(limits, (request, response) => {
    respond(options, request, response).catch(() => {
      response.destroy();
    });
  });
  server.maxConnections = maxConnections;
  await listen(server, options);
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : options.port,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

/**
 * Starts the listener at the address of `--http-address`. If it cannot be opened, throws `unavailable`, or if nobody chose the address
 * (`isOptional`), warns and returns undefined.
 */
export async function serveHttpOrWarn(
  options: HttpOptions & { readonly isOptional: boolean; readonly log: Logger },
): Promise<HttpListener | undefined> {
  const { isOptional, log, host, port } = options;
  try {
    return await serveHttp(options);
  } catch (error) {
    const problem = messageOf(error);
    if (!isOptional)
      throw new VolumeError('unavailable', `--http-address: ${problem}`, { cause: error });
    log.warn({ host, port, problem }, 'HTTP address was in use: metrics and health are not served');
    return undefined;
  }
}

async function listen(server: Server, { host, port }: HttpOptions): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port }, () => {
      server.removeListener('error', reject);
      resolve();
    });
  });
}

async function respond(
  options: HttpOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { timeoutMs = 5_000 } = options;
  const result = await withTimeout(handleRequest(options, request), timeoutMs);
  const reply =
    result === timedOut ? { status: 503, body: `no answer within ${timeoutMs} ms\n` } : result;
  response.writeHead(reply.status, {
    'content-type': reply.contentType ?? 'text/plain; charset=utf-8',
    'x-content-type-options': 'nosniff',
    // Closing the connection avoids reading a request body.
    ...(request.method === 'GET' || request.method === 'HEAD' ? {} : { connection: 'close' }),
  });
  response.end(request.method === 'HEAD' ? '' : reply.body);
}

async function handleRequest(
  options: HttpOptions,
  request: IncomingMessage,
): Promise<HttpResponse> {
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    return { status: 405, body: 'only GET and HEAD are supported\n' };
  }
  const path = (request.url ?? '').split('?', 1)[0];
  try {
    if (path === '/metrics') return await options.metrics();
    // A response proves that the process and its event loop are running, which is all that liveness means here.
    if (path === '/healthz') return { status: 200, body: 'ok\n' };
    if (path === '/readyz') {
      const problem = await options.findReadinessProblem();
      return problem === undefined
        ? { status: 200, body: 'ok\n' }
        : { status: 503, body: `${problem}\n` };
    }
  } catch (error) {
    return { status: 500, body: `${messageOf(error)}\n` };
  }
  return { status: 404, body: 'not found; try /metrics, /healthz or /readyz\n' };
}
