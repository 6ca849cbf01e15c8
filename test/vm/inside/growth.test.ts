/**
 * Growth of ext4 while a program writes to it, which needs CAP_SYS_RESOURCE, and the offline growth without that capability. The
 * driver is killed at every fault point that the growth passes, and while the kernel resizes the filesystem.
 */
import { readFile, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import test, { type ExecutionContext } from 'ava';
import { execa } from 'execa';
import { makeRealHost } from '../../../src/host/real-host.ts';
import { GiB, MiB } from '../../../src/units.ts';
import * as calls from '../../crash/calls.ts';
import {
  brokenInvariants,
  checkers,
  damagedImages,
  waitUntilIdle,
} from '../../crash/invariants.ts';
import type { Operation } from '../../crash/operations.ts';
import { killAt, poolPathsOf, rehearse } from '../../crash/run-case.ts';
import { TestNode } from '../../crash/test-node.ts';
import { withoutSysResource } from '../../helpers/driver.ts';
import { RingWriter } from './ring-writer.ts';

const smallBytes = 96n * MiB;
const grownBytes = 320n * MiB;
const ringChunks = 8;
/** Together with the ring file, more than fits into the small filesystem. */
const lateChunks = 32;

/** In the sample the driver is killed at one fault point only. */
const isSample = process.env['LOOPCSI_GROWTH'] === 'sample';

async function testNodeWith(t: ExecutionContext, enter: readonly string[]): Promise<TestNode> {
  t.timeout(30 * 60_000);
  const testNode = await TestNode.make({ poolFs: 'directory', enter });
  t.teardown(async () => {
    const left = await testNode.end();
    if (left.length > 0) throw new Error(`left over: ${left.join(', ')}`);
  });
  return testNode;
}

/** Whether the driver has CAP_SYS_RESOURCE, according to /proc. */
async function mayGrowInUse(testNode: TestNode): Promise<boolean> {
  const text = await readFile(`/proc/${testNode.driver.pid}/status`, 'utf8');
  const effective = BigInt(`0x${/^CapEff:\s*(\w+)$/m.exec(text)?.[1] ?? '0'}`);
  return ((effective >> 24n) & 1n) === 1n;
}

async function stagedSmall(testNode: TestNode, sizeBytes = smallBytes): Promise<void> {
  await calls.create(testNode, 'v', { kind: 'ext4', sizeBytes });
  await calls.stage(testNode, 'v', 'ext4');
}

/** Starts a writer in the published volume. It is stopped before the volume is unpublished. */
async function startWriter(testNode: TestNode, directory: string): Promise<RingWriter> {
  const writer = new RingWriter(join(directory, 'ring'), ringChunks);
  testNode.recordUndo(() => writer.stop());
  await writer.waitForWrites(2);
  return writer;
}

/** Writes more than the filesystem had space for before it grew. */
async function fillBeyondOldSize(directory: string): Promise<void> {
  const program = join(import.meta.dirname, '..', '..', 'helpers', 'fsync-writer.js');
  await execa(process.execPath, [program, join(directory, 'late'), String(lateChunks)]);
}

async function requireGrown(directory: string, sizeBytes: bigint): Promise<void> {
  const { blocks, bsize } = await statfs(directory, { bigint: true });
  const least = (sizeBytes * 85n) / 100n;
  if (blocks * bsize < least) throw new Error(`${directory} has ${blocks * bsize} bytes only`);
}

/** Unpublishes and unstages, and runs e2fsck on the image, which is detached then. */
async function requireClean(testNode: TestNode): Promise<void> {
  await calls.unpublish(testNode, 'v');
  await calls.unstage(testNode, 'v');
  await waitUntilIdle(poolPathsOf(testNode));
  const image = testNode.pathOf('pool', 'volumes', calls.volumeIdOf('v'), 'disk.img');
  const { exitCode, stdout } = await checkers.ext4(image);
  if (exitCode !== 0) throw new Error(`e2fsck -fn ended with ${String(exitCode)}: ${stdout}`);
}

/** Only NodeExpandVolume, which also records the new size, so it passes every fault point of a growth. */
function grownUnderWriter(): Operation {
  let writer: RingWriter | undefined;
  const target = (testNode: TestNode): string => calls.targetOf(testNode, 'v');
  return {
    name: 'ext4 grows under a writer',
    poolFs: 'directory',
    prepare: async (testNode) => {
      await stagedSmall(testNode);
      await calls.publish(testNode, 'v', { kind: 'ext4' });
      writer = await startWriter(testNode, target(testNode));
    },
    call: async (testNode) => {
      try {
        return await calls.nodeExpand(testNode, 'v', grownBytes);
      } finally {
        // The writer must also make progress while no driver runs.
        await writer?.waitForWrites(2);
      }
    },
    check: async (testNode) => {
      await writer?.waitForWrites(ringChunks);
      await requireGrown(target(testNode), grownBytes);
      await fillBeyondOldSize(target(testNode));
      await writer?.stop();
      await writer?.requireIntact();
      await requireClean(testNode);
    },
  };
}

/** The same volume, staged and not published: the driver unmounts it for the duration of the growth. */
function grownOffline(): Operation {
  let writer: RingWriter | undefined;
  return {
    name: 'ext4 grows offline',
    poolFs: 'directory',
    prepare: async (testNode) => {
      await stagedSmall(testNode);
      writer = await startWriter(testNode, await testNode.stagingPathOf('v'));
      await writer.waitForWrites(ringChunks);
      await writer.stop();
    },
    call: (testNode) => calls.nodeExpand(testNode, 'v', grownBytes),
    check: async (testNode) => {
      const staging = await testNode.stagingPathOf('v');
      await requireGrown(staging, grownBytes);
      await fillBeyondOldSize(staging);
      await writer?.requireIntact();
      await requireClean(testNode);
    },
  };
}

const ways = [
  { operation: grownUnderWriter(), enter: [], growsInUse: true, points: 5 },
  { operation: grownOffline(), enter: withoutSysResource, growsInUse: false, points: 6 },
] as const;

for (const { operation, enter, growsInUse, points } of ways) {
  test.serial(`${operation.name}: a kill at each fault point is recovered`, async (t) => {
    const testNode = await testNodeWith(t, enter);
    t.is(await mayGrowInUse(testNode), growsInUse);
    const { moments, answer, problems } = await rehearse(testNode, operation);
    t.deepEqual(problems, [], 'without a kill');
    t.log(moments.map(({ point }) => point).join(' '));
    t.is(moments.length, points);
    t.is(
      moments.some(({ point }) => point === 'expand:unmounted'),
      !growsInUse,
    );
    const chosen = moments.filter(({ point }) => !isSample || point === 'expand:device-grown');
    t.true(chosen.length > 0);
    for (const moment of chosen) {
      const outcome = await killAt(testNode, operation, { moment, answer });
      t.deepEqual(outcome.problems, [], `killed at ${moment.point}`);
    }
  });
}

/** The times of the kills, as fractions of the duration of the call. */
const parts = [0, 0.15, 0.3, 0.5, 0.7, 0.9];

test.serial(
  'ext4 grows under a writer: a kill while the kernel resizes it is recovered',
  async (t) => {
    const testNode = await testNodeWith(t, []);
    const target = calls.targetOf(testNode, 'v');
    const large = 24n * GiB;
    const begin = async (): Promise<RingWriter> => {
      await stagedSmall(testNode, 256n * MiB);
      await calls.publish(testNode, 'v', { kind: 'ext4' });
      return startWriter(testNode, target);
    };
    const finish = async (writer: RingWriter): Promise<void> => {
      await requireGrown(target, large);
      await writer.waitForWrites(ringChunks);
      await writer.stop();
      t.true((await writer.requireIntact()) >= ringChunks - 1);
      await requireClean(testNode);
      await testNode.clear();
      await waitUntilIdle(poolPathsOf(testNode));
      t.deepEqual(await brokenInvariants(poolPathsOf(testNode), 'empty'), []);
    };
    const undisturbed = await begin();
    const startedAtMs = performance.now();
    await calls.nodeExpand(testNode, 'v', large);
    const wholeMs = performance.now() - startedAtMs;
    await finish(undisturbed);
    for (const part of parts) {
      const writer = await begin();
      const growth = calls.nodeExpand(testNode, 'v', large).then(
        () => 'answered',
        () => 'not answered',
      );
      await delay(part * wholeMs);
      await testNode.driver.kill();
      const answer = await growth;
      const { blocks, bsize } = await statfs(target, { bigint: true });
      const mounted = `${(blocks * bsize) / MiB} MiB`;
      t.log(`killed after ${part} of ${Math.round(wholeMs)} ms: ${answer}, ${mounted}`);
      await writer.waitForWrites(2);
      await testNode.restart();
      await calls.nodeExpand(testNode, 'v', large);
      await finish(writer);
    }
  },
);

test.serial('an unattached ext4 whose new size was promised grows at its next stage', async (t) => {
  const testNode = await testNodeWith(t, []);
  const operation: Operation = {
    name: 'stage',
    poolFs: 'directory',
    prepare: async (one) => {
      await calls.create(one, 'v', { kind: 'ext4', sizeBytes: smallBytes });
      await calls.expand(one, 'v', grownBytes);
    },
    call: (one) => calls.stage(one, 'v', 'ext4'),
    check: async (one) => {
      await requireGrown(await one.stagingPathOf('v'), grownBytes);
      await requireClean(one);
    },
  };
  const { moments, answer, problems } = await rehearse(testNode, operation);
  t.deepEqual(problems, []);
  t.true(moments.some(({ point }) => point === 'stage:filesystem-grown'));
  for (const moment of moments) {
    const outcome = await killAt(testNode, operation, { moment, answer });
    t.deepEqual(outcome.problems, [], `killed at ${moment.point}`);
  }
});

test.serial(
  'without the capability a published ext4 keeps its size until it is staged',
  async (t) => {
    const testNode = await testNodeWith(t, withoutSysResource);
    await stagedSmall(testNode);
    await calls.publish(testNode, 'v', { kind: 'ext4' });
    const target = calls.targetOf(testNode, 'v');
    const writer = await startWriter(testNode, target);
    const error = await t.throwsAsync(calls.nodeExpand(testNode, 'v', grownBytes));
    t.is((error as { code?: unknown } | undefined)?.code, status.FAILED_PRECONDITION);
    await writer.waitForWrites(ringChunks);
    await writer.stop();
    await writer.requireIntact();
    await calls.unpublish(testNode, 'v');
    await calls.unstage(testNode, 'v');
    await calls.stage(testNode, 'v', 'ext4');
    await requireGrown(await testNode.stagingPathOf('v'), grownBytes);
    await requireClean(testNode);
    t.deepEqual(await damagedImages(poolPathsOf(testNode)), []);
  },
);

test('this machine grows ext4 in use', (t) => {
  t.true(makeRealHost().facts.canGrowExt4Online);
});
