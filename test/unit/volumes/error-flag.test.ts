import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { fakeNode } from '../../helpers/fake-node.ts';
import { reasonOf } from '../../helpers/reason-of.ts';
import { call, capability, volumeInput } from '../../helpers/scratch-node.ts';

test('an error flag is looked into before a mount, on an image that is not attached', async (t) => {
  const node = await fakeNode(t);
  let fails = true;
  const { volumes } = await node.open([node.settings('a')], {
    reached: (point) => {
      if (fails && point === 'stage:attached') throw new Error('killed here');
    },
  });
  const { record } = await volumes.createVolume(call(), volumeInput('v'));
  const stagingTargetPath = join(node.directory, 'staging');
  await mkdir(stagingTargetPath);
  const asked = { volumeId: record.id, stagingTargetPath, capability: capability() };
  await t.throwsAsync(volumes.stageVolume(call(), asked));
  fails = false;
  const image = join(node.directory, 'a', 'volumes', record.id, 'disk.img');
  await node.host.changeImage(image, { state: 'has-errors' });
  const from = node.host.calls.length;
  t.is(await reasonOf(volumes.stageVolume(call(), asked)), 'ok');
  const wanted = ['loops.detach', 'filesystems.ext4.check', 'loops.attach', 'mounts.mountDevice'];
  t.deepEqual(
    node.host.calls.slice(from).filter((name) => wanted.includes(name)),
    wanted,
  );
});
