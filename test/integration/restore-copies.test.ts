import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { execa } from 'execa';
import type { Host } from '../../src/host/host.ts';
import { MiB } from '../../src/units.ts';
import type { FaultPoint, Reached } from '../../src/volumes/engine/fault-points.ts';
import type { PoolSettings } from '../../src/volumes/pool/settings.ts';
import { changedHost } from '../helpers/changed-host.ts';
import { DiskState } from '../helpers/disk-state.ts';
import type { KilledDriver } from '../helpers/killed-driver.ts';
import { onNode } from '../helpers/on-node.ts';
import { reasonOf } from '../helpers/reason-of.ts';
import { call, type ScratchNode, scratchNode } from '../helpers/scratch-node.ts';
import { hashOf, imageOf, makeVolume, restore, takeSnapshot } from '../helpers/snapshot-node.ts';

const program = join(import.meta.dirname, '..', 'helpers', 'killed-driver.js');
const sizeBytes = 256n * MiB;
const dataMiB = 200;

/** A snapshot with more data than is copied before the first progress record, on a pool that cannot share blocks. */
async function largeSnapshot(node: ScratchNode): Promise<string> {
  const id = await makeVolume(node, 'source', { kind: 'block', sizeBytes });
  const image = imageOf(node, 'volumes', id);
  await execa('dd', [
    'if=/dev/urandom',
    `of=${image}`,
    'bs=1M',
    'seek=16',
    `count=${dataMiB}`,
    'conv=notrunc,fsync',
  ]);
  return (await takeSnapshot(node, 'snap', id)).record.id;
}

const again = (node: ScratchNode, snapshotId: string) =>
  restore(node, 'restored', { kind: 'snapshot', id: snapshotId }, { kind: 'block' });

async function killedAt(
  t: ExecutionContext,
  node: ScratchNode,
  killed: {
    point: FaultPoint;
    snapshotId: string;
    reached?: Reached;
    pool?: Partial<PoolSettings>;
  },
): Promise<void> {
  const { point, snapshotId, reached, pool } = killed;
  const work = { rpc: 'restore', name: 'restored', snapshotId, kind: 'block' } as const;
  const asked: KilledDriver = { directory: node.directory, point, work };
  await node.restart({
    ...(reached === undefined ? {} : { reached }),
    ...(pool === undefined ? {} : { pool }),
    whileClosed: async () => {
      const ended = await execa(process.execPath, [program, JSON.stringify(asked)], {
        reject: false,
        env: { UV_THREADPOOL_SIZE: '64' },
      });
      t.is(ended.signal, 'SIGKILL', `${point} is reached: ${ended.stderr}`);
    },
  });
}

/** Leaves the pool space for the restore, but not for a second copy of the data that it has already copied. */
async function tightPool(node: ScratchNode): Promise<Partial<PoolSettings>> {
  const { space } = node.domain.pools.named('default');
  const { reserveBytes } = await space.facts();
  const spare = (await space.availableBytes()) - sizeBytes - 16n * MiB;
  return { reserve: { bytes: reserveBytes + spare } };
}

const temporary = (node: ScratchNode) => readdir(join(node.poolPath, 'tmp'));

async function isWhole(
  t: ExecutionContext,
  node: ScratchNode,
  { restored, snapshotId }: { restored: string; snapshotId: string },
): Promise<void> {
  t.is(
    await hashOf(imageOf(node, 'volumes', restored)),
    await hashOf(imageOf(node, 'snapshots', snapshotId)),
  );
  t.deepEqual(await readdir(join(node.poolPath, 'volumes', restored)), ['disk.img', 'volume.json']);
  t.deepEqual(await temporary(node), []);
}

