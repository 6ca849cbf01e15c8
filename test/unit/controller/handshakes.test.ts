import { once } from 'node:events';
import { type AddressInfo, connect, createServer, Socket } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { type ChannelCredentials, credentials, type experimental } from '@grpc/grpc-js';
import test, { type ExecutionContext } from 'ava';
import { makeHandshakes } from '../../../src/controller/handshakes.ts';

/** A connector whose handshakes end when the test says so. */
function fakeConnector() {
  const begun: { readonly socket: Socket; readonly end: (error?: Error) => void }[] = [];
  const connector: experimental.SecureConnector = {
    connect: (socket) =>
      new Promise((resolve, reject) => {
        const end = (error?: Error): void => {
          if (error === undefined) resolve({ socket, secure: true });
          else reject(error);
        };
        begun.push({ socket, end });
      }),
    waitForReady: async () => undefined,
    getCallCredentials: () => {
      throw new Error('not used');
    },
    destroy: () => undefined,
  };
  return { begun, connector };
}

/** Makes connectors with a common limit, and their handshakes. */
function limited(limits: Parameters<typeof makeHandshakes>[0]) {
  const { begun, connector } = fakeConnector();
  const handshakes = makeHandshakes(limits);
  const made = (): experimental.SecureConnector => {
    const fake: ChannelCredentials = credentials.createInsecure();
    fake._createSecureConnector = () => connector;
    return handshakes.limit(fake)._createSecureConnector({ path: 'a' }, {});
  };
  return { begun, made };
}

test('no more handshakes run than the limit, and the end of one, good or bad, begins the next', async (t) => {
  const { begun, made } = limited({ max: 2, maxSlotMs: 60_000 });
  const attempts = Array.from({ length: 4 }, async () => made().connect(new Socket()));
  const ends = Promise.allSettled(attempts);
  await setImmediate();
  t.is(begun.length, 2);
  begun[0]?.end();
  await setImmediate();
  t.is(begun.length, 3);
  begun[1]?.end(new Error('refused'));
  await setImmediate();
  t.is(begun.length, 4);
  for (const { end } of begun) end();
  t.deepEqual(
    (await ends).map(({ status }) => status),
    ['fulfilled', 'rejected', 'fulfilled', 'fulfilled'],
  );
});

test('handshakes that do not end delay others only for a time', async (t) => {
  const { begun, made } = limited({ max: 1, maxSlotMs: 20 });
  void made().connect(new Socket());
  const second = made().connect(new Socket());
  while (begun.length < 2) await setImmediate();
  begun[1]?.end();
  await t.notThrowsAsync(second);
});

test('a connection that is closed while it waits has no handshake', async (t) => {
  const { begun, made } = limited({ max: 1, maxSlotMs: 60_000 });
  void made().connect(new Socket());
  const waiting = new Socket();
  const second = made().connect(waiting);
  waiting.destroy(new Error('reset'));
  await setImmediate();
  begun[0]?.end();
  await t.throwsAsync(second, { message: /closed the connection/ });
  t.is(begun.length, 1);
});

/** A connection to a server that says nothing. */
async function openSocket(t: ExecutionContext): Promise<Socket> {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
  t.teardown(() => {
    socket.destroy();
    server.close();
  });
  await once(socket, 'connect');
  return socket;
}

test('an attempt that is not needed any more is ended, whether it waits or has begun', async (t) => {
  const { begun, made } = limited({ max: 1, maxSlotMs: 60_000 });
  const [running, waiting] = [made(), made()];
  const [first, second] = [await openSocket(t), await openSocket(t)];
  void running.connect(first).catch(() => undefined);
  const ended = waiting.connect(second);
  await setImmediate();
  waiting.destroy();
  await t.throwsAsync(ended, { message: /not needed/ });
  running.destroy();
  t.true(first.destroyed && second.destroyed);
  t.is(begun.length, 1);
});
