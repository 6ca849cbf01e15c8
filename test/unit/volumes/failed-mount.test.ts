import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { KernelError } from '../../../src/host/errors.ts';
import { attachedOnly } from '../../helpers/attached-only.ts';
import { fakeNode } from '../../helpers/fake-node.ts';
import { reasonOf } from '../../helpers/reason-of.ts';
import { call, capability, volumeInput } from '../../helpers/scratch-node.ts';

const cases = [
  { name: 'refused by the kernel', error: 'EUCLEAN', after: false, attached: 0, mounted: 0 },
  // The caller was told of a failure, but what is mounted is in use: its device must stay.
  { name: 'that happened all the same', error: 'EIO', after: true, attached: 1, mounted: 1 },
] as const;

for (const { name, error, after, attached, mounted } of cases) {
  test(`a mount ${name} leaves ${attached} devices, and the repeated stage succeeds`, async (t) => {
    const node = await fakeNode(t);
    const { volumes } = await node.open([node.settings('a')]);
    const { record } = await volumes.createVolume(call(), volumeInput('v'));
    const stagingTargetPath = join(node.directory, 'staging');
    await mkdir(stagingTargetPath);
    const asked = { volumeId: record.id, stagingTargetPath, capability: capability() };
    node.host.failNext('mounts.mountDevice', new KernelError('mount', error, 'a test'), { after });
    t.is(await reasonOf(volumes.stageVolume(call(), asked)), 'wrong-state');
    t.deepEqual(
      (await node.host.loops.list()).map(({ autoclear }) => autoclear),
      Array(attached).fill(false),
      'and nobody asked for the end of what is left',
    );
    t.is((await node.host.mounts.list()).length, mounted);
    await volumes.stageVolume(call(), asked);
    t.is((await node.host.loops.list()).length, 1);
    t.is((await node.host.mounts.list()).length, 1);
    await volumes.unstageVolume(call(), asked);
    t.deepEqual(await node.host.loops.list(), []);
  });
}

test('an image that is attached already is used as it is, never attached twice', async (t) => {
  const { node, volumes, asked } = await attachedOnly(t);
  await volumes.stageVolume(call(), asked);
  t.is((await node.host.loops.list()).length, 1);
});

test('a delete detaches what nobody uses', async (t) => {
  const { node, volumes, asked } = await attachedOnly(t);
  await volumes.deleteVolume(call(), asked.volumeId);
  t.deepEqual(await node.host.loops.list(), []);
});

test('a delete spares what is used in another mount namespace', async (t) => {
  const { node, volumes, asked } = await attachedOnly(t);
  const [device] = await node.host.loops.list();
  const letGo = node.host.useElsewhere(device?.number ?? -1);
  t.is(await reasonOf(volumes.deleteVolume(call(), asked.volumeId)), 'wrong-state');
  t.false((await node.host.loops.list())[0]?.autoclear, 'nobody asked for its end');
  letGo();
  await volumes.deleteVolume(call(), asked.volumeId);
  t.deepEqual(await node.host.loops.list(), []);
});
