/** Serves `/metrics`, `/healthz` and `/readyz`, with limits, because the address may be reachable by pods. */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { timedOut, withTimeout } from '../async.ts';
import { messageOf } from '../errors.ts';

export interface Answer {
  readonly status: number;
  readonly contentType?: string;
  readonly body: string;
}

export interface HttpOptions {
  readonly host: string;
  readonly port: number;
  readonly metrics: () => Promise<Answer>;
  /** Returns the reason while the driver is not ready. */
  readonly findReadinessProblem: () => Promise<string | undefined>;
  /** A request that takes longer gets 503. */
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

/** Rejects with Node's error, for example EADDRINUSE. */
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
  const result = await withTimeout(answerTo(options, request), timeoutMs);
  const answer =
    result === timedOut ? { status: 503, body: `no answer within ${timeoutMs} ms\n` } : result;
  response.writeHead(answer.status, {
    'content-type': answer.contentType ?? 'text/plain; charset=utf-8',
    'x-content-type-options': 'nosniff',
    // Ending the connection avoids reading a request body.
    ...(request.method === 'GET' || request.method === 'HEAD' ? {} : { connection: 'close' }),
  });
  response.end(request.method === 'HEAD' ? '' : answer.body);
}

async function answerTo(options: HttpOptions, request: IncomingMessage): Promise<Answer> {
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    return { status: 405, body: 'only GET and HEAD are supported\n' };
  }
  const path = (request.url ?? '').split('?', 1)[0];
  try {
    if (path === '/metrics') return await options.metrics();
    // An answer proves that the process and its event loop run, which is all that liveness means here.
    if (path === '/healthz') return { status: 200, body: 'ok\n' };
    if (path === '/readyz') {
      const unready = await options.findReadinessProblem();
      return unready === undefined
        ? { status: 200, body: 'ok\n' }
        : { status: 503, body: `${unready}\n` };
    }
  } catch (error) {
    return { status: 500, body: `${messageOf(error)}\n` };
  }
  return { status: 404, body: 'not found; try /metrics, /healthz or /readyz\n' };
}
