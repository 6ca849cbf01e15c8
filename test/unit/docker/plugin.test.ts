import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { serveDocker } from '../../../src/docker/server.ts';
import { VolumeError } from '../../../src/errors.ts';
import { createLog } from '../../../src/observe/log.ts';
import type { CallMeasurement } from '../../../src/observe/metrics.ts';
import type { DockerVolumes } from '../../../src/volumes/docker/volumes.ts';
import { fakeDocker } from '../../helpers/fake-docker-volumes.ts';
import { aVolume } from '../../helpers/fake-volumes.ts';

interface Answer {
  readonly status: number;
  readonly type: string;
  readonly body: unknown;
}

async function startPlugin(t: ExecutionContext, overrides: Partial<DockerVolumes> = {}) {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-docker-'));
  const socket = join(directory, 'plugins', 'd.sock');
  const docker = fakeDocker(overrides);
  const ended: CallMeasurement[] = [];
  const log = createLog({ level: 'silent' });
  const callEnded = (call: CallMeasurement): void => {
    ended.push(call);
  };
  const serving = { socket, front: docker.front, log, callEnded, requestTimeoutMs: 500 };
  const plugin = await serveDocker(serving);
  t.teardown(async () => {
    await plugin.close();
    await rm(directory, { recursive: true });
  });
  const send = async (path: string, body: string, method = 'POST'): Promise<Answer> => {
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const headers = { host: '', 'content-length': Buffer.byteLength(body) };
      const request = httpRequest({ socketPath: socket, path, method, headers }, resolve);
      request.once('error', reject);
      request.end(body);
    });
    const content = await text(response);
    return {
      status: response.statusCode ?? 0,
      type: response.headers['content-type'] ?? '',
      body: content === '' ? undefined : JSON.parse(content),
    };
  };
  const call = async (name: string, body?: unknown): Promise<unknown> =>
    (await send(`/VolumeDriver.${name}`, body === undefined ? '' : JSON.stringify(body))).body;
  return { ...docker, socket, send, call, ended, serving, plugin };
}

test('a volume lives from Create to Remove with the calls that Docker makes', async (t) => {
  const { call, send, ended } = await startPlugin(t);
  const activated = await send('/Plugin.Activate', '');
  t.deepEqual(activated.body, { Implements: ['VolumeDriver'] });
  t.is(activated.type, 'application/vnd.docker.plugins.v1.2+json');
  t.deepEqual(await call('Capabilities', {}), { Capabilities: { Scope: 'local' } });
  t.deepEqual(await call('Create', { Name: 'v1', Opts: { size: '64Mi' } }), {});
  t.deepEqual(await call('Path', { Name: 'v1' }), { Mountpoint: '' });
  const Mountpoint = '/mnt/v1.0123abcd';
  t.deepEqual(await call('Mount', { Name: 'v1', ID: 'copy-up' }), { Mountpoint });
  t.deepEqual(await call('Mount', { Name: 'v1', ID: 'run' }), { Mountpoint });
  t.deepEqual(await call('Unmount', { Name: 'v1', ID: 'copy-up' }), {});
  t.deepEqual(await call('Path', { Name: 'v1' }), { Mountpoint });
  const CreatedAt = '1970-01-01T00:00:00.000Z';
  t.deepEqual(await call('List'), { Volumes: [{ Name: 'v1', Mountpoint, CreatedAt }] });
  t.deepEqual(await call('Get', { Name: 'v1' }), {
    Volume: {
      Name: 'v1',
      Mountpoint,
      CreatedAt,
      Status: {
        id: 'v1.0123abcd',
        size: '64 MiB',
        used: '5 MiB',
        allocated: '6 MiB',
        sizeBytes: String(64 << 20),
        usedBytes: String(5 << 20),
        allocatedBytes: String(6 << 20),
        filesystem: 'ext4',
        provisioning: 'thin',
        pool: 'default',
        node: 'node-1',
        snapshots: ['s1'],
      },
    },
  });
  t.deepEqual(await call('Unmount', { Name: 'v1', ID: 'run' }), {});
  t.deepEqual(await call('Remove', { Name: 'v1' }), {});
  t.deepEqual(await call('List'), { Volumes: [] });
  t.is(ended.length, 13);
  t.true(ended.every(({ code }) => code === 'OK'));
});

