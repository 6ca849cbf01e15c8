import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { execa } from 'execa';
import { makeRealHost } from '../../src/host/real-host.ts';
import { onNode } from '../helpers/on-node.ts';
import { until } from '../helpers/until.ts';
import { leftAfterDeletingAll, problemsAfterPowerLoss } from './after-power-loss.ts';
import { certainBetween, type Fact, Load } from './load.ts';
import { makeRandom, type Random, seedOf } from './random.ts';
import { poolOn, TestNode } from './test-node.ts';

/**
 * Simulated power cuts: the pool's filesystem is an image on another filesystem, and FICLONE captures that image at one instant.
 * docs/crash-safety.md describes this test and its limits.
 */
const isSample = process.env['LOOPCSI_CRASH'] !== 'whole';
const seed = seedOf(process.env['LOOPCSI_CRASH_SEED']);
const captureCounts = {
  ext4: isSample ? 4 : 20,
  xfs: isSample ? 4 : 20,
  btrfs: isSample ? 2 : 10,
} as const;
const workers = 6;

type PoolFilesystem = keyof typeof captureCounts;

/** An XFS with the pool's image and its captures, which are reflinks. */
interface Outer {
  readonly directory: string;
  readonly image: string;
  end(): Promise<void>;
}

async function attachImage(image: string): Promise<string> {
  // Direct I/O on a file that shares blocks needs sectors of 4096 bytes.
  const flags = ['--find', '--show', '--sector-size', '4096', '--direct-io=on'];
  return (await execa('losetup', [...flags, image])).stdout;
}

async function makeOuter(type: PoolFilesystem): Promise<Outer> {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-power-'));
  const whole = join(directory, 'outer.img');
  await execa('truncate', ['--size', '32G', whole]);
  await execa('mkfs.xfs', ['-q', '-f', '-s', 'size=4096', whole]);
  const below = join(directory, 'outer');
  await mkdir(below);
  const device = await attachImage(whole);
  await execa('mount', [device, below]);
  const image = join(below, 'pool.img');
  await execa('truncate', ['--size', '12G', image]);
  const flags = { ext4: ['-q', '-F', '-b', '4096'], xfs: ['-q', '-s', 'size=4096'], btrfs: ['-q'] };
  await execa(`mkfs.${type}`, [...flags[type], image]);
  return {
    directory,
    image,
    end: async () => {
      // The kernel closes the image of a detached device in the background.
      const isUnmounted = async (): Promise<boolean> =>
        (await execa('umount', [below], { reject: false })).exitCode === 0;
      await until(`${below} is unmounted`, isUnmounted, 20_000);
      await execa('losetup', ['--detach', device]);
      await rm(directory, { recursive: true });
    },
  };
}

/** A node whose pool is on that image. */
async function nodeOn(
  image: string,
  type: PoolFilesystem,
): Promise<{ testNode: TestNode; end: () => Promise<readonly string[]> }> {
  const device = await attachImage(image);
  const testNode = await TestNode.make({
    poolFs: type,
    preparePool: poolOn(device, type === 'xfs' ? ['-o', 'nouuid'] : []),
  });
  return {
    testNode,
    end: async () => {
      const left = await testNode.end();
      await execa('losetup', ['--detach', device]);
      return left;
    },
  };
}

interface Capture {
  readonly image: string;
  readonly facts: readonly Fact[];
}

async function captureVolumes(
  outer: Outer,
  load: Load,
  options: { random: Random; count: number },
): Promise<readonly Capture[]> {
  const { copies } = makeRealHost();
  const captures: Capture[] = [];
  for (let index = 0; index < options.count; index += 1) {
    await delay(300 + options.random.below(1_500));
    const image = join(outer.directory, 'outer', `capture-${index}.img`);
    const before = load.facts();
    await copies.reflink(outer.image, image);
    captures.push({ image, facts: certainBetween(before, load.facts()) });
  }
  return captures;
}

/** The state after the power returns: acknowledged data is present and intact, and nothing incomplete is left. */
async function checkCapture(
  t: ExecutionContext,
  capture: Capture,
  type: PoolFilesystem,
): Promise<void> {
  const { testNode, end } = await nodeOn(capture.image, type);
  try {
    t.deepEqual(await problemsAfterPowerLoss(testNode, capture.facts), [], 'after the start');
    t.deepEqual(await leftAfterDeletingAll(testNode), [], 'after all was deleted');
  } catch (error) {
    t.log((await testNode.driver.log()).slice(-3_000));
    throw error;
  } finally {
    const left = await end();
    if (t.passed) t.deepEqual(left, []);
  }
}

for (const type of ['ext4', 'xfs', 'btrfs'] as const) {
  onNode(`power lost at random instants under load (${type} pool)`, async (t) => {
    t.timeout(15 * 60_000);
    t.log(`seed ${seed}`);
    const outer = await makeOuter(type);
    try {
      const { testNode, end } = await nodeOn(outer.image, type);
      let captures: readonly Capture[] = [];
      try {
        const load = new Load(testNode, makeRandom(seed));
        const running = load.run(workers);
        captures = await captureVolumes(outer, load, {
          random: makeRandom(seed + 1),
          count: captureCounts[type],
        });
        load.stop();
        await running;
        t.deepEqual(load.unexplained, []);
        await testNode.clear();
        t.log(`${load.done} calls, ${captures.length} captures`);
      } finally {
        const left = await end();
        if (t.passed) t.deepEqual(left, []);
      }
      const certain = captures.reduce((sum, { facts }) => sum + facts.length, 0);
      t.true(certain > 0, 'some data was acknowledged');
      for (const capture of captures) await checkCapture(t, capture, type);
    } finally {
      await outer.end();
    }
  });
}
