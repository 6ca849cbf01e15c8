import { once } from 'node:events';
import { createConnection } from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { type HttpOptions, serveHttp } from '../../../src/observe/http.ts';

async function serve(t: ExecutionContext, options: Partial<HttpOptions> = {}): Promise<number> {
  const listener = await serveHttp({
    host: '127.0.0.1',
    port: 0,
    metrics: async () => ({ status: 200, contentType: 'text/x', body: 'a 1\n' }),
    findReadinessProblem: async () => undefined,
    ...options,
  });
  t.teardown(() => {
    listener.close();
  });
  return listener.port;
}

async function get(port: number, path: string, method = 'GET') {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, { method });
  return { status: response.status, body: await response.text(), headers: response.headers };
}

test('metrics, liveness and readiness are served', async (t) => {
  const port = await serve(t);
  t.like(await get(port, '/metrics?x=y'), { status: 200, body: 'a 1\n' });
  t.like(await get(port, '/healthz'), { status: 200, body: 'ok\n' });
  t.like(await get(port, '/readyz'), { status: 200, body: 'ok\n' });
  t.like(await get(port, '/healthz', 'HEAD'), { status: 200, body: '' });
});

test('an unknown path gets 404, and other methods get 405', async (t) => {
  const port = await serve(t);
  for (const path of ['/', '/metricsx', '/../metrics/..', '/healthz/']) {
    t.is((await get(port, path)).status, 404, path);
  }
  t.is((await get(port, '/metrics', 'POST')).status, 405);
});

test('readiness reports the reason, and liveness is independent of it', async (t) => {
  const port = await serve(t, {
    findReadinessProblem: async () => "pool 'a': its disk is not mounted",
  });
  t.like(await get(port, '/readyz'), { status: 503, body: "pool 'a': its disk is not mounted\n" });
  t.is((await get(port, '/healthz')).status, 200);
});

test('a request that hangs gets 503 after the time limit, and one that fails gets 500', async (t) => {
  const port = await serve(t, {
    timeoutMs: 50,
    findReadinessProblem: async () => new Promise(() => undefined),
    metrics: async () => {
      throw new Error('pools could not be measured');
    },
  });
  t.like(await get(port, '/readyz'), { status: 503, body: 'no answer within 50 ms\n' });
  t.like(await get(port, '/metrics'), { status: 500, body: 'pools could not be measured\n' });
  t.is((await get(port, '/healthz')).status, 200);
});

test('headers beyond the limit get 431', async (t) => {
  const port = await serve(t);
  const socket = createConnection(port, '127.0.0.1');
  socket.on('error', () => undefined);
  let answer = '';
  socket.on('data', (chunk) => {
    answer += chunk.toString();
  });
  socket.write(`GET /healthz HTTP/1.1\r\nx: ${'y'.repeat(20_000)}`);
  await once(socket, 'close');
  t.regex(answer, /^HTTP\/1\.1 431 /);
});

test('an address in use fails with EADDRINUSE', async (t) => {
  const port = await serve(t);
  await t.throwsAsync(serve(t, { port }), { code: 'EADDRINUSE' });
});
