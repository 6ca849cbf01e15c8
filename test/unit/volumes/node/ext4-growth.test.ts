import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { MiB } from '../../../../src/units.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { call, capability, volumeInput } from '../../../helpers/scratch-node.ts';

async function grownWhileIdle(t: ExecutionContext, canGrowExt4Online: boolean) {
  const node = await fakeNode(t, { canGrowExt4Online });
  const { volumes, domain } = await node.open([node.settings('a')]);
  const input = volumeInput('v', { sizeBytes: 16n * MiB });
  const { record } = await volumes.createVolume(call(), input);
  const range = { requiredBytes: 32n * MiB, limitBytes: 0n };
  await volumes.expandVolume(call(), { volumeId: record.id, range });
  const stagingTargetPath = join(node.directory, 'staging');
  await mkdir(stagingTargetPath);
  const image = domain.pools.named('a').pathOf('volumes', record.id, 'disk.img');
  const asked = { volumeId: record.id, stagingTargetPath, capability: capability() };
  const { ext4 } = node.host.filesystems;
  return {
    node,
    stage: () => volumes.stageVolume(call(), asked),
    sizeBytes: async () => (await ext4.readSuperblock(image))?.sizeBytes,
    grewOffline: () => node.host.calls.includes('filesystems.ext4.growUnmounted'),
  };
}

test('with CAP_SYS_RESOURCE an interrupted growth of ext4 is completed after the mount, without any program', async (t) => {
  const { stage, sizeBytes, grewOffline } = await grownWhileIdle(t, true);
  await stage();
  t.is(await sizeBytes(), 32n * MiB);
  t.false(grewOffline());
});

test('without CAP_SYS_RESOURCE an interrupted growth of ext4 is completed before the mount', async (t) => {
  const { stage, sizeBytes, grewOffline } = await grownWhileIdle(t, false);
  await stage();
  t.is(await sizeBytes(), 32n * MiB);
  t.true(grewOffline());
});

test('an ext4 that the kernel does not grow in use is unmounted, grown and mounted again', async (t) => {
  const { node, stage, sizeBytes, grewOffline } = await grownWhileIdle(t, true);
  const { ext4 } = node.host.filesystems;
  ext4.growMounted = () => Promise.resolve('not-permitted');
  await stage();
  t.is(await sizeBytes(), 32n * MiB);
  t.true(grewOffline());
  t.is((await node.host.mounts.list()).length, 1);
});

test('a stage that was killed before such a growth is completed by the repeated stage', async (t) => {
  const { node, stage, sizeBytes, grewOffline } = await grownWhileIdle(t, true);
  const { ext4 } = node.host.filesystems;
  ext4.growMounted = () => Promise.reject(new Error('killed here'));
  // A killed driver does not undo the stage.
  node.host.failNext('mounts.unmount', new Error('killed here'));
  await t.throwsAsync(stage());
  t.is(await sizeBytes(), 16n * MiB);
  t.is((await node.host.mounts.list()).length, 1);
  ext4.growMounted = () => Promise.resolve('not-permitted');
  await stage();
  t.is(await sizeBytes(), 32n * MiB);
  t.true(grewOffline());
  t.is((await node.host.mounts.list()).length, 1);
});

test('an interrupted change of a killed program is undone before the image is used', async (t) => {
  const { node, stage } = await grownWhileIdle(t, false);
  const before = node.host.calls.length;
  await stage();
  const calls = node.host.calls.slice(before);
  const recovered = calls.indexOf('filesystems.ext4.recover');
  t.true(recovered >= 0);
  t.true(recovered < calls.indexOf('filesystems.ext4.readSuperblock'));
  t.true(recovered < calls.indexOf('loops.attach'));
});
