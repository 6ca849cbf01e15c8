import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { execa } from 'execa';
import fc from 'fast-check';
import { KiB, MiB } from '../../src/units.ts';
import type { BlockRange } from '../../src/volumes/model.ts';
import { onNode } from '../helpers/on-node.ts';
import { reasonOf } from '../helpers/reason-of.ts';
import {
  call,
  capability,
  mountVolume,
  type ScratchNode,
  scratchNode,
  unmountVolume,
} from '../helpers/scratch-node.ts';
import {
  collect,
  imageOf,
  makeMounted,
  makeVolume,
  snapshotPoolFs,
  takeSnapshot,
} from '../helpers/snapshot-node.ts';

/** Number of runs over all pools. `LOOPCSI_SEEDS=1000` makes the full test, without a time limit. */
const asked = process.env['LOOPCSI_SEEDS'];
const seeds = Number(asked ?? 90);
/** Otherwise, a busy machine makes fewer runs, but at least some, so that the other tests are not delayed. */
const leastRuns = 10;
const limit = asked === undefined ? { interruptAfterTimeLimit: 25_000 } : {};

const startBytes = Number(8n * MiB);
const pageBytes = 4096;

/** A change of a raw block volume between two snapshots. */
type Change =
  | { readonly kind: 'write'; readonly at: number; readonly bytes: number; readonly fill: number }
  | { readonly kind: 'discard'; readonly at: number; readonly pages: number }
  | { readonly kind: 'expand'; readonly mebibytes: number };

const change: fc.Arbitrary<Change> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('write' as const),
      at: fc.integer({ min: 0, max: startBytes - 1 }),
      // Zeroes, too: written and unwritten blocks must read the same.
      fill: fc.integer({ min: 0, max: 3 }),
      bytes: fc.oneof(
        fc.integer({ min: 1, max: 3 * pageBytes }),
        fc.integer({ min: 1, max: 1024 * 1024 }),
      ),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('discard' as const),
      at: fc.integer({ min: 0, max: startBytes / pageBytes - 1 }),
      pages: fc.integer({ min: 1, max: 200 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('expand' as const),
      mebibytes: fc.integer({ min: 1, max: 3 }),
    }),
  },
);
const rounds = fc.array(fc.array(change, { maxLength: 6 }), { minLength: 3, maxLength: 3 });

interface Subject {
  readonly node: ScratchNode;
  readonly id: string;
  /** The loop device in use, or the image of an idle volume. */
  readonly path: () => string;
  readonly isStaged: boolean;
}

async function apply(subject: Subject, one: Change): Promise<void> {
  const { node, id, path, isStaged } = subject;
  switch (one.kind) {
    case 'write': {
      const file = await open(path(), 'r+');
      try {
        const size = Number((await node.volumes.getVolume(id)).record.sizeBytes);
        // Not synced: the capture itself must flush it.
        await file.write(
          Buffer.alloc(Math.min(one.bytes, size - one.at), one.fill),
          0,
          null,
          one.at,
        );
      } finally {
        await file.close();
      }
      return;
    }
    case 'discard': {
      const where = [
        `--offset=${one.at * pageBytes}`,
        `--length=${Math.min(one.pages * pageBytes, startBytes - one.at * pageBytes)}`,
      ];
      if (isStaged) await execa('blkdiscard', [...where, path()]);
      else await execa('fallocate', ['--punch-hole', ...where, path()]);
      return;
    }
    case 'expand': {
      const { sizeBytes } = (await node.volumes.getVolume(id)).record;
      const range = { requiredBytes: sizeBytes + BigInt(one.mebibytes) * MiB, limitBytes: 0n };
      if (isStaged) {
        const volumePath = node.pathOf(`staging-${id}`);
        await node.volumes.nodeExpandVolume(call(), { volumeId: id, volumePath, range });
      } else await node.volumes.expandVolume(call(), { volumeId: id, range });
    }
  }
}

/** Applies the ranges of `target` to `base`, as a backup program does. */
function patched(base: Buffer, target: Buffer, ranges: readonly BlockRange[]): Buffer {
  const result = Buffer.alloc(target.length);
  base.copy(result);
  for (const { offset, length } of ranges) {
    target.copy(result, Number(offset), Number(offset), Number(offset + length));
  }
  return result;
}

