import { mkdir, rm, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { MiB } from '../../../../src/units.ts';
import type { FaultPoint } from '../../../../src/volumes/engine/fault-points.ts';
import type { FakeHostOptions } from '../../../helpers/fake-host.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, capability, volumeInput } from '../../../helpers/scratch-node.ts';

const range = { requiredBytes: 32n * MiB, limitBytes: 0n };

for (const wrong of [{ kind: 'block' }, { fsType: 'xfs' }] as const) {
  test(`an expansion with ${JSON.stringify(wrong)} is invalid and grows nothing`, async (t) => {
    const node = await fakeNode(t);
    const { volumes } = await node.open([node.settings('a')]);
    const input = volumeInput('v', { sizeBytes: 16n * MiB });
    const { record } = await volumes.createVolume(call(), input);
    const volumePath = join(node.directory, 'staging');
    await mkdir(volumePath);
    const at = { volumeId: record.id, stagingTargetPath: volumePath, capability: capability() };
    await volumes.stageVolume(call(), at);

    const asked = { volumeId: record.id, range, capability: capability(wrong) };
    t.is(await reasonOf(volumes.expandVolume(call(), asked)), 'invalid');
    t.is(await reasonOf(volumes.nodeExpandVolume(call(), { ...asked, volumePath })), 'invalid');
    t.is((await volumes.createVolume(call(), input)).record.sizeBytes, 16n * MiB);
  });
}

/** A node with a volume of 16 MiB, and a hook that makes a call fail once at a fault point. */
async function nodeWith(t: ExecutionContext, options: FakeHostOptions = {}) {
  const node = await fakeNode(t, options);
  let at: FaultPoint | undefined;
  const { volumes, domain } = await node.open([node.settings('a')], {
    reached: (point) => {
      if (point !== at) return;
      at = undefined;
      throw new Error('killed here');
    },
  });
  const { record } = await volumes.createVolume(call(), volumeInput('v', { sizeBytes: 16n * MiB }));
  const volumeId = record.id;
  const staging = join(node.directory, 'staging');
  const image = domain.pools.named('a').pathOf('volumes', volumeId, 'disk.img');
  await mkdir(staging);
  return {
    node,
    volumes,
    image,
    staging,
    failAt: (point: FaultPoint) => {
      at = point;
    },
    stage: (mountFlags: readonly string[] = []) =>
      volumes.stageVolume(call(), {
        volumeId,
        stagingTargetPath: staging,
        capability: capability({ mountFlags }),
      }),
    unstage: () => volumes.unstageVolume(call(), { volumeId, stagingTargetPath: staging }),
    expand: (requiredBytes = range.requiredBytes, limitBytes = 0n) =>
      volumes.expandVolume(call(), { volumeId, range: { requiredBytes, limitBytes } }),
    expandOnNode: (volumePath = staging) =>
      volumes.nodeExpandVolume(call(), { volumeId, volumePath, range }),
    /** Sizes of image, device and filesystem. */
    sizes: async () => [
      (await node.host.files.imageStatus(image)).sizeBytes / MiB,
      ((await node.host.loops.list())[0]?.sizeBytes ?? 0n) / MiB,
      ((await node.host.filesystems.ext4.readSuperblock(image))?.sizeBytes ?? 0n) / MiB,
    ],
  };
}

test('a volume never shrinks, and grows up to the capacity of its pool', async (t) => {
  const { expand, sizes } = await nodeWith(t);
  t.is(await reasonOf(expand(0n, 8n * MiB)), 'out-of-range');
  t.is(await reasonOf(expand(1n << 60n)), 'out-of-range');
  t.is((await expand(1n)).sizeBytes, 16n * MiB, 'it is already larger');
  t.deepEqual(await sizes(), [16n, 0n, 16n]);
});

test('a truncated image is not grown, which would hide the loss', async (t) => {
  const { image, expand, sizes } = await nodeWith(t);
  await truncate(image, Number(8n * MiB));
  t.is(await reasonOf(expand()), 'wrong-state');
  t.is(await reasonOf(expand(1n)), 'wrong-state', 'not even to its old size');
  t.deepEqual(await sizes(), [8n, 0n, 16n]);
  await rm(image);
  t.is(await reasonOf(expand()), 'unavailable');
});

test('ext4 grows only by a limited factor, and no volume grows beyond the maximum that its pool can promise', async (t) => {
  const { node, expand } = await nodeWith(t);
  await t.throwsAsync(expand(1001n * 16n * MiB), { message: /by at most a factor of 1000/ });
  const { files } = node.host;
  const capacity = files.capacity.bind(files);
  files.capacity = async (path) => ({ ...(await capacity(path)), totalBytes: 24n * MiB });
  t.is(await reasonOf(expand()), 'out-of-range');
});

test('image, device and filesystem grow in use', async (t) => {
  const { stage, expand, expandOnNode, sizes } = await nodeWith(t);
  await stage();
  t.is((await expand()).remaining, 'node-expand');
  t.deepEqual(await sizes(), [32n, 16n, 16n]);
  await expandOnNode();
  t.deepEqual(await sizes(), [32n, 32n, 32n]);
  t.is((await expand()).remaining, 'none');
});

test('a volume that is not staged needs no NodeExpandVolume: its next stage grows it', async (t) => {
  const { stage, unstage, expand, sizes } = await nodeWith(t);
  t.is((await expand()).remaining, 'next-stage');
  t.is((await expand()).remaining, 'next-stage', 'also if the call is repeated');
  t.deepEqual(await sizes(), [32n, 0n, 16n]);
  await stage();
  t.is((await expand()).remaining, 'none');
  t.deepEqual(await sizes(), [32n, 32n, 32n]);
  t.is((await expand(48n * MiB)).remaining, 'node-expand');
  await unstage();
  t.is((await expand(48n * MiB)).remaining, 'next-stage');
});

test('a stage that is killed before it grows the filesystem leaves a volume that needs NodeExpandVolume, and the repeated stage grows it', async (t) => {
  const { node, stage, expand, failAt, sizes } = await nodeWith(t);
  t.is((await expand()).remaining, 'next-stage');
  failAt('stage:mounted');
  // A killed driver does not undo the stage.
  node.host.failNext('mounts.unmount', new Error('killed here'));
  t.not(await reasonOf(stage()), 'ok');
  t.deepEqual(await sizes(), [32n, 32n, 16n]);
  t.is((await expand()).remaining, 'node-expand');
  await stage();
  t.deepEqual(await sizes(), [32n, 32n, 32n]);
});

test('a volume that is staged for its caller, but was unmounted by a killed growth, needs NodeExpandVolume', async (t) => {
  const options = { canGrowExt4Online: false };
  const { stage, expand, expandOnNode, failAt, node, staging, sizes } = await nodeWith(t, options);
  await stage();
  await expand();
  failAt('expand:unmounted');
  const remount = node.host.mounts.mountDevice.bind(node.host.mounts);
  node.host.mounts.mountDevice = async () => {
    node.host.mounts.mountDevice = remount;
    throw new Error('killed before the mount');
  };
  t.not(await reasonOf(expandOnNode()), 'ok');
  t.false((await node.host.mounts.list()).some(({ target }) => target === staging));
  for (const device of await node.host.loops.list()) await node.host.loops.detach(device);
  t.is((await expand()).remaining, 'node-expand');
  await expandOnNode();
  t.deepEqual(await sizes(), [32n, 32n, 32n]);
});

test('a stage with the option ro grows the filesystem before it is mounted; in use it does not grow, and NodeExpandVolume succeeds once it has grown', async (t) => {
  const { stage, unstage, expand, expandOnNode, sizes } = await nodeWith(t);
  await expand();
  await stage(['ro']);
  t.deepEqual(await sizes(), [32n, 32n, 32n]);
  t.is((await expand(48n * MiB)).remaining, 'node-expand');
  t.is(await reasonOf(expandOnNode()), 'wrong-state');
  await unstage();
  await stage(['ro']);
  t.deepEqual(await sizes(), [48n, 48n, 48n]);
  await expandOnNode();
  t.is((await expand(64n * MiB)).remaining, 'node-expand');
  t.is(await reasonOf(expandOnNode()), 'wrong-state');
  await stage(['ro']);
  t.deepEqual(
    await sizes(),
    [64n, 64n, 64n],
    'the repeated stage of a volume without publications',
  );
});

test('if ext4 cannot grow in use, it grows before it is mounted', async (t) => {
  const { stage, expand, sizes } = await nodeWith(t, { canGrowExt4Online: false });
  await expand();
  t.deepEqual(await sizes(), [32n, 0n, 16n]);
  await stage();
  t.deepEqual(await sizes(), [32n, 32n, 32n]);
});

test('an interrupted growth is completed by the repeated call', async (t) => {
  const { expand, failAt, sizes } = await nodeWith(t);
  failAt('expand:promised');
  t.not(await reasonOf(expand()), 'ok');
  t.deepEqual(await sizes(), [16n, 0n, 16n]);
  await expand();
  t.deepEqual(await sizes(), [32n, 0n, 16n]);
});

test('a volume grows only at a path where it is mounted', async (t) => {
  const { node, stage, expandOnNode, sizes } = await nodeWith(t);
  t.is(await reasonOf(expandOnNode()), 'not-found');
  await stage();
  t.is(await reasonOf(expandOnNode(join(node.directory, 'other'))), 'not-found');
  t.deepEqual(await sizes(), [16n, 16n, 16n]);
  t.is(await reasonOf(expandOnNode()), 'ok');
});