test('Unmount and Remove of a missing volume succeed, other calls fail', async (t) => {
  const { call } = await startPlugin(t);
  const Err = "volume 'none' does not exist";
  t.deepEqual(await call('Get', { Name: 'none' }), { Err });
  t.deepEqual(await call('Path', { Name: 'none' }), { Err });
  t.deepEqual(await call('Mount', { Name: 'none', ID: 'a' }), { Err });
  t.deepEqual(await call('Unmount', { Name: 'none', ID: 'a' }), {});
  t.deepEqual(await call('Remove', { Name: 'none' }), {});
});

test('a volume is also found by its id, and is returned under the requested name', async (t) => {
  const { call, addVolume } = await startPlugin(t);
  addVolume(aVolume);
  t.like(await call('Get', { Name: 'pvc-1.0123abcd' }), { Volume: { Name: 'pvc-1.0123abcd' } });
});

test('raw block volumes are not listed, and calls explain why they cannot be used', async (t) => {
  const { call, addVolume } = await startPlugin(t, { isKnown: async () => true });
  addVolume({ ...aVolume, record: { ...aVolume.record, kind: 'block', fsType: null } });
  t.deepEqual(await call('List'), { Volumes: [] });
  const Name = 'pvc-1.0123abcd';
  const problem = `volume '${Name}' is a raw block volume, which Docker cannot use; use it with 'loopcsi volume mount'`;
  t.deepEqual(await call('Get', { Name }), {
    Volume: { Name, Mountpoint: '', Status: { problem } },
  });
  t.deepEqual(await call('Mount', { Name, ID: 'a' }), { Err: problem });
  t.deepEqual(await call('Remove', { Name }), { Err: problem });
});

test('options may be null, absent or empty', async (t) => {
  const { call } = await startPlugin(t);
  for (const [i, Opts] of [null, undefined, {}].entries()) {
    t.deepEqual(await call('Create', { Name: `v${i}`, Opts }), {});
  }
});

test('a call on a busy volume is retried, because Docker does not retry', async (t) => {
  let refusals = 3;
  const { call } = await startPlugin(t, {
    mount: async () => {
      refusals -= 1;
      if (refusals > 0) throw new VolumeError('busy', 'Mount is in progress');
      return '/mnt/x';
    },
  });
  await call('Create', { Name: 'v1' });
  t.deepEqual(await call('Mount', { Name: 'v1', ID: 'a' }), { Mountpoint: '/mnt/x' });
  t.is(refusals, 0);
});

/** Serial, because it changes the clock of the whole process. */
test.serial('a call on a busy volume is retried although the system time jumps', async (t) => {
  const { now } = Date;
  t.teardown(() => {
    Date.now = now;
  });
  let refusals = 3;
  const { call } = await startPlugin(t, {
    mount: async () => {
      Date.now = () => now() + 3_600_000;
      refusals -= 1;
      if (refusals > 0) throw new VolumeError('busy', 'Mount is in progress');
      return '/mnt/x';
    },
  });
  await call('Create', { Name: 'v1' });
  t.deepEqual(await call('Mount', { Name: 'v1', ID: 'a' }), { Mountpoint: '/mnt/x' });
});

test('a call on a busy volume is not retried after its caller has disconnected', async (t) => {
  let tries = 0;
  let onAbort: () => void = () => undefined;
  const aborted = new Promise<void>((resolve) => {
    onAbort = resolve;
  });
  const { call, socket, ended } = await startPlugin(t, {
    mount: async (holding) => {
      tries += 1;
      holding.signal.addEventListener('abort', onAbort);
      throw new VolumeError('busy', 'Mount is in progress');
    },
  });
  await call('Create', { Name: 'v1' });
  const request = httpRequest({ socketPath: socket, path: '/VolumeDriver.Mount', method: 'POST' });
  request.on('error', () => undefined);
  request.end(JSON.stringify({ Name: 'v1', ID: 'a' }));
  while (tries < 2) await new Promise((resolve) => setImmediate(resolve));
  request.destroy();
  await aborted;
  while (ended.length < 2) await new Promise((resolve) => setImmediate(resolve));
  t.is(ended[1]?.code, 'ABORTED');
});

