import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { KernelError } from '../../../../src/host/errors.ts';
import { MiB } from '../../../../src/units.ts';
import type { FakeHostOptions } from '../../../helpers/fake-host.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, capability, volumeInput } from '../../../helpers/scratch-node.ts';

const failure = () => new KernelError('resize', 'EIO', 'a test');

/** A volume that was expanded to 32 MiB while it was not staged. */
async function expandedVolume(
  t: ExecutionContext,
  options: FakeHostOptions & { readonly kind?: 'block' } = {},
) {
  const { kind = 'mount', ...hostOptions } = options;
  const node = await fakeNode(t, hostOptions);
  const { volumes, domain } = await node.open([node.settings('a')]);
  const input = volumeInput('v', { kind, sizeBytes: 16n * MiB });
  const { id: volumeId } = (await volumes.createVolume(call(), input)).record;
  const range = { requiredBytes: 32n * MiB, limitBytes: 0n };
  const expand = async () => (await volumes.expandVolume(call(), { volumeId, range })).remaining;
  await expand();
  const stagingTargetPath = join(node.directory, 'staging');
  await mkdir(stagingTargetPath);
  const image = domain.pools.named('a').pathOf('volumes', volumeId, 'disk.img');
  const { host } = node;
  return {
    volumes,
    volumeId,
    host,
    expand,
    stagingTargetPath,
    stage: (mountFlags: readonly string[] = []) =>
      volumes.stageVolume(call(), {
        volumeId,
        stagingTargetPath,
        capability: capability({ kind, mountFlags }),
      }),
    sizeBytes: async () => (await host.filesystems.ext4.readSuperblock(image))?.sizeBytes,
    /** Lets another mount namespace use the device of the volume from now on. */
    useElsewhere: async () => host.useElsewhere((await host.loops.list())[0]?.number ?? -1),
    isLeft: async () =>
      (await host.mounts.list()).length > 0 || (await host.loops.list()).length > 0,
  };
}

test('a stage that cannot grow the filesystem is undone, and the volume can be deleted', async (t) => {
  const { host, stage, expand, isLeft, volumes, volumeId } = await expandedVolume(t);
  host.failNext('filesystems.ext4.growMounted', failure());
  t.is(await reasonOf(stage()), 'internal');
  t.false(await isLeft());
  t.is(await expand(), 'next-stage', 'it does not count as staged');
  await volumes.deleteVolume(call(), volumeId);
});

test('a stage whose mount fails does not leave the volume recorded as staged', async (t) => {
  const { host, stage, expand, isLeft, sizeBytes } = await expandedVolume(t);
  for (let time = 0; time < 2; time += 1) host.failNext('mounts.mountDevice', failure());
  t.not(await reasonOf(stage()), 'ok');
  t.false(await isLeft());
  t.is(await expand(), 'next-stage');
  await stage();
  t.is(await sizeBytes(), 32n * MiB);
});

test('a stage of a block volume whose bind fails is undone', async (t) => {
  const { host, stage, isLeft, volumes, volumeId } = await expandedVolume(t, { kind: 'block' });
  host.failNext('mounts.bind', failure());
  t.not(await reasonOf(stage()), 'ok');
  t.false(await isLeft());
  await stage();
  t.true(await isLeft());
  t.is(await reasonOf(volumes.deleteVolume(call(), volumeId)), 'wrong-state');
});

test('a failed stage of a volume that is published stays mounted', async (t) => {
  const { host, stage, volumes, volumeId, stagingTargetPath } = await expandedVolume(t);
  await stage();
  const targetPath = `${stagingTargetPath}-target`;
  const at = { volumeId, stagingTargetPath, targetPath };
  await volumes.publishVolume(call(), { ...at, capability: capability(), readOnly: false });
  const range = { requiredBytes: 48n * MiB, limitBytes: 0n };
  await volumes.expandVolume(call(), { volumeId, range });
  await host.mounts.unmount(stagingTargetPath);
  host.failNext('filesystems.ext4.growMounted', failure());
  t.is(await reasonOf(stage()), 'internal');
  t.deepEqual(
    (await host.mounts.list()).map(({ target }) => target),
    [targetPath, stagingTargetPath],
  );
});

test('a stage that finds something else mounted at its path unmounts nothing', async (t) => {
  const { host, stage, stagingTargetPath } = await expandedVolume(t);
  const source = `${stagingTargetPath}-other`;
  await mkdir(source);
  await host.mounts.bind(source, stagingTargetPath, { readOnly: false });
  t.is(await reasonOf(stage()), 'wrong-state');
  t.deepEqual(
    (await host.mounts.list()).map(({ target }) => target),
    [stagingTargetPath],
  );
});

test('a stage fails if the filesystem can grow only offline and its device is in use elsewhere', async (t) => {
  const { host, stage, sizeBytes, useElsewhere } = await expandedVolume(t);
  const { ext4 } = host.filesystems;
  let stopUse: (() => void) | undefined;
  ext4.growMounted = async () => {
    stopUse ??= await useElsewhere();
    return 'not-permitted';
  };
  t.is(await reasonOf(stage()), 'busy');
  t.is(await sizeBytes(), 16n * MiB);
  t.deepEqual(await host.mounts.list(), []);
  t.is(await reasonOf(stage()), 'busy', 'the repeated call too');
  stopUse?.();
  await stage();
  t.is(await sizeBytes(), 32n * MiB);
});

test('a stage waits for the end of a use, since an unmount completes in the background', async (t) => {
  const { host, stage, sizeBytes, useElsewhere } = await expandedVolume(t);
  const { ext4 } = host.filesystems;
  const isInUse = host.loops.isInUse.bind(host.loops);
  ext4.growMounted = async () => {
    const stopUse = await useElsewhere();
    host.loops.isInUse = async (device) => {
      const result = await isInUse(device);
      stopUse();
      return result;
    };
    return 'not-permitted';
  };
  await stage();
  t.is(await sizeBytes(), 32n * MiB);
});

for (const { what, options, mountFlags } of [
  { what: 'without CAP_SYS_RESOURCE', options: { canGrowExt4Online: false }, mountFlags: [] },
  { what: 'with the option ro', options: {}, mountFlags: ['ro'] },
] as const) {
  test(`${what}, a stage fails while the device of the volume is in use elsewhere`, async (t) => {
    const { host, stage, sizeBytes, useElsewhere, stagingTargetPath, volumes, volumeId } =
      await expandedVolume(t, options);
    await stage(mountFlags);
    const range = { requiredBytes: 48n * MiB, limitBytes: 0n };
    const stopUse = await useElsewhere();
    t.not(
      await reasonOf(volumes.unstageVolume(call(), { volumeId, stagingTargetPath })),
      'ok',
      'it is unmounted, and stays attached',
    );
    await volumes.expandVolume(call(), { volumeId, range });
    t.is(await reasonOf(stage(mountFlags)), 'busy');
    t.is(await sizeBytes(), 32n * MiB);
    t.deepEqual(await host.mounts.list(), []);
    stopUse();
    await stage(mountFlags);
    t.is(await sizeBytes(), 48n * MiB);
  });
}
