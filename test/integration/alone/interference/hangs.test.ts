/**
 * A pool's disk hangs during many calls of many kinds, and then works again: other pools are not affected, and nothing is left.
 * Alone: durations are compared with those before the hang, and 150 calls at once would slow other files down.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { execa } from 'execa';
import { MiB } from '../../../../src/units.ts';
import { type NodeFixture, withFixture } from '../../../helpers/node-fixture.ts';
import { onNode } from '../../../helpers/on-node.ts';
import { until } from '../../../helpers/until.ts';

const ok = { code: 'OK', message: '' };
/** More than the threads of libuv, and more than the concurrent calls that the gate allows. */
const width = 150;
/** The time limit of a call on the other pool. On a busy machine it is a multiple of the time before the hang. */
const boundMs = 3_000;

const flags = (directory: string) => [
  `--pool=hung=${join(directory, 'pool')},create,overcommit=200`,
  `--pool=good=${join(directory, 'second')},create,overcommit=200`,
];
const onHung = { sizeBytes: 8n * MiB, parameters: { pool: 'hung' } };
const onGood = { sizeBytes: 8n * MiB, parameters: { pool: 'good' } };
const names = Array.from({ length: width }, (_, index) => `hung-${index}`);

/** Runs the life cycle of a volume of the other pool and returns the duration of the slowest call. */
async function liveBeside(
  t: ExecutionContext,
  fixture: NodeFixture,
  name: string,
): Promise<number> {
  let slowest = 0;
  const timed = async (call: Promise<{ readonly code: string }>): Promise<void> => {
    const startedAt = performance.now();
    t.deepEqual(await call, ok);
    slowest = Math.max(slowest, performance.now() - startedAt);
  };
  await timed(fixture.create(name, 'ext4', onGood));
  await timed(fixture.stage(name));
  await timed(fixture.publish(name));
  t.deepEqual(await fixture.healthOf(name), []);
  await timed(fixture.unpublish(name));
  await timed(fixture.unstage(name));
  await timed(fixture.delete(name));
  return slowest;
}

/** Calls of many clients at once, each for another volume. */
function ask(fixture: NodeFixture, name: string, index: number): Promise<unknown> {
  switch (index % 5) {
    case 0:
      return fixture.delete(name);
    case 1:
      return fixture.expand(name, 16n * MiB);
    case 2:
      return fixture.healthOf(name).catch(() => undefined);
    default:
      return fixture.stage(name);
  }
}

const isServed = async (fixture: NodeFixture): Promise<boolean> => {
  const { backend_health } = await fixture.testNode.node.NodeGetStorageHealth(
    {},
    { timeoutMs: 15_000 },
  );
  return backend_health.every(({ reason }) => reason !== 'PoolNotServed');
};

async function memoryOf(fixture: NodeFixture): Promise<number> {
  const text = await readFile(`/proc/${fixture.testNode.driver.pid}/status`, 'utf8');
  return Number(/VmRSS:\s*(\d+)/.exec(text)?.[1] ?? 0) * 1024;
}

async function hangDuringCalls(
  t: ExecutionContext,
  fixture: NodeFixture,
  disk: { hang(): unknown; resume(): unknown },
): Promise<void> {
  for (const name of names) t.deepEqual(await fixture.create(name, 'ext4', onHung), ok);
  const before = await liveBeside(t, fixture, 'before');
  const open = await fixture.descriptors();
  const memory = await memoryOf(fixture);
  await disk.hang();
  const hung = names.map((name, index) => ask(fixture, name, index));
  try {
    for (let round = 0; round < 4; round += 1) {
      const slowest = await liveBeside(t, fixture, `beside-${round}`);
      t.true(slowest < Math.max(boundMs, 8 * before), `round ${round}: ${Math.round(slowest)} ms`);
    }
  } finally {
    await disk.resume();
  }
  await Promise.all(hung);
  await until('every pool is served', () => isServed(fixture));
  for (const name of names) {
    await until(`${name} is unstaged`, async () => (await fixture.unstage(name)).code === 'OK');
    await until(`${name} is deleted`, async () => (await fixture.delete(name)).code === 'OK');
  }
  const { entries } = await fixture.testNode.controller.ListVolumes({});
  t.deepEqual(
    entries.map(({ volume }) => volume?.volume_id),
    [],
  );
  await until('the number of descriptors is as before', async () => {
    const now = await fixture.descriptors();
    return now.length <= open.length;
  }).catch(async () => t.deepEqual(await fixture.descriptors(), open));
  t.true((await memoryOf(fixture)) < memory + 256 * 1024 * 1024, 'memory');
}

onNode(`${width} calls on a frozen pool do not delay another pool`, async (t) => {
  await withFixture(
    t,
    async (fixture) => {
      const poolPath = fixture.testNode.poolPath;
      const resume = () => execa('fsfreeze', ['--unfreeze', poolPath], { reject: false });
      t.teardown(resume);
      await hangDuringCalls(t, fixture, {
        hang: () => execa('fsfreeze', ['--freeze', poolPath]),
        resume,
      });
    },
    { poolFs: 'ext4', flags },
  );
});