test('internal errors stay in the log', async (t) => {
  const { call, ended } = await startPlugin(t, {
    remove: async () => {
      throw new Error('an internal detail');
    },
  });
  await call('Create', { Name: 'v1' });
  const answer = await call('Remove', { Name: 'v1' });
  t.deepEqual(answer, { Err: 'internal error, see the log of the driver' });
  t.is(ended.at(-1)?.code, 'INTERNAL');
});

const badBodies = [
  { body: '{', message: 'the body is not JSON' },
  { body: '[]', message: 'Name is missing' },
  { body: '""', message: /Object/ },
  { body: 'null', message: /Object/ },
  { body: '{}', message: 'Name is missing' },
  { body: '{"Name":7}', message: 'Name must be a string' },
  { body: '{"Name":""}', message: 'Name must not be empty' },
  {
    body: JSON.stringify({ Name: 'a'.repeat(256) }),
    message: 'Name is longer than 255 characters',
  },
  { body: '{"Name":"a\\u0000b"}', message: 'Name contains control characters' },
  { body: '{"Name":"a\\u001b[2J"}', message: 'Name contains control characters' },
  { body: '{"Name":"vol","Opts":["size"]}', message: /^option '0' is not known/ },
  { body: '{"Name":"vol","Opts":"size"}', message: 'Opts must be an object' },
  { body: '{"Name":"vol","Opts":{"size":5}}', message: 'the value of an option must be a string' },
  { body: '{"Name":"vol","Opts":{"":"5"}}', message: 'the name of an option must not be empty' },
  {
    body: JSON.stringify({ Name: 'vol', Opts: { size: '5'.repeat(5000) } }),
    message: 'an option is longer than 4096 characters',
  },
] as const;
for (const { body, message } of badBodies) {
  test(`a body is refused: ${body.slice(0, 40)}`, async (t) => {
    const { send, created } = await startPlugin(t);
    const answer = await send('/VolumeDriver.Create', body);
    t.is(answer.status, 200);
    const { Err } = answer.body as { Err: string };
    if (typeof message === 'string') t.is(Err, message);
    else t.regex(Err, message);
    t.deepEqual(created, []);
  });
}

const badNames = [
  { name: 'a', message: /two characters/ },
  { name: '.dot', message: /begins like a path/ },
  { name: '../x', message: /begins like a path/ },
  { name: '/x', message: /begins like a path/ },
  { name: '~x', message: /begins like a path/ },
  { name: 'a:b', message: /contains a colon/ },
  { name: 'a//b', message: /slash/ },
  { name: 'a/../b', message: /slash/ },
  { name: 'a/', message: /slash/ },
] as const;
for (const { name, message } of badNames) {
  test(`a volume name that Docker would interpret differently is refused: ${name}`, async (t) => {
    const { call, created } = await startPlugin(t);
    const { Err } = (await call('Create', { Name: name })) as { Err: string };
    t.regex(Err, message);
    t.deepEqual(created, []);
  });
}

for (const name of ['ab', 'größe', '-lead', 'a/b', 'a b', 'A.b_c-1', 'x'.repeat(200)]) {
  test(`a name that Docker can use is accepted: ${name.slice(0, 20)}`, async (t) => {
    const { call } = await startPlugin(t);
    t.deepEqual(await call('Create', { Name: name }), {});
    t.like(await call('Get', { Name: name }), { Volume: { Name: name } });
  });
}