async function proveDeltas(
  subject: Subject,
  changes: readonly (readonly Change[])[],
): Promise<void> {
  const { node, id } = subject;
  const snapshots: { readonly id: string; readonly bytes: Buffer }[] = [];
  for (const [round, list] of changes.entries()) {
    for (const one of list) await apply(subject, one);
    const { record } = await takeSnapshot(node, `${id}-${round}`, id);
    snapshots.push({ id: record.id, bytes: await readFile(imageOf(node, 'snapshots', record.id)) });
  }
  for (const base of snapshots) {
    const asked = { snapshotId: base.id, startingOffset: 0n, batchSize: 7 };
    const allocated = await collect(await node.volumes.allocatedRanges(call(), asked));
    if (!patched(Buffer.alloc(0), base.bytes, allocated).equals(base.bytes)) {
      throw new Error(`the allocated ranges of ${base.id} do not rebuild it`);
    }
    for (const target of snapshots) {
      await proveDelta(node, base, target);
    }
  }
  for (const one of snapshots) await node.volumes.deleteSnapshot(call(), one.id);
}

async function proveDelta(
  node: ScratchNode,
  base: { id: string; bytes: Buffer },
  target: { id: string; bytes: Buffer },
): Promise<void> {
  const asked = { baseSnapshotId: base.id, targetSnapshotId: target.id, batchSize: 5 };
  const delta = async (startingOffset: bigint): Promise<readonly BlockRange[]> =>
    collect(await node.volumes.changedRanges(call(), { ...asked, startingOffset }));
  const all = await delta(0n);
  if (!patched(base.bytes, target.bytes, all).equals(target.bytes)) {
    throw new Error(`the delta from ${base.id} to ${target.id} misses a change`);
  }
  if (base === target && all.length > 0) throw new Error(`${base.id} differs from itself`);
  // An answer that is resumed after the first range has the same rest.
  const [first, ...rest] = all;
  if (first === undefined) return;
  const resumed = await delta(first.offset + first.length);
  if (JSON.stringify(textOf(resumed)) !== JSON.stringify(textOf(rest))) {
    throw new Error(`the delta from ${base.id} to ${target.id} is another one when resumed`);
  }
}

function textOf(ranges: readonly BlockRange[]): readonly string[] {
  return ranges.map(({ offset, length }) => `${offset}+${length}`);
}

async function proveOn(t: ExecutionContext, poolFs: (typeof snapshotPoolFs)[number]) {
  const node = await scratchNode(t, { poolFs });
  const isStaged = poolFs !== 'ext4';
  let run = 0;
  const prove = async (changes: readonly (readonly Change[])[]): Promise<void> => {
    run += 1;
    const id = await makeVolume(node, `v${run}`, {
      kind: 'block',
      sizeBytes: BigInt(startBytes),
    });
    const image = imageOf(node, 'volumes', id);
    const staging = node.pathOf(`staging-${id}`);
    try {
      let path = (): string => image;
      if (isStaged) {
        await execa('mkdir', ['-p', staging]);
        await node.volumes.stageVolume(call(), {
          volumeId: id,
          stagingTargetPath: staging,
          capability: capability({ kind: 'block' }),
        });
        const device = join(staging, 'device');
        path = () => device;
      }
      await proveDeltas({ node, id, path, isStaged }, changes);
    } finally {
      await node.volumes.unstageVolume(call(), { volumeId: id, stagingTargetPath: staging });
      await node.volumes.deleteVolume(call(), id);
    }
  };
  let underWay = Promise.resolve();
  const property = fc.asyncProperty(rounds, async (changes) => {
    underWay = prove(changes);
    await underWay;
  });
  const moreRuns = Math.max(1, Math.ceil(seeds / snapshotPoolFs.length) - leastRuns);
  await fc.assert(property, { numRuns: leastRuns });
  await fc.assert(property, { numRuns: moreRuns, ...limit });
  // The time limit does not wait for it.
  await underWay;
  t.log(`${run} runs`);
  t.true(run > leastRuns);
}

