/** Reading the data of a source: what each side does if the other one is slow, hangs, leaves, or sends something else. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import test, { type ExecutionContext } from 'ava';
import { VolumeError } from '../../../../src/errors.ts';
import { type Reading, readPieces } from '../../../../src/rpc/agent/data-client.ts';
import { type DataRequest, encodeRequest } from '../../../../src/rpc/agent/data-request.ts';
import { makeDataServer } from '../../../../src/rpc/agent/data-server.ts';
import {
  aliveFrame,
  dataProtocol,
  encodeFrame,
  encodeHead,
  type Frame,
  FrameDecoder,
} from '../../../../src/rpc/agent/frames.ts';
import { Tickets } from '../../../../src/rpc/agent/tickets.ts';
import { makeHooks } from '../../../../src/rpc/grpc-server.ts';
import { readCredentials } from '../../../../src/tls/credentials.ts';
import type { Volumes } from '../../../../src/volumes/api.ts';
import type { End, Piece, SentCopy } from '../../../../src/volumes/model.ts';
import { digestWith, noPieces } from '../../../../src/volumes/snapshot/pieces.ts';
import {
  makeCertificates,
  temporaryDirectory,
  writeTlsFiles,
} from '../../../helpers/certificates.ts';
import { codeOf, memoryLog } from '../../../helpers/csi-server.ts';
import { fakeVolumes } from '../../../helpers/fake-volumes.ts';
import { until } from '../../../helpers/until.ts';

const copy: SentCopy = { source: { kind: 'snapshot', id: 'snap.0123abcd' }, copyName: 'pvc-1' };
const wanted: DataRequest = { copy, state: 's', from: { offset: 0n, digest: noPieces } };
const MiB = 1024 * 1024;

/** A side is heard often, and taken as lost only long after a test has ended. */
const talkative = { pingMs: 100, timeoutMs: 600_000 };
/** A side that says nothing is lost soon. */
const impatient = { pingMs: 100, timeoutMs: 100 };

async function portOf(t: ExecutionContext, server: Server): Promise<number> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => sockets.add(socket));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return (server.address() as AddressInfo).port;
}

/** A server of data without TLS, which is the listener's, and the codes of the readings that have ended. */
async function dataServer(
  t: ExecutionContext,
  readSource: Volumes['readSource'],
  { keepalive = talkative, requestTimeoutMs = 600_000 } = {},
) {
  const tickets = new Tickets();
  const ended: string[] = [];
  const { log, lines } = memoryLog();
  const server = makeDataServer({
    volumes: fakeVolumes({ readSource }).volumes,
    tickets,
    hooks: makeHooks({ log, callEnded: ({ code }) => ended.push(code), fieldsOf: () => ({}) }),
    ...{ keepalive, requestTimeoutMs },
  });
  const listener = createServer((socket) => {
    socket.on('error', () => undefined);
    server.serve(socket);
  });
  const port = await portOf(t, listener);
  const ticket = tickets.issue(copy, ['127.0.0.1']);
  return { server, port, ended, lines, ticket };
}

/** A reader that says nothing of its own accord, and the frames that it has received. */
async function reader(t: ExecutionContext, port: number) {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => undefined);
  t.teardown(() => {
    socket.destroy();
  });
  const decoder = new FrameDecoder({ maxBodyBytes: MiB });
  const frames: Frame[] = [];
  socket.on('data', (bytes: Buffer) => frames.push(...decoder.decode(bytes)));
  await once(socket, 'connect');
  return { socket, frames };
}

function requestFrame(ticket: string): Buffer {
  return encodeFrame({ kind: 'request', body: encodeRequest(wanted, ticket) });
}

/** Yields nothing until its caller leaves. */
const waiting: Volumes['readSource'] = async function* ({ signal }) {
  await new Promise((resolve) => signal.addEventListener('abort', resolve));
  yield* [];
  throw new VolumeError('cancelled', 'the caller has disconnected');
};

test('while there is nothing to send, the sender says that it is there', async (t) => {
  const { port, ticket, ended } = await dataServer(t, waiting);
  const { socket, frames } = await reader(t, port);
  socket.write(requestFrame(ticket));
  await until('it was said three times', () => frames.length >= 3);
  t.true(frames.every(({ kind }) => kind === 'alive'));
  t.deepEqual(ended, []);
  socket.destroy();
  await until('the reading has ended', () => ended.length === 1);
  t.deepEqual(ended, ['CANCELLED']);
});

test('a reader that says nothing is disconnected, and its reading ends', async (t) => {
  const { port, ticket, ended } = await dataServer(t, waiting, { keepalive: impatient });
  const { socket } = await reader(t, port);
  socket.write(requestFrame(ticket));
  await until('the reading has ended', () => ended.length === 1);
  t.deepEqual(ended, ['CANCELLED']);
  await until('it is disconnected', () => socket.closed);
});

