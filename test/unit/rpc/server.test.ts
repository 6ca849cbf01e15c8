import { once } from 'node:events';
import { lstat, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { createConnection, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Client as Channel, credentials } from '@grpc/grpc-js';
import test from 'ava';
import { makeClient } from '../../../src/csi/client.ts';
import { VolumeError } from '../../../src/errors.ts';
import { serveCsi } from '../../../src/rpc/server.ts';
import { codeOf, csiContext, memoryLog, serveFake } from '../../helpers/csi-server.ts';
import { fakeVolumes } from '../../helpers/fake-volumes.ts';
import { until } from '../../helpers/until.ts';

test('the identity service answers', async (t) => {
  const { identity } = await serveFake(t);
  const info = await identity.GetPluginInfo({});
  t.like(info, { name: 'loopcsi.io', vendor_version: '1.2.3' });
  t.deepEqual((await identity.Probe({})).ready, { value: true });
  const { capabilities } = await identity.GetPluginCapabilities({});
  t.deepEqual(
    capabilities.map((one) => one.service?.type ?? one.volume_expansion?.type),
    [
      'CONTROLLER_SERVICE',
      'VOLUME_ACCESSIBILITY_CONSTRAINTS',
      'GROUP_CONTROLLER_SERVICE',
      'SNAPSHOT_METADATA_SERVICE',
      'SNAPSHOT_ACCESSIBILITY_CONSTRAINTS',
      'ONLINE',
    ],
  );
});

test('Probe fails with the reason from the domain', async (t) => {
  const { identity } = await serveFake(t, {
    volumes: {
      findReadinessProblem: async () => 'programs are missing: mkfs.ext4; install e2fsprogs',
    },
  });
  const error = await t.throwsAsync(identity.Probe({}));
  t.regex(error?.message ?? '', /FAILED_PRECONDITION.*mkfs\.ext4/);
});

test('the socket has mode 0600', async (t) => {
  const { endpoint } = await serveFake(t);
  t.is((await lstat(endpoint)).mode & 0o777, 0o600);
});

test('garbage, silence and half a preface close only their own connection', async (t) => {
  const { endpoint, identity } = await serveFake(t, { prefaceTimeoutMs: 1_000 });
  await identity.Probe({});
  for (const bytes of ['', 'GET / HTTP/1.1\r\n\r\n', 'PRI * HTTP/2', '\0\xff'.repeat(5000)]) {
    const socket = createConnection(endpoint);
    socket.on('error', () => undefined);
    socket.resume();
    socket.write(bytes, 'latin1');
    await once(socket, 'close', { signal: AbortSignal.timeout(20_000) });
    t.is(await codeOf(identity.Probe({})), 'OK');
  }
});

test('an HTTP/2 connection stays open, also when idle', async (t) => {
  const { endpoint, identity } = await serveFake(t, { prefaceTimeoutMs: 1_000 });
  const address = `unix://${endpoint}`;
  const client = makeClient('csi.v1.Identity', address);
  t.teardown(() => {
    client.close();
  });
  const socket = createConnection(endpoint);
  socket.resume();
  let isClosed = false;
  socket.once('close', () => {
    isClosed = true;
  });
  // Preface and an empty SETTINGS frame.
  socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0', 'latin1');
  await delay(1_500);
  t.false(isClosed);
  t.is(await codeOf(identity.Probe({})), 'OK');
  socket.destroy();
});

test('connections beyond the limit are refused, earlier ones keep working', async (t) => {
  const { endpoint, identity } = await serveFake(t);
  await identity.Probe({});
  const sockets = Array.from({ length: 300 }, () => createConnection(endpoint));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
  });
  let closed = 0;
  for (const socket of sockets) {
    socket.on('error', () => undefined);
    socket.resume();
    socket.once('close', () => {
      closed += 1;
    });
  }
  // The limit is 128, including the client's connection.
  await until('the others are closed', () => closed >= 300 - 127, 10_000);
  t.is(await codeOf(identity.Probe({})), 'OK');
});

test('a message that is too large is refused', async (t) => {
  const { controller, calls } = await serveFake(t);
  const name = 'x'.repeat(2 * 1024 * 1024);
  t.is(await codeOf(controller.CreateVolume({ name })), 'RESOURCE_EXHAUSTED');
  t.is(calls.length, 0);
});

test('a stale socket is replaced, but not a socket in use or a file', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-socket-'));
  t.teardown(async () => rm(directory, { recursive: true, force: true }));
  const { volumes } = fakeVolumes();
  const { log } = memoryLog();
  const serve = async (endpoint: string) =>
    serveCsi({
      endpoint,
      context: csiContext(volumes),
      log,
      callEnded: () => undefined,
    });
  const path = join(directory, 'made', 'csi.sock');
  const first = await serve(path);
  t.is((await lstat(join(directory, 'made'))).mode & 0o777, 0o700);
  await t.throwsAsync(serve(path), { instanceOf: VolumeError, message: /another process answers/ });
  await first.close();
  await t.throwsAsync(lstat(path), { code: 'ENOENT' });

  // A killed process leaves a socket file without a listener. It is renamed, so that close() does not unlink it.
  const stale = join(directory, 'stale.sock');
  const leftover = createServer().listen(join(directory, 'other.sock'));
  await once(leftover, 'listening');
  await rename(join(directory, 'other.sock'), stale);
  leftover.close();
  const second = await serve(stale);
  await second.close();

  const file = join(directory, 'file');
  await writeFile(file, 'precious');
  await t.throwsAsync(serve(file), { instanceOf: VolumeError, message: /not a socket/ });
});

test('draining lets running calls end and accepts no new connection', async (t) => {
  let finish = (): void => undefined;
  const { server, controller, endpoint } = await serveFake(t, {
    volumes: {
      deleteVolume: async () =>
        new Promise<void>((resolve) => {
          finish = resolve;
        }),
    },
  });
  const running = codeOf(controller.DeleteVolume({ volume_id: 'v.0123abcd' }));
  const before = finish;
  await until('the call has arrived', () => finish !== before, 10_000);
  const drained = server.drain();
  const socket = createConnection(endpoint);
  await t.throwsAsync(once(socket, 'connect'));
  finish();
  t.is(await running, 'OK');
  await drained;
});

test('an unknown method is UNIMPLEMENTED', async (t) => {
  const { endpoint } = await serveFake(t);
  const registration = makeClient('pluginregistration.Registration', `unix://${endpoint}`);
  t.teardown(() => {
    registration.close();
  });
  t.is(await codeOf(registration.GetInfo({})), 'UNIMPLEMENTED');
});

test('malformed messages are INTERNAL, and the connection stays open', async (t) => {
  const { endpoint, identity, calls } = await serveFake(t);
  const channel = new Channel(`unix://${endpoint}`, credentials.createInsecure());
  t.teardown(() => {
    channel.close();
  });
  for (const bytes of [
    Buffer.from('\xff\xff\xff\xff', 'latin1'),
    Buffer.from([0x0a, 0x7f, 0x41]),
  ]) {
    const call = new Promise((resolve, reject) => {
      channel.makeUnaryRequest(
        '/csi.v1.Controller/CreateVolume',
        () => bytes,
        (answer) => answer,
        {},
        (error, answer) => {
          if (error === null) resolve(answer);
          else reject(error);
        },
      );
    });
    t.is(await codeOf(call), 'INTERNAL');
  }
  t.is(calls.length, 0);
  t.is(await codeOf(identity.Probe({})), 'OK');
});
