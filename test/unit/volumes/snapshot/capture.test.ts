import { mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { KernelError } from '../../../../src/host/errors.ts';
import type { Extent } from '../../../../src/host/host.ts';
import { MiB } from '../../../../src/units.ts';
import type { VolumeKind } from '../../../../src/volumes/model.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, capability, volumeInput } from '../../../helpers/scratch-node.ts';
import { collect } from '../../../helpers/snapshot-node.ts';

const settings = { freeze: true };
const snapshotOf = (name: string, sourceVolumeId: string) => ({
  name,
  sourceVolumeId,
  settings,
  parameters: {},
});

/** A node with a pool that shares blocks, and functions that make volumes in use. */
async function sharingNode(t: ExecutionContext) {
  const node = await fakeNode(t, { reflink: true });
  const { volumes, domain } = await node.open([node.settings('a')]);
  return {
    node,
    volumes,
    domain,
    staged: async (name: string, kind: VolumeKind = 'mount') => {
      const input = volumeInput(name, { kind, sizeBytes: 64n * MiB });
      const { record } = await volumes.createVolume(call(), input);
      const stagingTargetPath = join(node.directory, `staging-${name}`);
      await mkdir(stagingTargetPath);
      const asked = { volumeId: record.id, stagingTargetPath, capability: capability({ kind }) };
      await volumes.stageVolume(call(), asked);
      return record.id;
    },
  };
}

test('a capture that fails leaves nothing frozen', async (t) => {
  const { node, volumes, staged } = await sharingNode(t);
  const id = await staged('v');
  node.host.failNext('copies.reflink', new KernelError('FICLONE', 'EIO', 'a test'));
  t.is(await reasonOf(volumes.createSnapshot(call(), snapshotOf('s', id))), 'internal');
  for (const { live } of node.host.kernel.devices.values()) t.false(live?.frozen);
});

test('dirty pages of a filesystem are written back before its freeze, and those of a raw device before its capture', async (t) => {
  const { node, volumes, staged } = await sharingNode(t);
  const steps = async (kind: VolumeKind): Promise<readonly string[]> => {
    const id = await staged(kind, kind);
    const from = node.host.calls.length;
    await volumes.createSnapshot(call(), snapshotOf(`of-${kind}`, id));
    const wanted = ['mounts.syncFilesystem', 'loops.sync', 'freezer.freeze', 'copies.reflink'];
    return node.host.calls.slice(from).filter((name) => wanted.includes(name));
  };
  t.deepEqual(await steps('mount'), [
    'mounts.syncFilesystem',
    'loops.sync',
    'freezer.freeze',
    'copies.reflink',
  ]);
  t.deepEqual(await steps('block'), ['loops.sync', 'copies.reflink']);
});

test('all members of a group are frozen before any of them is captured', async (t) => {
  const { node, volumes, staged } = await sharingNode(t);
  const sourceVolumeIds = [await staged('one'), await staged('two'), await staged('three')];
  const { calls } = node.host.watch;
  const from = calls.length;
  await volumes.createGroupSnapshot(call(), {
    name: 'g',
    sourceVolumeIds,
    settings,
    parameters: {},
  });
  const order = calls
    .slice(from)
    .filter(({ name }) => name === 'freezer.freeze' || name === 'copies.reflink');
  t.deepEqual(
    order.map(({ name }) => name),
    ['freezer.freeze', 'copies.reflink', 'copies.reflink', 'copies.reflink'],
  );
  const [targets] = order[0]?.args ?? [];
  t.is(Array.isArray(targets) ? targets.length : 0, 3);
});

test("a snapshot's image is read-only", async (t) => {
  const { node, volumes, staged } = await sharingNode(t);
  const { record } = await volumes.createSnapshot(call(), snapshotOf('s', await staged('v')));
  const image = join(node.directory, 'a', 'snapshots', record.id, 'disk.img');
  t.is((await stat(image)).mode & 0o777, 0o400);
});

const extent = (physical: bigint): Extent => ({ logical: 0n, physical, length: 4096n, flags: 1 });

for (const [name, moves, expected] of [
  ['moved while the second was read is compared again', 1, 'ok'],
  ['that keeps changing gives no answer', 1_000, 'unavailable'],
] as const) {
  test(`a map ${name}`, async (t) => {
    const { node, volumes, staged } = await sharingNode(t);
    const id = await staged('v');
    const a = (await volumes.createSnapshot(call(), snapshotOf('a', id))).record.id;
    const b = (await volumes.createSnapshot(call(), snapshotOf('b', id))).record.id;
    const { extents } = node.host;
    let reads = 0;
    // After the first map was read, a balance moves the shared block, as many times as the test says.
    extents.map = async function* (path) {
      const isFirst = path.includes(`/${a}/`);
      if (isFirst) reads += 1;
      const moved = Math.min(Math.floor(reads / 2), moves);
      yield [extent(BigInt(isFirst ? moved : Math.min(Math.floor((reads + 1) / 2), moves)))];
    };
    const asked = {
      baseSnapshotId: a,
      targetSnapshotId: b,
      startingOffset: 0n,
      batchSize: 10,
    };
    const ranges = async () => collect(await volumes.changedRanges(call(), asked));
    t.is(await reasonOf(ranges()), expected);
    if (expected === 'ok') t.true(reads >= 4, 'the first map is read again after the second');
  });
}

test('a capture whose freeze expired before it was complete is not kept', async (t) => {
  const { node, volumes, staged } = await sharingNode(t);
  const id = await staged('v');
  const { freezer } = node.host;
  const freeze = freezer.freeze.bind(freezer);
  for (const [errno, expected] of [
    ['ETIMEDOUT', 'unavailable'],
    ['ECHILD', 'unavailable'],
    ['EIO', 'internal'],
  ] as const) {
    freezer.freeze = async (targets, options) => {
      const frozen = await freeze(targets, options);
      return {
        thaw: async () => {
          await frozen.thaw();
          throw new KernelError('freeze', errno, 'a test');
        },
      };
    };
    t.is(await reasonOf(volumes.createSnapshot(call(), snapshotOf('s', id))), expected, errno);
    const { entries } = await volumes.listSnapshots({ maxEntries: 0, startingToken: '' });
    t.deepEqual(entries, [], errno);
  }
});

test('a filesystem that another process has frozen is busy', async (t) => {
  const { node, volumes, staged } = await sharingNode(t);
  const id = await staged('v');
  const [device] = node.host.kernel.devices.values();
  if (device?.live !== undefined) device.live.frozen = true;
  t.is(await reasonOf(volumes.createSnapshot(call(), snapshotOf('s', id))), 'busy');
  t.true(device?.live?.frozen, 'and stays frozen');
});

for (const after of [false, true]) {
  const when = after ? 'although its file is there' : 'at all';
  test(`a group is not created if one member cannot be captured ${when}`, async (t) => {
    const { node, volumes, staged } = await sharingNode(t);
    const sourceVolumeIds = [await staged('one'), await staged('two')];
    const error = new KernelError('FICLONE', 'EIO', 'a test');
    node.host.failNext('copies.reflink', error, { after });
    const asked = { name: 'g', sourceVolumeIds, settings, parameters: {} };
    t.is(await reasonOf(volumes.createGroupSnapshot(call(), asked)), 'internal');
    for (const { live } of node.host.kernel.devices.values()) t.false(live?.frozen);
  });
}
