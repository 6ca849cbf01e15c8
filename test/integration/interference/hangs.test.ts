/** A pool's disk hangs during many calls of many kinds, and then works again: other pools are not affected, and nothing is left. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { execa } from 'execa';
import { MiB } from '../../../src/units.ts';
import { onScene, type Scene } from '../../helpers/node-fixture.ts';
import { onNode } from '../../helpers/on-node.ts';
import { until } from '../../helpers/until.ts';

const ok = { code: 'OK', message: '' };
/** More than libuv has threads, and more than the gate allows at once. */
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
async function liveBeside(t: ExecutionContext, scene: Scene, name: string): Promise<number> {
  let slowest = 0;
  const timed = async (call: Promise<{ readonly code: string }>): Promise<void> => {
    const startedAt = performance.now();
    t.deepEqual(await call, ok);
    slowest = Math.max(slowest, performance.now() - startedAt);
  };
  await timed(scene.create(name, 'ext4', onGood));
  await timed(scene.stage(name));
  await timed(scene.publish(name));
  t.deepEqual(await scene.healthOf(name), []);
  await timed(scene.unpublish(name));
  await timed(scene.unstage(name));
  await timed(scene.delete(name));
  return slowest;
}

/** Calls of many clients at once, each for another volume. */
function ask(scene: Scene, name: string, index: number): Promise<unknown> {
  switch (index % 5) {
    case 0:
      return scene.delete(name);
    case 1:
      return scene.expand(name, 16n * MiB);
    case 2:
      return scene.healthOf(name).catch(() => undefined);
    default:
      return scene.stage(name);
  }
}

const isServed = async (scene: Scene): Promise<boolean> => {
  const { backend_health } = await scene.world.node.NodeGetStorageHealth({}, { timeoutMs: 15_000 });
  return backend_health.every(({ reason }) => reason !== 'PoolNotServed');
};

async function memoryOf(scene: Scene): Promise<number> {
  const text = await readFile(`/proc/${scene.world.driver.pid}/status`, 'utf8');
  return Number(/VmRSS:\s*(\d+)/.exec(text)?.[1] ?? 0) * 1024;
}

async function playHang(
  t: ExecutionContext,
  scene: Scene,
  disk: { hang(): unknown; resume(): unknown },
): Promise<void> {
  for (const name of names) t.deepEqual(await scene.create(name, 'ext4', onHung), ok);
  const before = await liveBeside(t, scene, 'before');
  const open = await scene.descriptors();
  const memory = await memoryOf(scene);
  await disk.hang();
  const hung = names.map((name, index) => ask(scene, name, index));
  try {
    for (let round = 0; round < 4; round += 1) {
      const slowest = await liveBeside(t, scene, `beside-${round}`);
      t.true(slowest < Math.max(boundMs, 8 * before), `round ${round}: ${Math.round(slowest)} ms`);
    }
  } finally {
    await disk.resume();
  }
  await Promise.all(hung);
  await until('every pool is served', () => isServed(scene));
  for (const name of names) {
    await until(`${name} is unstaged`, async () => (await scene.unstage(name)).code === 'OK');
    await until(`${name} is deleted`, async () => (await scene.delete(name)).code === 'OK');
  }
  const { entries } = await scene.world.controller.ListVolumes({});
  t.deepEqual(
    entries.map(({ volume }) => volume?.volume_id),
    [],
  );
  await until('the number of descriptors is as before', async () => {
    const now = await scene.descriptors();
    return now.length <= open.length;
  }).catch(async () => t.deepEqual(await scene.descriptors(), open));
  t.true((await memoryOf(scene)) < memory + 256 * 1024 * 1024, 'memory');
}

onNode(`${width} calls on a frozen pool do not delay another pool`, async (t) => {
  await onScene(
    t,
    async (scene) => {
      const poolPath = scene.world.poolPath;
      const resume = () => execa('fsfreeze', ['--unfreeze', poolPath], { reject: false });
      t.teardown(resume);
      await playHang(t, scene, { hang: () => execa('fsfreeze', ['--freeze', poolPath]), resume });
    },
    { poolFs: 'ext4', flags },
  );
});