for (const poolFs of snapshotPoolFs) {
  onNode(
    `${poolFs} pool: a delta applied to the older snapshot gives the newer one, byte for byte`,
    (t) => {
      t.timeout(30 * 60_000);
      return proveOn(t, poolFs);
    },
  );

  onNode(
    `${poolFs} pool: changed blocks are found while the filesystem is in use and after its source is deleted`,
    async (t) => {
      const node = await scratchNode(t, { poolFs });
      const settings = { freeze: true };
      const { id, paths } = await makeMounted(node, 'source', 'ext4');
      await execa('dd', ['if=/dev/urandom', `of=${paths.targetPath}/a`, 'bs=1M', 'count=20']);
      const one = await takeSnapshot(node, 'one', id, { settings });
      await execa('dd', ['if=/dev/urandom', `of=${paths.targetPath}/b`, 'bs=64k', 'count=3']);
      await execa('rm', [`${paths.targetPath}/a`]);
      const two = await takeSnapshot(node, 'two', id, { settings });
      await unmountVolume(node, id, paths);
      await node.volumes.deleteVolume(call(), id);
      const asked = {
        baseSnapshotId: one.record.id,
        targetSnapshotId: two.record.id,
        startingOffset: 0n,
        batchSize: 1000,
      };
      const ranges = await node.volumes.changedRanges(call(), asked);
      t.is(ranges.volumeBytes, two.record.sizeBytes);
      const delta = await collect(ranges);
      const bytes = delta.reduce((sum, { length }) => sum + length, 0n);
      t.true(bytes > 192n * KiB && bytes < 8n * MiB, `${bytes} bytes changed`);
      const [a, b] = [
        await readFile(imageOf(node, 'snapshots', one.record.id)),
        await readFile(imageOf(node, 'snapshots', two.record.id)),
      ];
      t.true(patched(a, b, delta).equals(b));
    },
  );
}

onNode('invalid offsets and pairs are refused', async (t) => {
  const node = await scratchNode(t, { poolFs: 'xfs' });
  const id = await makeVolume(node, 'a', { kind: 'block', sizeBytes: 8n * MiB });
  const other = await makeVolume(node, 'b', { kind: 'block', sizeBytes: 8n * MiB });
  const one = (await takeSnapshot(node, 'one', id)).record.id;
  const alien = (await takeSnapshot(node, 'alien', other)).record.id;
  const allocated = (startingOffset: bigint, snapshotId: string = one) =>
    node.volumes.allocatedRanges(call(), { snapshotId, startingOffset, batchSize: 10 });
  const changed = (baseSnapshotId: string, targetSnapshotId: string, startingOffset = 0n) =>
    node.volumes.changedRanges(call(), {
      baseSnapshotId,
      targetSnapshotId,
      startingOffset,
      batchSize: 10,
    });
  t.deepEqual(
    await collect(await allocated(8n * MiB)),
    [],
    'the size of the volume is a valid offset',
  );
  t.is(await reasonOf(allocated(8n * MiB + 1n)), 'out-of-range');
  t.is(await reasonOf(allocated(-1n)), 'out-of-range');
  t.is(await reasonOf(changed(one, one, 9n * MiB)), 'out-of-range');
  t.is(await reasonOf(changed(one, alien)), 'invalid');
  t.is(await reasonOf(changed(one, 'gone.00000000')), 'not-found');
  t.is(await reasonOf(changed('gone.00000000', one)), 'not-found');
  t.is(await reasonOf(allocated(0n, 'gone.00000000')), 'not-found');
});

onNode(
  'a snapshot that is being compared cannot be deleted until the reader has ended',
  async (t) => {
    const node = await scratchNode(t, { poolFs: 'xfs' });
    const id = await makeVolume(node, 'a', { kind: 'block', sizeBytes: 64n * MiB });
    const paths = await mountVolume(node, id, { kind: 'block' });
    const base = (await takeSnapshot(node, 'base', id)).record.id;
    const file = await open(paths.targetPath, 'r+');
    for (let at = 0; at < 64; at += 2) await file.write(Buffer.alloc(4096, 1), 0, 4096, at * 8192);
    await file.close();
    const target = (await takeSnapshot(node, 'target', id)).record.id;
    const asked = {
      baseSnapshotId: base,
      targetSnapshotId: target,
      startingOffset: 0n,
      batchSize: 1,
    };
    const { batches } = await node.volumes.changedRanges(call(), asked);
    const reader = batches[Symbol.asyncIterator]();
    t.is((await reader.next()).done, false);
    t.is(await reasonOf(node.volumes.deleteSnapshot(call(), base)), 'busy');
    t.is(await reasonOf(node.volumes.deleteSnapshot(call(), target)), 'busy');
    await reader.return?.();
    await node.volumes.deleteSnapshot(call(), base);
    await node.volumes.deleteSnapshot(call(), target);
    await unmountVolume(node, id, paths);
  },
);
