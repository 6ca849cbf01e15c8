import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { execa } from 'execa';
import { MiB } from '../../src/units.ts';
import type { FaultPoint } from '../../src/volumes/engine/fault-points.ts';
import type { KilledCall, KilledDriver } from '../helpers/killed-driver.ts';
import { onNode } from '../helpers/on-node.ts';
import { call, type ScratchNode, scratchNode, unmountVolume } from '../helpers/scratch-node.ts';
import {
  hashOf,
  imageOf,
  makeMounted,
  makeVolume,
  restore,
  snapshotInput,
  takeSnapshot,
  writeText,
} from '../helpers/snapshot-node.ts';

const program = join(import.meta.dirname, '..', 'helpers', 'killed-driver.js');
const settings = { freeze: true };

const committing = [
  'new:directory-made',
  'new:image-made',
  'new:synced',
  'new:record-written',
  'new:renamed',
  'new:committed',
] as const satisfies readonly FaultPoint[];
const capturing = [
  'capture:frozen',
  'capture:taken',
  'capture:thawed',
] as const satisfies readonly FaultPoint[];

/** Stops the driver, runs a second one that is killed in the middle of a call, and opens the pool again. */
async function killedIn(
  t: ExecutionContext,
  node: ScratchNode,
  killed: { point: FaultPoint; work: KilledCall },
  whileDown: () => Promise<void> = async () => undefined,
): Promise<void> {
  const asked: KilledDriver = { directory: node.directory, ...killed };
  await node.restart({
    whileClosed: async () => {
      const ended = await execa(process.execPath, [program, JSON.stringify(asked)], {
        reject: false,
        env: { UV_THREADPOOL_SIZE: '64' },
      });
      t.is(ended.signal, 'SIGKILL', `${killed.point} is reached: ${ended.stderr}`);
      await whileDown();
    },
  });
}

/** A write with fsync. Without the thaw it would wait for the time limit of the freeze, which is ten minutes. */
async function goesOn(t: ExecutionContext, directory: string): Promise<void> {
  const begun = performance.now();
  await writeText(join(directory, 'after'), 'after', true);
  const ms = performance.now() - begun;
  t.true(ms < 60_000, `writes continue before the restart; one took ${Math.round(ms)} ms`);
}

async function isClean(t: ExecutionContext, node: ScratchNode): Promise<void> {
  await node.domain.trash.whenIdle();
  for (const area of ['tmp', 'trash', 'snapshots', 'groups', 'volumes']) {
    t.deepEqual(await readdir(join(node.poolPath, area)), [], area);
  }
  t.deepEqual(node.domain.operations.locks.size, 0, 'no lock is left');
}

for (const poolFs of ['xfs', 'ext4'] as const) {
  for (const point of [...capturing, ...committing]) {
    onNode(
      `${poolFs} pool: CreateSnapshot of a volume in use succeeds when it is repeated after a kill at ${point}`,
      async (t) => {
        const node = await scratchNode(t, { poolFs });
        const { id, paths } = await makeMounted(node, 'source', 'ext4');
        await writeText(join(paths.targetPath, 'file'), 'before');
        const input = snapshotInput('snap', id, { settings });
        await killedIn(t, node, { point, work: { rpc: 'snapshot', input } }, () =>
          goesOn(t, paths.targetPath),
        );
        const { record } = await takeSnapshot(node, 'snap', id, { settings });
        const restored = await restore(node, 'restored', { kind: 'snapshot', id: record.id });
        await unmountVolume(node, id, paths);
        for (const volumeId of [id, restored]) await node.volumes.deleteVolume(call(), volumeId);
        await node.volumes.deleteSnapshot(call(), record.id);
        await isClean(t, node);
      },
    );
  }
}

