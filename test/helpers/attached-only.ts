import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { fakeNode } from './fake-node.ts';
import { call, capability, volumeInput } from './scratch-node.ts';

/** A volume whose image is attached but not mounted, as a stage leaves it that fails or is killed after its attach. */
export async function attachedOnly(t: ExecutionContext) {
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
  t.is((await node.host.loops.list()).length, 1);
  const image = join(node.directory, 'a', 'volumes', record.id, 'disk.img');
  const stage = (): Promise<void> => volumes.stageVolume(call(), asked);
  return { node, volumes, asked, image, stage };
}
