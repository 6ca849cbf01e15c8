import { access, readFile } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import fc from 'fast-check';
import { makeClient } from '../../../src/csi/client.ts';
import { serviceType } from '../../../src/csi/codec.ts';
import type { ServiceName } from '../../../src/csi/rpc-types.ts';
import { onNode } from '../../helpers/on-node.ts';
import { type Fixture, makeFixture } from './fixture.ts';
import { hostile, hostileTexts } from './messages.ts';

const runs = Number(process.env['LOOPCSI_FUZZ_RUNS'] ?? 25);
const seed = Number(process.env['LOOPCSI_FUZZ_SEED'] ?? Math.floor(Date.now() / 86_400_000));
const secret = 'S3CR3T-that-nobody-may-see';

/** Fields that only operators set: the directory that becomes a pool. */
const excluded: ReadonlySet<string> = new Set(['InitPool']);
const services = [
  'csi.v1.Identity',
  'csi.v1.Controller',
  'csi.v1.GroupController',
  'csi.v1.SnapshotMetadata',
  'csi.v1.Node',
  'loopcsi.v1.Admin',
] as const satisfies readonly ServiceName[];

/** Codes of errors that the driver did not expect. */
const wrongCodes: ReadonlySet<number> = new Set([
  status.UNKNOWN,
  status.INTERNAL,
  status.DATA_LOSS,
]);

type AnyCall = (request: object, options: { timeoutMs: number }) => unknown;

async function outcomeOf(
  call: AnyCall,
  message: object,
): Promise<{ code: number; details: string }> {
  try {
    const answer = call(message, { timeoutMs: 60_000 });
    if (typeof answer === 'object' && answer !== null && Symbol.asyncIterator in answer) {
      for await (const _one of answer as AsyncIterable<unknown>) break;
    } else {
      await answer;
    }
    return { code: status.OK, details: '' };
  } catch (error) {
    const { code, details } = error as { code?: unknown; details?: unknown };
    return { code: typeof code === 'number' ? code : -1, details: String(details ?? error) };
  }
}

async function* streamOf(message: object): AsyncGenerator<object> {
  yield message;
}

async function attack(
  fixture: Fixture,
  name: (typeof services)[number],
): Promise<readonly string[]> {
  const wrong: string[] = [];
  const texts = fc.constantFrom(...hostileTexts(fixture), secret);
  const client = makeClient(name, `unix://${fixture.driver.endpoint}`);
  const calls = client as unknown as Readonly<Record<string, AnyCall>>;
  try {
    for (const method of serviceType(name).methodsArray) {
      const call = calls[method.name];
      method.resolve();
      const type = method.resolvedRequestType;
      if (call === undefined || type === null || excluded.has(method.name)) continue;
      for (const message of fc.sample(hostile(type, texts), { numRuns: runs, seed })) {
        const request = method.requestStream === true ? streamOf(message) : message;
        const { code, details } = await outcomeOf(call, request);
        if (!wrongCodes.has(code) && code >= 0) continue;
        const shown = JSON.stringify(message, (_key, one: unknown) =>
          typeof one === 'bigint' ? `${one}n` : one,
        );
        wrong.push(`${method.name} ${shown.slice(0, 600)}: ${status[code] ?? code} ${details}`);
      }
    }
  } finally {
    client.close();
  }
  return wrong;
}

async function makeTarget(fixture: Fixture): Promise<void> {
  const client = makeClient('csi.v1.Controller', `unix://${fixture.driver.endpoint}`);
  await client.CreateVolume({
    name: 'victim',
    capacity_range: { required_bytes: 2n ** 25n },
    volume_capabilities: [
      { access_mode: { mode: 'SINGLE_NODE_WRITER' }, access_type: 'mount', mount: {} },
    ],
    secrets: { key: secret },
  });
  client.close();
}