for (const point of [
  ...committing,
  'restore:taken',
  'restore:uuid-renewed',
  'restore:grown',
] as const) {
  onNode(`a restore succeeds when it is repeated after a kill at ${point}`, async (t) => {
    const node = await scratchNode(t, { poolFs: 'xfs' });
    const id = await makeVolume(node, 'source', { fsType: 'xfs', sizeBytes: 320n * MiB });
    const { record } = await takeSnapshot(node, 'snap', id);
    const work = { rpc: 'restore', name: 'restored', snapshotId: record.id } as const;
    await killedIn(t, node, { point, work });
    const restored = await restore(node, 'restored', { kind: 'snapshot', id: record.id });
    for (const volumeId of [id, restored]) await node.volumes.deleteVolume(call(), volumeId);
    await node.volumes.deleteSnapshot(call(), record.id);
    await isClean(t, node);
  });
}

async function twoMounted(node: ScratchNode) {
  const first = await makeMounted(node, 'first', 'ext4');
  const second = await makeMounted(node, 'second', 'btrfs');
  const input = { name: 'group', sourceVolumeIds: [first.id, second.id], settings, parameters: {} };
  return { first, second, input };
}

for (const point of [
  ...capturing,
  'group:members-made',
  'group:member-renamed',
  'group:members-renamed',
  'new:renamed',
  'new:committed',
] as const) {
  onNode(
    `a group whose creation is killed at ${point} exists completely or not at all`,
    async (t) => {
      const node = await scratchNode(t, { poolFs: 'xfs' });
      const { first, second, input } = await twoMounted(node);
      await killedIn(t, node, { point, work: { rpc: 'group', input } }, async () => {
        await goesOn(t, first.paths.targetPath);
        await goesOn(t, second.paths.targetPath);
      });
      const page = { maxEntries: 0, startingToken: '' };
      const snapshotCount = (await node.volumes.listSnapshots(page)).entries.length;
      const groups = await readdir(join(node.poolPath, 'groups'));
      t.is(snapshotCount, groups.length * 2, 'no member without its group');
      const group = await node.volumes.createGroupSnapshot(call(), input);
      const instants = new Set(group.snapshots.map(({ record }) => record.createdAtMs));
      t.is(instants.size, 1, 'all members are of one point in time');
      const members = group.snapshots.map(({ record }) => record.id);
      await node.volumes.deleteGroupSnapshot(call(), group.record.id, members);
      for (const { id, paths } of [first, second]) {
        await unmountVolume(node, id, paths);
        await node.volumes.deleteVolume(call(), id);
      }
      await isClean(t, node);
    },
  );
}

for (const point of [
  'delete:renamed',
  'delete:committed',
  'group:record-discarded',
  'group:member-discarded',
] as const) {
  onNode(
    `the delete of a group and its members succeeds when it is repeated after a kill at ${point}`,
    async (t) => {
      const node = await scratchNode(t, { poolFs: 'ext4' });
      const id = await makeVolume(node, 'a', { kind: 'block', sizeBytes: 16n * MiB });
      const other = await makeVolume(node, 'b', { kind: 'block', sizeBytes: 16n * MiB });
      const input = { name: 'group', sourceVolumeIds: [id, other], settings, parameters: {} };
      const { record, snapshots } = await node.volumes.createGroupSnapshot(call(), input);
      const members = snapshots.map((one) => one.record.id);
      const work = { rpc: 'deleteGroup', groupId: record.id, members } as const;
      await killedIn(t, node, { point, work });
      await node.volumes.deleteGroupSnapshot(call(), record.id, members);
      for (const volumeId of [id, other]) await node.volumes.deleteVolume(call(), volumeId);
      await isClean(t, node);
    },
  );
}

for (const point of ['delete:renamed', 'delete:committed', 'trash:removed'] as const) {
  onNode(`DeleteSnapshot succeeds when it is repeated after a kill at ${point}`, async (t) => {
    const node = await scratchNode(t, { poolFs: 'btrfs' });
    const id = await makeVolume(node, 'a', { kind: 'block', sizeBytes: 16n * MiB });
    const { record } = await takeSnapshot(node, 'snap', id);
    const work = { rpc: 'deleteSnapshot', snapshotId: record.id } as const;
    await killedIn(t, node, { point, work });
    await node.volumes.deleteSnapshot(call(), record.id);
    await node.volumes.deleteVolume(call(), id);
    await isClean(t, node);
  });
}