test('a connection without a request ends, also if its bytes come one by one', async (t) => {
  const { port, ended } = await dataServer(t, waiting, { requestTimeoutMs: 300 });
  const { socket } = await reader(t, port);
  const slowly = setInterval(() => socket.write(Buffer.alloc(1)), 50);
  t.teardown(() => {
    clearInterval(slowly);
  });
  await until('it is disconnected', () => socket.closed);
  t.deepEqual(ended, []);
});

test('a reader that stays after the last frame is disconnected', async (t) => {
  const { port, ended } = await dataServer(t, waiting, { requestTimeoutMs: 300 });
  const { socket, frames } = await reader(t, port);
  const alive = setInterval(() => socket.write(aliveFrame), 50);
  t.teardown(() => {
    clearInterval(alive);
  });
  socket.write(requestFrame('none'));
  await until('it is refused', () => frames.some(({ kind }) => kind === 'failure'));
  await until('it is disconnected', () => socket.closed);
  t.deepEqual(ended, ['UNAUTHENTICATED']);
});

const unexpected: Readonly<Record<string, (ticket: string) => Buffer>> = {
  'no frame': () => Buffer.from('GET / HTTP/1.1\r\nhost: localhost\r\n\r\n'.padEnd(200)),
  'a frame of a sender': () => encodeHead({ kind: 'end' }),
  'a request that is too long': () => encodeHead({ kind: 'request', body: Buffer.alloc(20_000) }),
  'two requests': (ticket) => Buffer.concat([requestFrame(ticket), requestFrame(ticket)]),
};
for (const [what, bytesWith] of Object.entries(unexpected)) {
  test(`a reader is disconnected that sends ${what}`, async (t) => {
    const { port, ticket, lines } = await dataServer(t, waiting);
    const { socket } = await reader(t, port);
    socket.write(bytesWith(ticket));
    await until('it is disconnected', () => socket.closed);
    t.true(lines.some((line) => line.includes('reader was disconnected')));
  });
}

test('a failure is the last frame, and no ticket is logged', async (t) => {
  const failing: Volumes['readSource'] = async function* () {
    yield { offset: 0n, data: Buffer.from('x'), digest: noPieces };
    throw new VolumeError('wrong-state', 'it has changed');
  };
  const { port, ticket, ended, lines } = await dataServer(t, failing);
  const { socket, frames } = await reader(t, port);
  socket.write(requestFrame(ticket));
  await until('it has failed', () => frames.some(({ kind }) => kind === 'failure'));
  const [data, failure] = frames.filter(({ kind }) => kind !== 'alive');
  t.is(data?.body.toString(), 'x');
  t.deepEqual([failure?.value, failure?.body.toString()], [9n, 'it has changed']);
  t.deepEqual(ended, ['FAILED_PRECONDITION']);
  t.true(lines.some((line) => line.includes('snap.0123abcd')));
  t.false(lines.join().includes(ticket));
});

test('the end of the server ends its readings', async (t) => {
  const { server, port, ticket, ended } = await dataServer(t, waiting);
  const { socket, frames } = await reader(t, port);
  socket.write(requestFrame(ticket));
  await until('the reading has begun', () => frames.length > 0);
  server.close();
  await until('the reading has ended', () => ended.length === 1);
  t.deepEqual(ended, ['CANCELLED']);
  await until('it is disconnected', () => socket.closed);
});

/** Pieces that differ, and how many of them have been asked for. */
function manyPieces(count: number) {
  const asked = { count: 0 };
  const readSource: Volumes['readSource'] = async function* () {
    let digest: Buffer = noPieces;
    const data = Buffer.alloc(MiB);
    for (let index = 0; index < count; index += 1) {
      asked.count += 1;
      data.fill(index + 1);
      const offset = BigInt(index * MiB);
      digest = digestWith(digest, { offset, data });
      yield { offset, data, digest };
    }
    yield { sizeBytes: BigInt(count * MiB), digest };
  };
  return { asked, readSource };
}

/** Waits until the number has been the same for a while. */
async function untilSettled(asked: { readonly count: number }): Promise<void> {
  let [before, times] = [0, 0];
  await until('the sender waits', () => {
    times = asked.count === before ? times + 1 : 0;
    before = asked.count;
    return before > 0 && times > 20;
  });
}

test('the source is read only as fast as the reader reads', async (t) => {
  const { asked, readSource } = manyPieces(100);
  const { port, ticket } = await dataServer(t, readSource);
  const { socket } = await reader(t, port);
  socket.pause();
  socket.write(requestFrame(ticket));
  await untilSettled(asked);
  // What the kernel buffers is less.
  t.true(asked.count < 50, `${asked.count} MiB`);
});