onNode(
  'hostile fields of every call get exact codes, touch no file outside the pool, and do not stop the driver',
  async (t) => {
    t.timeout(10 * 60_000);
    t.log(`seed ${seed}`);
    const fixture = await makeFixture();
    try {
      await makeTarget(fixture);
      const before = await fixture.canary();
      for (const name of services) {
        const wrong = await attack(fixture, name);
        t.deepEqual(wrong.slice(0, 5), [], `${name}: ${wrong.length} wrong codes`);
        t.is(await fixture.canary(), before, `${name} touched the canary`);
        await fixture.requireAlive();
      }
      await t.throwsAsync(access(join(fixture.canaryDir, 'pwned')));
      t.true((await fixture.footprint()).residentBytes < 400 * 2 ** 20, 'memory is bounded');
    } finally {
      await fixture.end();
    }
  },
);

onNode('secrets appear neither in the log nor in responses', async (t) => {
  const fixture = await makeFixture();
  try {
    const client = makeClient('csi.v1.Controller', `unix://${fixture.driver.endpoint}`);
    const secrets = { password: secret };
    const capability = {
      access_mode: { mode: 'SINGLE_NODE_WRITER' },
      access_type: 'mount',
      mount: {},
    } as const;
    const volume = await client.CreateVolume({
      name: 'secretive',
      capacity_range: { required_bytes: 2n ** 25n },
      volume_capabilities: [capability],
      secrets,
    });
    const volume_id = volume.volume?.volume_id ?? '';
    const failed = await outcomeOf((message, options) => client.CreateVolume(message, options), {
      name: 'secretive',
      volume_capabilities: [],
      secrets,
    });
    t.is(failed.code, status.INVALID_ARGUMENT);
    t.false(failed.details.includes(secret));
    await client.CreateSnapshot({ name: 'snap', source_volume_id: volume_id, secrets });
    await client.DeleteVolume({ volume_id, secrets });
    client.close();
    const log = await fixture.driver.log();
    t.true(log.includes('secretive'), 'the calls are in the log');
    t.regex(log, /"file":"mkfs\.ext4","args":\[/, 'and the command lines of programs');
    t.false(log.includes(secret));
    t.false((await readFile(`/proc/${fixture.driver.pid}/cmdline`, 'utf8')).includes(secret));
  } finally {
    await fixture.end();
  }
});

async function plugin(fixture: Fixture, call: string, body: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const sent = request(
      { socketPath: fixture.dockerSocket, path: call, method: 'POST', timeout: 60_000 },
      (response) => {
        response.resume();
        response.once('end', () => {
          resolve(response.statusCode ?? 0);
        });
      },
    );
    sent.once('error', reject);
    sent.end(body);
  });
}

onNode('hostile bodies of every plugin call touch no file outside the pool', async (t) => {
  t.timeout(5 * 60_000);
  const fixture = await makeFixture();
  try {
    const before = await fixture.canary();
    const texts = fc.constantFrom(...hostileTexts(fixture));
    const body = fc.oneof(
      fc
        .record({ Name: texts, ID: texts, Opts: fc.dictionary(texts, texts, { maxKeys: 3 }) })
        .map((one) => JSON.stringify(one)),
      fc
        .record({
          Name: texts,
          Opts: fc.record(
            { size: texts, fs: texts, pool: texts, source: texts, mountOptions: texts },
            { requiredKeys: [] },
          ),
        })
        .map((one) => JSON.stringify(one)),
      fc.json(),
      fc.string({ maxLength: 50 }),
    );
    for (const call of [
      'Create',
      'Get',
      'List',
      'Path',
      'Mount',
      'Unmount',
      'Remove',
      'Capabilities',
      'Nonsense',
    ]) {
      for (const one of fc.sample(body, { numRuns: runs, seed })) {
        // Docker's retries have no body and get no response: to Docker any response would mean that the volume does not exist.
        if (call === 'Get' && one.trim() === '') {
          await t.throwsAsync(plugin(fixture, '/VolumeDriver.Get', one), { code: 'ECONNRESET' });
          continue;
        }
        const code = await plugin(fixture, `/VolumeDriver.${call}`, one);
        t.true(code === 200 || (code >= 400 && code < 500), `${call} ${one}: ${code}`);
      }
    }
    t.is(await fixture.canary(), before);
    t.false((await fixture.driver.log()).includes('"level":"fatal"'));
    await fixture.requireAlive();
  } finally {
    await fixture.end();
  }
});