onNode('a restore that was killed during its copy is resumed', async (t) => {
  const disk = await DiskState.watch();
  t.teardown(() => {
    disk.end();
  });
  let points: FaultPoint[] = [];
  const node = await scratchNode(t, { poolFs: 'ext4' });
  const snapshotId = await largeSnapshot(node);
  await killedAt(t, node, {
    point: 'restore:advanced',
    snapshotId,
    pool: await tightPool(node),
    reached: async (point) => {
      points.push(point);
      if (point !== 'restore:taken') return;
      // From here on the image is changed, so no copy progress may exist.
      const [entry = ''] = await temporary(node);
      const directory = join(node.poolPath, 'tmp', entry);
      t.deepEqual(await readdir(directory), ['disk.img']);
      t.true(disk.isSynced(directory));
    },
  });
  t.is((await temporary(node)).length, 1, 'the copy is kept');
  points = [];
  const restored = await again(node, snapshotId);
  const advances = points.filter((point) => point === 'restore:advanced').length;
  // Progress is reported for three ranges of 64 MiB; the first was already copied.
  t.is(advances, 2);
  await isWhole(t, node, { restored, snapshotId });
});

/** Copies one range, reports it, and does not end until it is aborted. */
function slowCopies(host: Host, isSlow: () => boolean, onCopied: () => void): Partial<Host> {
  const copySparse: Host['copies']['copySparse'] = async (from, to, options) => {
    if (!isSlow()) return host.copies.copySparse(from, to, options);
    const oneRange = new AbortController();
    const copied = host.copies.copySparse(from, to, {
      ...options,
      signal: oneRange.signal,
      onProgress: (...progress) => {
        options.onProgress?.(...progress);
        oneRange.abort();
      },
    });
    await copied.catch(() => undefined);
    onCopied();
    await new Promise((resolve) => {
      options.signal.addEventListener('abort', resolve, { once: true });
    });
    throw options.signal.reason;
  };
  return { copies: { ...host.copies, copySparse } };
}

onNode('a restore that SIGTERM interrupted is resumed at the next start', async (t) => {
  let onCopied = (): void => undefined;
  const hasCopied = new Promise<void>((resolve) => {
    onCopied = resolve;
  });
  let isSlow = false;
  const isSlowNow = (): boolean => isSlow;
  const node = await scratchNode(t, {
    poolFs: 'ext4',
    host: (host) => changedHost(host, (one) => slowCopies(one, isSlowNow, onCopied)),
  });
  const snapshotId = await largeSnapshot(node);
  isSlow = true;
  const interrupted = reasonOf(again(node, snapshotId));
  await hasCopied;
  await node.restart();
  isSlow = false;
  t.is(await interrupted, 'unavailable');
  t.is((await temporary(node)).length, 1, 'the copy is kept');
  const restored = await again(node, snapshotId);
  await isWhole(t, node, { restored, snapshotId });
});

onNode(
  'an interrupted copy is removed by a request for another snapshot or source, and by a delete',
  async (t) => {
    const node = await scratchNode(t, { poolFs: 'ext4' });
    const snapshotId = await largeSnapshot(node);
    await killedAt(t, node, { point: 'restore:advanced', snapshotId });
    // A snapshot with the same name, of another point in time.
    await node.volumes.deleteSnapshot(call(), snapshotId);
    const source = `source.${node.domain.settings.nodeTag}`;
    await execa('dd', [
      'if=/dev/urandom',
      `of=${imageOf(node, 'volumes', source)}`,
      'bs=1M',
      'seek=20',
      'count=8',
      'conv=notrunc,fsync',
    ]);
    await takeSnapshot(node, 'snap', source);
    const restored = await again(node, snapshotId);
    t.is(
      await hashOf(imageOf(node, 'volumes', restored)),
      await hashOf(imageOf(node, 'snapshots', snapshotId)),
    );
    t.is((await temporary(node)).length, 1, 'no call has resumed it');
    await node.restart();
    t.deepEqual(await temporary(node), [], 'its volume exists');

    await node.volumes.deleteVolume(call(), restored);
    await killedAt(t, node, { point: 'restore:advanced', snapshotId });
    t.is((await temporary(node)).length, 1);
    await node.volumes.deleteVolume(call(), restored);
    t.deepEqual(await temporary(node), [], 'its volume was deleted');
  },
);

onNode('a copy is not kept once its image may have been modified', async (t) => {
  const node = await scratchNode(t, { poolFs: 'ext4' });
  const snapshotId = await largeSnapshot(node);
  await killedAt(t, node, { point: 'restore:taken', snapshotId });
  t.deepEqual(await temporary(node), []);
  const restored = await again(node, snapshotId);
  await isWhole(t, node, { restored, snapshotId });
});
