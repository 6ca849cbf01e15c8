import { chmod, mkdir, rm, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { VolumeId } from '../../../../src/ids.ts';
import { MiB } from '../../../../src/units.ts';
import type { CreateVolumeInput, VolumeSource } from '../../../../src/volumes/model.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, capability, plainSettings, volumeInput } from '../../../helpers/scratch-node.ts';

const sizeBytes = 16n * MiB;

/** A node with a volume that is the source of snapshots and copies. */
async function nodeWith(
  t: ExecutionContext,
  { reflink = true, ...made }: Partial<CreateVolumeInput> & { reflink?: boolean } = {},
) {
  const node = await fakeNode(t, { reflink });
  const { volumes, domain } = await node.open([node.settings('a')]);
  const { record } = await volumes.createVolume(call(), volumeInput('v', { sizeBytes, ...made }));
  const source: VolumeSource = { kind: 'volume', id: record.id };
  const pool = domain.pools.named('a');
  return {
    node,
    volumes,
    record,
    pool,
    imageOf: (id: VolumeId) => pool.pathOf('volumes', id, 'disk.img'),
    snapshot: (name: string, sourceVolumeId = record.id) =>
      volumes.createSnapshot(call(), {
        name,
        sourceVolumeId,
        settings: { freeze: true },
        parameters: {},
      }),
    copy: (asked: Partial<CreateVolumeInput> & { sizeBytes?: bigint } = {}) =>
      volumes.createVolume(call(), volumeInput('copy', { sizeBytes, source, ...asked })),
    stage: async () => {
      const stagingTargetPath = join(node.directory, 'staging');
      await mkdir(stagingTargetPath);
      const { kind } = record;
      await volumes.stageVolume(call(), {
        volumeId: record.id,
        stagingTargetPath,
        capability: capability({ kind }),
      });
    },
  };
}

test('a snapshot with the same name but of another volume is a conflict', async (t) => {
  const { volumes, snapshot } = await nodeWith(t);
  const { record } = await volumes.createVolume(call(), volumeInput('w', { sizeBytes }));
  await snapshot('s');
  t.is(await reasonOf(snapshot('s')), 'ok');
  t.is(await reasonOf(snapshot('s', record.id)), 'conflict');
});

test('a truncated image is not captured: the missing part would read as zeros', async (t) => {
  const { record, imageOf, snapshot, copy } = await nodeWith(t);
  await truncate(imageOf(record.id), Number(8n * MiB));
  t.is(await reasonOf(snapshot('s')), 'wrong-state');
  t.is(await reasonOf(copy()), 'wrong-state');
});

for (const kind of ['mount', 'block'] as const) {
  test(`a snapshot of a ${kind} volume with a truncated or missing image is not restored`, async (t) => {
    const { pool, snapshot, copy } = await nodeWith(t, { kind });
    const { id } = (await snapshot('s')).record;
    const image = pool.pathOf('snapshots', id, 'disk.img');
    await chmod(image, 0o600);
    await truncate(image, Number(8n * MiB));
    const restored = copy({
      kind,
      source: { kind: 'snapshot', id },
      range: { requiredBytes: 0n, limitBytes: 0n },
    });
    t.is(await reasonOf(restored), 'wrong-state');
    await rm(image);
    t.is(await reasonOf(copy({ kind, source: { kind: 'snapshot', id } })), 'unavailable');
  });
}

test('a block volume in use cannot be frozen and is not copied', async (t) => {
  const { stage, snapshot, copy } = await nodeWith(t, { kind: 'block', reflink: false });
  await stage();
  t.is(await reasonOf(snapshot('s')), 'wrong-state');
  t.is(await reasonOf(copy({ kind: 'block' })), 'wrong-state');
});

test('a filesystem in use is copied only if it may be frozen for the whole copy', async (t) => {
  const { volumes, record, stage, snapshot, copy } = await nodeWith(t, { reflink: false });
  await stage();
  const asked = {
    name: 't',
    sourceVolumeId: record.id,
    settings: { freeze: false },
    parameters: {},
  };
  t.is(await reasonOf(volumes.createSnapshot(call(), asked)), 'wrong-state');
  t.is(await reasonOf(copy()), 'wrong-state');
  t.is(await reasonOf(snapshot('s')), 'ok');
});

test('a filesystem that is mounted only in another mount namespace cannot be frozen and is not captured', async (t) => {
  const { node, stage, snapshot } = await nodeWith(t);
  await stage();
  const [device] = await node.host.loops.list();
  const stopUse = node.host.useElsewhere(device?.number ?? -1);
  node.host.kernel.mounts.length = 0;
  t.is(await reasonOf(snapshot('s')), 'wrong-state');
  stopUse();
});

test('a copy has its own UUID and the requested size', async (t) => {
  const { node, record, copy, imageOf } = await nodeWith(t);
  const { record: made } = await copy({ sizeBytes: 2n * sizeBytes });
  const { ext4 } = node.host.filesystems;
  const [before, after] = [
    await ext4.readSuperblock(imageOf(record.id)),
    await ext4.readSuperblock(imageOf(made.id)),
  ];
  t.is(before?.uuid, record.fsUuid ?? '');
  t.is(after?.uuid, made.fsUuid ?? '');
  t.not(before?.uuid, after?.uuid);
  t.deepEqual([before?.sizeBytes, after?.sizeBytes], [sizeBytes, 2n * sizeBytes]);
});

for (const [what, change] of [
  ['without a filesystem', { fsType: 'xfs' }],
  ['beyond repair', { state: 'has-errors', damage: 'beyond' }],
] as const) {
  test(`an image ${what} is not copied`, async (t) => {
    const { node, record, volumes, copy, imageOf } = await nodeWith(t);
    await node.host.changeImage(imageOf(record.id), change);
    t.is(await reasonOf(copy()), 'wrong-state');
    const { entries } = await volumes.listVolumes({ maxEntries: 0, startingToken: '' });
    t.is(entries.length, 1);
  });
}

test('a copy has the format of its source and at least its size', async (t) => {
  const { copy } = await nodeWith(t);
  const settings = { ...plainSettings, sectorSize: 512 } as const;
  t.is(await reasonOf(copy({ sizeBytes: MiB })), 'out-of-range');
  t.is(
    await reasonOf(copy({ sizeBytes: 1001n * sizeBytes })),
    'out-of-range',
    'the growth factor of ext4',
  );
  t.is(await reasonOf(copy({ fsType: 'xfs' })), 'invalid');
  t.is(await reasonOf(copy({ settings })), 'invalid');
  t.is(await reasonOf(copy()), 'ok');
});

test('a raw block volume is copied from a filesystem, and a filesystem from that, with a new UUID', async (t) => {
  const { node, record, volumes, snapshot, copy, imageOf } = await nodeWith(t, { fsType: 'ext4' });
  const source = { kind: 'snapshot', id: (await snapshot('s')).record.id } as const;
  const block = (await copy({ kind: 'block', fsType: null, source, sizeBytes: 1001n * sizeBytes }))
    .record;
  t.deepEqual([block.kind, block.fsType, block.fsUuid], ['block', null, null]);
  const { ext4 } = node.host.filesystems;
  const inBlock = await ext4.readSuperblock(imageOf(block.id));
  t.deepEqual([inBlock?.uuid, inBlock?.sizeBytes], [record.fsUuid ?? '', sizeBytes], 'unchanged');
  t.is(
    await reasonOf(copy({ kind: 'block', fsType: null, source, sizeBytes: 1001n * sizeBytes })),
    'ok',
  );

  const smaller = await volumes.createVolume(call(), {
    ...volumeInput('smaller', { kind: 'block', sizeBytes: 2n * sizeBytes, source }),
  });
  const back = { kind: 'volume', id: smaller.record.id } as const;
  const asked = volumeInput('back', { source: back });
  t.is(await reasonOf(volumes.createVolume(call(), { ...asked, fsType: 'xfs' })), 'invalid');
  const unset = { ...asked, fsType: 'xfs', isFsTypeUnset: true } as const;
  const made = (await volumes.createVolume(call(), unset)).record;
  t.deepEqual([made.kind, made.fsType, made.sizeBytes], ['mount', 'ext4', 2n * sizeBytes]);
  const after = await ext4.readSuperblock(imageOf(made.id));
  t.deepEqual([after?.uuid, after?.sizeBytes], [made.fsUuid ?? '', 2n * sizeBytes]);
  t.not(after?.uuid, record.fsUuid ?? '');
  const far = { kind: 'volume', id: block.id } as const;
  t.is(
    await reasonOf(volumes.createVolume(call(), volumeInput('far', { source: far }))),
    'out-of-range',
    'the growth factor of ext4',
  );
});

test('no filesystem is made in a copy of a raw block volume without one', async (t) => {
  const { copy, snapshot, volumes } = await nodeWith(t, { kind: 'block' });
  t.is(await reasonOf(copy()), 'invalid');
  const source = { kind: 'snapshot', id: (await snapshot('s')).record.id } as const;
  for (const isFsTypeUnset of [false, true])
    t.is(await reasonOf(copy({ source, isFsTypeUnset })), 'invalid');
  const { entries } = await volumes.listVolumes({ maxEntries: 0, startingToken: '' });
  t.is(entries.length, 1);
});

test('a snapshot that is still being copied is not restored', async (t) => {
  const { pool, snapshot, copy } = await nodeWith(t);
  const { record } = await snapshot('s');
  const source: VolumeSource = { kind: 'snapshot', id: record.id };
  const under = { allocatedBytes: 0n, sourceModifiedNs: '1' };
  pool.snapshots.put({ ...record, state: 'copying', copy: under });
  t.is(await reasonOf(copy({ source })), 'busy');
  pool.snapshots.put(record);
  t.is(await reasonOf(copy({ source })), 'ok');
});
