import { mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { KernelError } from '../../../../src/host/errors.ts';
import { MiB } from '../../../../src/units.ts';
import type { FaultPoint } from '../../../../src/volumes/engine/fault-points.ts';
import type { Capability } from '../../../../src/volumes/model.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { type FakeSuperblock, writeFakeSuperblock } from '../../../helpers/fake-superblock.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, capability, volumeInput } from '../../../helpers/scratch-node.ts';

const sizeBytes = 320n * MiB;

/** A raw block volume whose image has a superblock, unless that is null. */
async function blockVolume(
  t: ExecutionContext,
  superblock: Partial<FakeSuperblock> | null = {},
  volumeBytes = sizeBytes,
) {
  const node = await fakeNode(t);
  const armed: { point?: FaultPoint } = {};
  const reached = (point: FaultPoint): void => {
    if (point !== armed.point) return;
    delete armed.point;
    throw new Error(`stopped at ${point}`);
  };
  const start = () => node.open([node.settings('a')], { reached });
  let opened = await start();
  const input = volumeInput('v', { kind: 'block', sizeBytes: volumeBytes });
  const { id } = (await opened.volumes.createVolume(call(), input)).record;
  const image = join(node.directory, 'a', 'volumes', id, 'disk.img');
  if (superblock !== null) {
    await writeFakeSuperblock(image, {
      fsType: 'xfs',
      uuid: '11111111-1111-4111-8111-111111111111',
      sizeBytes,
      state: 'clean',
      maxSectorSize: 4096,
      damage: 'none',
      hasLostAndFound: false,
      isInterrupted: false,
      ...superblock,
    });
  }
  const stagingTargetPath = join(node.directory, 'staging');
  await mkdir(stagingTargetPath);
  const stage = (asked: Partial<Capability> = {}) =>
    opened.volumes.stageVolume(call(), {
      volumeId: id,
      stagingTargetPath,
      capability: capability(asked),
    });
  return {
    node,
    armed,
    id,
    image,
    stage,
    volumes: () => opened.volumes,
    administration: () => opened.administration,
    create: () => opened.volumes.createVolume(call(), input),
    record: () => opened.domain.pools.getVolume(id).record,
    unstage: () => opened.volumes.unstageVolume(call(), { volumeId: id, stagingTargetPath }),
    restart: async () => {
      await opened.close(100);
      opened = await start();
    },
    mount: async () => (await node.host.mounts.list())[0],
  };
}

test('a block volume is staged as the filesystem that it contains, and stays one', async (t) => {
  const made = await blockVolume(t);
  const { xfs } = made.node.host.filesystems;
  const before = await xfs.readSuperblock(made.image);
  await made.stage({ fsType: 'xfs' });
  t.like(made.record(), { kind: 'mount', createdKind: 'block', fsType: 'xfs' });
  t.is(made.record().fsUuid, before?.uuid ?? '');
  t.is((await made.mount())?.fsType, 'xfs');
  await made.stage({ fsType: 'xfs' });
  t.is(await reasonOf(made.create()), 'ok', 'the request that created it is repeated');
  await made.unstage();
  t.deepEqual(await xfs.readSuperblock(made.image), before, 'nothing was written');
  await made.restart();
  t.is(made.record().kind, 'mount');
  await made.stage();
  t.is(await reasonOf(made.stage({ kind: 'block' })), 'wrong-state', 'it is in use');
  t.is(made.record().kind, 'mount');
  await made.unstage();
});

test('it becomes a block volume again when it is staged as one, also if its filesystem cannot be mounted', async (t) => {
  const made = await blockVolume(t);
  const failure = () => new KernelError('mount', 'EUCLEAN', 'a test');
  // The mount is tried twice.
  for (let time = 0; time < 2; time += 1) made.node.host.failNext('mounts.mountDevice', failure());
  t.not(await reasonOf(made.stage({ fsType: 'xfs' })), 'ok');
  t.is(made.record().kind, 'mount');
  await made.stage({ kind: 'block' });
  t.like(made.record(), { kind: 'block', fsType: null, fsUuid: null });
  t.is(await reasonOf(made.stage({ fsType: 'xfs' })), 'wrong-state', 'it is in use');
  await made.restart();
  await made.stage({ kind: 'block' });
  await made.unstage();
  t.is(await reasonOf(made.create()), 'ok', 'the request that created it is repeated');
  await made.stage({ fsType: 'xfs' });
  t.is(made.record().fsType, 'xfs');
});

test('a btrfs that could only grow to more than the volume is refused before the volume becomes one', async (t) => {
  const made = await blockVolume(t, { fsType: 'btrfs', sizeBytes: 120n * MiB }, 200n * MiB);
  const error = await t.throwsAsync(made.stage({ fsType: 'btrfs' }));
  t.regex(error?.message ?? '', /can only grow to 256(.0)? MiB or more; expand the volume/);
  t.is(made.record().kind, 'block');
});

test('a volume that was created with a filesystem never becomes a block volume', async (t) => {
  const made = await blockVolume(t);
  const input = volumeInput('mounted', { fsType: 'xfs', sizeBytes });
  const { id } = (await made.volumes().createVolume(call(), input)).record;
  const stagingTargetPath = join(made.node.directory, 'staging-mounted');
  await mkdir(stagingTargetPath);
  const asked = { volumeId: id, stagingTargetPath, capability: capability({ kind: 'block' }) };
  t.is(await reasonOf(made.volumes().stageVolume(call(), asked)), 'wrong-state');
});