/** A volume with more data than is copied within a call, on a pool that cannot share blocks. */
async function largeSource(node: ScratchNode): Promise<string> {
  const id = await makeVolume(node, 'large', { kind: 'block', sizeBytes: 512n * MiB });
  const image = imageOf(node, 'volumes', id);
  await execa('dd', [
    'if=/dev/urandom',
    `of=${image}`,
    'bs=1M',
    'seek=64',
    'count=320',
    'conv=notrunc,fsync',
  ]);
  return id;
}

async function untilReady(node: ScratchNode, snapshotId: string): Promise<readonly bigint[]> {
  const seen: bigint[] = [];
  for await (const { doneBytes, error } of node.volumes.watchSnapshot(call(), snapshotId)) {
    if (error !== '') throw new Error(error);
    seen.push(doneBytes);
  }
  return seen;
}

for (const point of [
  'copy:begun',
  'copy:advanced',
  'copy:done',
  'copy:renamed',
  'copy:recorded',
] as const) {
  onNode(`a long copy that is killed at ${point} is resumed after the start`, async (t) => {
    const node = await scratchNode(t, { poolFs: 'ext4' });
    const id = await largeSource(node);
    const input = snapshotInput('snap', id);
    await killedIn(t, node, { point, work: { rpc: 'snapshot', input } });
    const { record } = await takeSnapshot(node, 'snap', id);
    const seen = await untilReady(node, record.id);
    if (point === 'copy:advanced') t.true((seen[0] ?? 0n) > 0n, 'not from the beginning');
    t.is((await node.volumes.getSnapshot(record.id)).record.state, 'ready');
    t.is(
      await hashOf(imageOf(node, 'snapshots', record.id)),
      await hashOf(imageOf(node, 'volumes', id)),
    );
    await node.volumes.deleteSnapshot(call(), record.id);
    await node.volumes.deleteVolume(call(), id);
    await isClean(t, node);
  });
}

onNode(
  'a copy whose source was written to while the driver was down is removed, with a log line',
  async (t) => {
    const node = await scratchNode(t, { poolFs: 'ext4' });
    const id = await largeSource(node);
    const input = snapshotInput('snap', id);
    const work = { rpc: 'snapshot', input } as const;
    await killedIn(t, node, { point: 'copy:advanced', work }, async () => {
      await execa('dd', [
        'if=/dev/urandom',
        `of=${imageOf(node, 'volumes', id)}`,
        'bs=1M',
        'count=1',
        'conv=notrunc,fsync',
      ]);
    });
    const page = { maxEntries: 0, startingToken: '' };
    t.deepEqual((await node.volumes.listSnapshots(page)).entries, []);
    const { record } = await takeSnapshot(node, 'snap', id);
    await untilReady(node, record.id);
    t.is(
      await hashOf(imageOf(node, 'snapshots', record.id)),
      await hashOf(imageOf(node, 'volumes', id)),
    );
  },
);

onNode(
  'while a volume is copied it can be neither staged nor deleted; its snapshot can be deleted',
  async (t) => {
    let release: (() => void) | undefined;
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    const node = await scratchNode(t, {
      poolFs: 'ext4',
      reached: (point) => (point === 'copy:begun' ? released : undefined),
    });
    const id = await largeSource(node);
    const { record } = await takeSnapshot(node, 'snap', id);
    t.is(record.state, 'copying');
    t.deepEqual(await takeSnapshot(node, 'snap', id), { record, pool: 'default' });
    t.like(await t.throwsAsync(node.volumes.deleteVolume(call(), id)), { reason: 'busy' });
    t.like(
      await t.throwsAsync(
        restore(node, 'r', { kind: 'snapshot', id: record.id }, { kind: 'block' }),
      ),
      {
        reason: 'busy',
      },
    );
    const asked = { snapshotId: record.id, startingOffset: 0n, batchSize: 1 };
    t.like(await t.throwsAsync(node.volumes.allocatedRanges(call(), asked)), {
      reason: 'unavailable',
    });
    release?.();
    await node.volumes.deleteSnapshot(call(), record.id);
    await node.volumes.deleteVolume(call(), id);
    await isClean(t, node);
  },
);
