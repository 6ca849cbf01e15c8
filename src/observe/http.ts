/** `/metrics`, `/healthz` and `/readyz` for whoever watches the driver. Bounded, since its address may be a pod's. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
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
  /** undefined: ready; else why not. */
  readonly findUnready: () => Promise<string | undefined>;
  /** After so long without an answer a request gets 503. */
  readonly boundMs?: number;
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

/** Listens. Rejects with node's error, EADDRINUSE for example. */
export async function serveHttp(options: HttpOptions): Promise<HttpListener> {
  const server = createServer(limits, (request, response) => {
    respond(options, request, response).catch(() => {
      response.destroy();
    });
  });
  server.maxConnections = maxConnections;
  await listening(server, options);
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : options.port,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

async function listening(server: Server, { host, port }: HttpOptions): Promise<void> {
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
  const answer = await withBound(answerTo(options, request), options.boundMs ?? 5_000);
  response.writeHead(answer.status, {
    'content-type': answer.contentType ?? 'text/plain; charset=utf-8',
    'x-content-type-options': 'nosniff',
    // A body that was sent along is not read: the connection ends instead.
    ...(request.method === 'GET' || request.method === 'HEAD' ? {} : { connection: 'close' }),
  });
  response.end(request.method === 'HEAD' ? '' : answer.body);
}

async function answerTo(options: HttpOptions, request: IncomingMessage): Promise<Answer> {
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    return { status: 405, body: 'only GET and HEAD are answered\n' };
  }
  const path = (request.url ?? '').split('?', 1)[0];
  try {
    if (path === '/metrics') return await options.metrics();
    // Being answered shows that the process runs and its event loop turns; nothing else is asked.
    if (path === '/healthz') return { status: 200, body: 'ok\n' };
    if (path === '/readyz') {
      const unready = await options.findUnready();
      return unready === undefined
        ? { status: 200, body: 'ok\n' }
        : { status: 503, body: `${unready}\n` };
    }
  } catch (error) {
    return { status: 500, body: `${messageOf(error)}\n` };
  }
  return { status: 404, body: 'there are /metrics, /healthz and /readyz\n' };
}

async function withBound(answer: Promise<Answer>, boundMs: number): Promise<Answer> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<Answer>((resolve) => {
    timer = setTimeout(() => {
      resolve({ status: 503, body: `no answer within ${boundMs} ms\n` });
    }, boundMs);
  });
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}
