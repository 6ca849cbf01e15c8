import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { changedHost } from '../../../helpers/changed-host.ts';
import { call, capability, volumeInput } from '../../../helpers/scratch-node.ts';
import { fakeNode, subjectOn } from '../../../model/subject.ts';

test('a driver does not change a volume with the same id that another driver of this node serves', async (t) => {
  const node = await fakeNode({ reflink: true });
  const directory = await mkdtemp(`${node.directory}-other-`);
  const first = await subjectOn(node);
  const second = await subjectOn({ ...node, directory });
  try {
    const { record } = await first.opened().volumes.createVolume(call(), volumeInput('data'));
    const volumeId = record.id;
    const stagingTargetPath = join(node.directory, 'staging');
    await mkdir(stagingTargetPath);
    const asked = { volumeId, stagingTargetPath, capability: capability() };
    await first.opened().volumes.stageVolume(call(), asked);

    const { volumes } = second.opened();
    const targetPath = stagingTargetPath;
    // The second driver does not know the id, then has an idle volume with it, then does not know it again.
    await t.throwsAsync(volumes.unpublishVolume(call(), { volumeId, targetPath }));
    await volumes.unstageVolume(call(), { volumeId, stagingTargetPath });
    const made = await volumes.createVolume(call(), volumeInput('data'));
    t.is(made.record.id, volumeId, 'ids are derived from names');
    await volumes.unstageVolume(call(), { volumeId, stagingTargetPath });
    await volumes.deleteVolume(call(), volumeId);

    t.is((await node.host.mounts.list()).length, 1, 'still mounted');
    const [device] = await node.host.loops.list();
    t.false(device?.autoclear, 'and no detach was requested');
    await first.opened().volumes.unstageVolume(call(), asked);
    t.deepEqual(await node.host.loops.list(), []);
  } finally {
    await first.close();
    await second.close();
    await node.remove();
    await rm(directory, { recursive: true, force: true });
  }
});

test('volumes of another driver are not changed even if its images cannot be seen', async (t) => {
  const node = await fakeNode({ reflink: true });
  const directory = await mkdtemp(`${node.directory}-other-`);
  const first = await subjectOn(node);
  // As from another mount namespace: the path that the kernel reports does not exist here.
  const loops = new Proxy(node.host.loops, {
    get: (target, key): unknown =>
      key === 'backingPath' ? async () => '/not/seen/disk.img' : Reflect.get(target, key),
  });
  const second = await subjectOn({
    ...node,
    directory,
    host: changedHost(node.host, () => ({ loops: loops })),
  });
  try {
    const { record } = await first.opened().volumes.createVolume(call(), volumeInput('data'));
    const volumeId = record.id;
    const stagingTargetPath = join(node.directory, 'staging');
    await mkdir(stagingTargetPath);
    const asked = { volumeId, stagingTargetPath, capability: capability() };
    await first.opened().volumes.stageVolume(call(), asked);
    const elsewhere = join(directory, 'staging');
    await second.opened().volumes.unstageVolume(call(), { volumeId, stagingTargetPath: elsewhere });
    t.is((await node.host.mounts.list()).length, 1);
    t.false((await node.host.loops.list())[0]?.autoclear);
    await first.opened().volumes.unstageVolume(call(), asked);
  } finally {
    await first.close();
    await second.close();
    await node.remove();
    await rm(directory, { recursive: true, force: true });
  }
});