/** A partition table, and the end of a member of an md array with metadata 1.0 or 0.90. */
const foreign = {
  'an MBR': [446n, Buffer.from('8000000083000000000800000000080055aa', 'hex'), 510n],
  'a GPT': [512n, Buffer.from('EFI PART')],
  'md metadata 1.0': [sizeBytes - 8192n, Buffer.from('fc4e2ba9', 'hex')],
  'md metadata 0.90': [sizeBytes - 65_536n, Buffer.from('fc4e2ba9', 'hex')],
} as const;

for (const [what, [offset, bytes, signatureAt]] of Object.entries(foreign)) {
  test(`an image with a superblock and ${what} is not staged as a filesystem`, async (t) => {
    const made = await blockVolume(t);
    const file = await open(made.image, 'r+');
    const body = signatureAt === undefined ? bytes : bytes.subarray(0, 16);
    await file.write(body, 0, body.length, Number(offset));
    if (signatureAt !== undefined) await file.write(bytes, 16, 2, Number(signatureAt));
    await file.close();
    const error = await t.throwsAsync(made.stage({ fsType: 'xfs' }));
    t.regex(error?.message ?? '', /has partitions, or is a member of an md array/);
    t.is(made.record().kind, 'block');
  });
}

test('it is mounted beside its original, which has the same UUID', async (t) => {
  const made = await blockVolume(t, null);
  const { volumes } = made;
  const input = volumeInput('original', { fsType: 'xfs', sizeBytes });
  const { id } = (await volumes().createVolume(call(), input)).record;
  const clone = await volumes().createVolume(call(), {
    ...volumeInput('clone', { kind: 'block', sizeBytes }),
    source: { kind: 'volume', id },
  });
  for (const volumeId of [id, clone.record.id, made.id]) {
    const stagingTargetPath = join(made.node.directory, `staging-${volumeId}`);
    await mkdir(stagingTargetPath);
    const asked = { volumeId, stagingTargetPath, capability: capability({ fsType: 'xfs' }) };
    const isEmpty = volumeId === made.id;
    t.is(
      await reasonOf(volumes().stageVolume(call(), asked)),
      isEmpty ? 'wrong-state' : 'ok',
      volumeId,
    );
  }
  t.is((await made.node.host.mounts.list()).length, 2);
});

test('it is trimmed while its original is mounted and it is not', async (t) => {
  const made = await blockVolume(t);
  const { volumes } = made;
  const input = volumeInput('original', { fsType: 'xfs', sizeBytes });
  const original = (await volumes().createVolume(call(), input)).record;
  await made.node.host.changeImage(made.image, { uuid: original.fsUuid ?? '' });
  await made.stage({ fsType: 'xfs' });
  await made.unstage();
  const stagingTargetPath = join(made.node.directory, 'staging-original');
  await mkdir(stagingTargetPath);
  const asked = { volumeId: original.id, stagingTargetPath, capability: capability() };
  await volumes().stageVolume(call(), asked);
  t.is(await reasonOf(made.administration().trimVolume(call(), made.id)), 'ok');
});

test('an unused block volume may be expanded for its filesystem, which the stage grows', async (t) => {
  const made = await blockVolume(t);
  const expand = () =>
    made.volumes().expandVolume(call(), {
      volumeId: made.id,
      range: { requiredBytes: 2n * sizeBytes, limitBytes: 0n },
      capability: capability({ fsType: 'xfs' }),
    });
  t.is((await expand()).sizeBytes, 2n * sizeBytes);
  await made.stage({ fsType: 'xfs' });
  const { xfs } = made.node.host.filesystems;
  t.is((await xfs.readSuperblock(made.image))?.sizeBytes, 2n * sizeBytes);
});

test('a stage that ends after the record was written is completed by the repeated stage, also after a restart', async (t) => {
  for (const isRestarted of [false, true]) {
    const made = await blockVolume(t);
    made.armed.point = 'stage:kind-recorded';
    await t.throwsAsync(made.stage());
    t.is((await made.node.host.loops.list()).length, 0);
    if (isRestarted) await made.restart();
    await made.stage();
    t.is(made.record().fsType, 'xfs');
    await made.unstage();
  }
});

for (const [what, superblock, asked] of [
  ['without a filesystem', null, { fsType: '' }],
  ['with another filesystem', {}, { fsType: 'ext4' }],
  ['with a filesystem that is larger than it', { sizeBytes: 2n * sizeBytes }, { fsType: 'xfs' }],
  ['with recorded errors', { state: 'has-errors' }, { fsType: 'xfs' }],
  ['that is too large for its ext4', { fsType: 'ext4', sizeBytes: 100_000n }, { fsType: 'ext4' }],
] as const) {
  test(`a block volume ${what} is not staged as a filesystem, and stays as it is`, async (t) => {
    const made = await blockVolume(t, superblock);
    const before = made.record();
    t.is(await reasonOf(made.stage(asked)), 'wrong-state');
    t.deepEqual(made.record(), before);
    t.is((await made.node.host.loops.list()).length, 0);
    await made.stage({ kind: 'block' });
  });
}

test('a block volume with refused mount flags stays as it is', async (t) => {
  const made = await blockVolume(t);
  t.is(await reasonOf(made.stage({ mountFlags: ['norecovery'] })), 'invalid');
  t.is(made.record().kind, 'block');
});

test('a block volume in use is not staged as a filesystem', async (t) => {
  const made = await blockVolume(t);
  await made.stage({ kind: 'block' });
  t.is(await reasonOf(made.stage()), 'wrong-state');
  await made.unstage();
  await made.stage();
});
