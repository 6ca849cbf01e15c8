import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { call, capability, volumeInput } from '../../helpers/scratch-node.ts';
import { fakeNode, subjectOn } from '../../model/subject.ts';

test('a block volume whose device somebody detached can be unstaged and staged again', async (t) => {
  const node = await fakeNode({ reflink: true });
  const subject = await subjectOn(node);
  try {
    const { volumes } = subject.opened();
    const block = { kind: 'block', fsType: null } as const;
    const { record } = await volumes.createVolume(call(), volumeInput('raw', block));
    const stagingTargetPath = join(node.directory, 'staging');
    await mkdir(stagingTargetPath);
    const asked = {
      volumeId: record.id,
      stagingTargetPath,
      capability: capability({ kind: 'block' }),
    };
    await volumes.stageVolume(call(), asked);
    const [device] = await node.host.loops.list();
    t.not(device, undefined);
    // As `losetup --detach` does: a bound node does not hold its device.
    if (device !== undefined) await node.host.loops.detach(device);
    t.deepEqual(await node.host.loops.list(), []);
    t.is((await node.host.mounts.list()).length, 1, 'the bind stays');

    await volumes.unstageVolume(call(), asked);
    t.deepEqual(await node.host.mounts.list(), []);
    await volumes.stageVolume(call(), asked);
    t.is((await node.host.loops.list()).length, 1);
    await volumes.unstageVolume(call(), asked);
    t.deepEqual(await node.host.mounts.list(), []);
  } finally {
    await subject.close();
    await node.remove();
  }
});