// Docker interprets an error of Get as a missing volume, and creates a local volume of that name.
test('Get of a volume in an unavailable pool returns the reason instead of an error', async (t) => {
  const unavailable = (): never => {
    throw new VolumeError('unavailable', "pool 'p' is unavailable: mount its disk");
  };
  const { call } = await startPlugin(t, {
    findVolume: unavailable,
    isKnown: async (name) => name === 'v1',
  });
  const Err = "pool 'p' is unavailable: mount its disk";
  t.deepEqual(await call('Get', { Name: 'v1' }), {
    Volume: { Name: 'v1', Mountpoint: '', Status: { problem: Err } },
  });
  t.deepEqual(await call('Mount', { Name: 'v1', ID: 'a' }), { Err });
  t.deepEqual(await call('Remove', { Name: 'v1' }), { Err });
  t.deepEqual(await call('Get', { Name: 'unknown' }), { Err });
});

test('Get of a volume whose usage cannot be read returns the reason', async (t) => {
  const { call } = await startPlugin(t, {
    usage: async () => {
      throw new VolumeError('internal', 'its image is missing');
    },
  });
  await call('Create', { Name: 'v1' });
  t.like(await call('Get', { Name: 'v1' }), {
    Volume: { Name: 'v1', Status: { problem: 'its image is missing' } },
  });
});

// After a broken connection Docker repeats the call without its body.
test('without a body Get fails, and the errors of other calls name the remedy', async (t) => {
  const { call, send } = await startPlugin(t);
  const Err = 'the driver was restarted during this call; run the command again';
  for (const name of ['Create', 'Mount', 'Unmount', 'Remove', 'Path']) {
    t.deepEqual(await call(name), { Err }, name);
  }
  await t.throwsAsync(send('/VolumeDriver.Get', ''), { code: 'ECONNRESET' });
  t.deepEqual(await call('List'), { Volumes: [] });
});

test('Mount and Unmount require an ID', async (t) => {
  const { call } = await startPlugin(t);
  t.deepEqual(await call('Mount', { Name: 'v1' }), { Err: 'ID is missing' });
  t.deepEqual(await call('Unmount', { Name: 'v1', ID: '' }), { Err: 'ID must not be empty' });
});

test('a body that is too long is refused', async (t) => {
  const { send } = await startPlugin(t);
  const answer = await send('/VolumeDriver.Create', `{"Name":"${'a'.repeat(70_000)}"}`);
  t.deepEqual([answer.status, answer.body], [413, { Err: 'the body is longer than 65536 bytes' }]);
});

test('other paths and methods are refused', async (t) => {
  const { send } = await startPlugin(t);
  t.is((await send('/VolumeDriver.Format', '{}')).status, 404);
  t.is((await send('/constructor', '{}')).status, 404);
  t.is((await send('/', '{}')).status, 404);
  t.is((await send('/VolumeDriver.List', '', 'GET')).status, 405);
});

test('every body gets an answer, and the next call is served', async (t) => {
  const { send, call } = await startPlugin(t);
  const path = fc.constantFrom('Create', 'Get', 'Mount', 'Unmount', 'Remove', 'Path', 'List');
  const body = fc.oneof(fc.json(), fc.string({ unit: 'binary' }));
  await fc.assert(
    fc.asyncProperty(path, body, async (name, content) => {
      // Get without a body is not answered.
      fc.pre(name !== 'Get' || content.trim() !== '');
      const answer = await send(`/VolumeDriver.${name}`, content);
      return answer.status === 200 && typeof answer.body === 'object';
    }),
    { numRuns: 150 },
  );
  t.like(await call('Capabilities', {}), { Capabilities: { Scope: 'local' } });
});

test('a request that never ends is closed after the time limit', async (t) => {
  const { socket } = await startPlugin(t);
  const connection = createConnection(socket);
  connection.write('POST /VolumeDriver.Get HTTP/1.1\r\nHost:\r\nContent-Length: 100\r\n\r\n{');
  const answer = await text(connection);
  t.regex(answer, /^HTTP\/1\.1 408 /);
});

test('only root may open the socket; a stale socket is replaced, but not a socket in use or a file', async (t) => {
  const { socket, serving, plugin } = await startPlugin(t);
  t.is((await stat(socket)).mode & 0o777, 0o600);
  await t.throwsAsync(serveDocker(serving), { message: /another process answers/ });
  await plugin.close();
  await writeFile(socket, '');
  await t.throwsAsync(serveDocker(serving), { message: /^--docker-socket: .* is not a socket/ });
});