/** A reading from a TLS server that does with each connection what it is given. */
async function readingFrom(
  t: ExecutionContext,
  serve: (socket: Socket) => void,
  options: Partial<Reading> = {},
): Promise<AsyncGenerator<Piece | End>> {
  const { authority, agent } = await makeCertificates();
  const directory = await temporaryDirectory(t);
  await writeTlsFiles(directory, agent, authority.certificate);
  const tls = { cert: agent.certificate, key: agent.key, ca: authority.certificate };
  const server = createTlsServer({ ...tls, requestCert: true, ALPNProtocols: [dataProtocol] });
  server.on('secureConnection', (socket) => {
    socket.on('error', () => undefined);
    serve(socket);
  });
  const port = await portOf(t, server);
  const steps = readPieces({
    address: `127.0.0.1:${port}`,
    credentials: await readCredentials({ directory, driverName: 'loopcsi.io', role: 'agent' }),
    driverName: 'loopcsi.io',
    ticket: 'x',
    wanted,
    keepalive: talkative,
    signal: new AbortController().signal,
    ...options,
  });
  t.teardown(async () => {
    await steps.return(undefined);
  });
  return steps;
}

test('while there is nothing to receive, the reader says that it is there', async (t) => {
  const decoder = new FrameDecoder({ maxBodyBytes: MiB });
  const frames: Frame[] = [];
  const steps = await readingFrom(t, (socket) => {
    socket.on('data', (bytes: Buffer) => {
      frames.push(...decoder.decode(bytes));
      if (frames.length >= 4) socket.write(encodeHead({ kind: 'end', value: 7n }));
    });
  });
  const end = { sizeBytes: 7n, digest: Buffer.alloc(32) };
  t.deepEqual(await steps.next(), { done: false, value: end });
  t.deepEqual(
    frames.slice(0, 4).map(({ kind }) => kind),
    ['request', 'alive', 'alive', 'alive'],
  );
});

test('a sender that says nothing is lost', async (t) => {
  const steps = await readingFrom(t, (socket) => socket.resume(), { keepalive: impatient });
  const error = await t.throwsAsync(steps.next());
  t.is(error?.message, 'it sent nothing for 200 ms');
  t.is(await codeOf(Promise.reject(error)), 'UNAVAILABLE');
});

test('a sender that breaks off, sends something else, or cannot be reached', async (t) => {
  const broken = await readingFrom(t, (socket) => {
    socket.end(encodeHead({ kind: 'data', body: Buffer.from('only the head follows') }));
  });
  t.deepEqual(await broken.next(), { done: true, value: undefined });
  const other = await readingFrom(t, (socket) => socket.write('HTTP/1.1 200 OK\r\n'.padEnd(100)));
  t.is(await codeOf(other.next()), 'INTERNAL');
  const asking = await readingFrom(t, (socket) => socket.write(requestFrame('x')));
  t.is(await codeOf(asking.next()), 'INTERNAL');
  const nowhere = await readingFrom(t, () => undefined, { address: '127.0.0.1:1' });
  t.is(await codeOf(nowhere.next()), 'UNAVAILABLE');
});

test('who cancels a reading does not wait for the sender', async (t) => {
  const cancelled = new AbortController();
  const closed: boolean[] = [];
  const steps = await readingFrom(
    t,
    (socket) => {
      socket.on('close', () => closed.push(true)).resume();
      cancelled.abort();
    },
    { signal: cancelled.signal },
  );
  t.is(await codeOf(steps.next()), 'UNAVAILABLE');
  await until('the sender sees it', () => closed.length === 1);
});

test('the reader pauses the sender, and keeps a piece until the second one after it is asked for', async (t) => {
  const { asked, readSource } = manyPieces(100);
  const { server, ticket } = await dataServer(t, readSource);
  const steps = await readingFrom(t, (socket) => server.serve(socket), { ticket });
  const pieces: Piece[] = [];
  let end: End | undefined;
  for await (const step of steps) {
    if (!('data' in step)) {
      end = step;
      continue;
    }
    pieces.push(step);
    const index = pieces.length;
    t.true(step.data.equals(Buffer.alloc(MiB, index)));
    const previous = pieces.at(-2);
    if (previous !== undefined) t.true(previous.data.equals(Buffer.alloc(MiB, index - 1)));
    if (index !== 3) continue;
    await untilSettled(asked);
    t.true(asked.count < 50, `${asked.count} MiB`);
  }
  t.is(pieces.length, 100);
  t.true(new Set(pieces.map(({ data }) => data.buffer)).size <= 6, 'their memory is used again');
  t.true(end?.digest.equals(pieces.at(-1)?.digest ?? noPieces));
});
