import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { MiB } from '../../../../src/units.ts';
import { fakeNode, fakeSettings } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, capability, volumeInput } from '../../../helpers/scratch-node.ts';

/** A node with a volume that holders can mount. xfs: nothing is looked for in its root. */
async function nodeWith(t: ExecutionContext) {
  const node = await fakeNode(t);
  const mountDir = join(node.directory, 'mounts');
  const { volumes, local, domain } = await node.open([node.settings('a')], {
    settings: { ...fakeSettings, mountDir },
  });
  const input = volumeInput('v', { fsType: 'xfs', sizeBytes: 320n * MiB });
  const volumeId = (await volumes.createVolume(call(), input)).record.id;
  return {
    node,
    volumes,
    volumeId,
    locks: domain.operations.locks,
    hold: (holder: string) => local.hold(call(), { volumeId, holder }),
    release: (holder: string) => local.release(call(), { volumeId, holder }),
    remove: () => local.remove(call(), volumeId),
  };
}

test('a volume is mounted for its first holder, and unmounted with its last', async (t) => {
  const { node, volumeId, hold, release } = await nodeWith(t);
  const path = await hold('one');
  t.is(path, join(node.directory, 'mounts', volumeId));
  t.is(await hold('one'), path, 'the same holder counts once');
  t.is(await hold('two'), path);
  t.is((await node.host.mounts.list()).length, 1);
  await release('one');
  t.is((await node.host.mounts.list()).length, 1);
  await release('two');
  t.deepEqual(await node.host.mounts.list(), []);
  t.deepEqual(await node.host.loops.list(), []);
  t.is(await reasonOf(release('two')), 'ok', 'again');
});

test('while another call is at the volume its holders come again', async (t) => {
  const { volumeId, locks, hold, release, remove } = await nodeWith(t);
  const unlock = locks.take({ exclusive: [`volume:${volumeId}`] }, 'a test');
  for (const work of [() => hold('one'), () => release('one'), remove]) {
    t.is(await reasonOf(work()), 'busy');
  }
  unlock();
  t.is(await reasonOf(hold('one')), 'ok');
});

test('what is staged for CSI is not held, nor is what is held staged', async (t) => {
  const { node, volumes, volumeId, hold } = await nodeWith(t);
  const stagingTargetPath = join(node.directory, 'staging');
  await mkdir(stagingTargetPath);
  const stage = () =>
    volumes.stageVolume(call(), { volumeId, stagingTargetPath, capability: capability() });
  await stage();
  t.is(await reasonOf(hold('one')), 'wrong-state');
  await volumes.unstageVolume(call(), { volumeId, stagingTargetPath });
  await hold('one');
  t.is(await reasonOf(stage()), 'wrong-state');
});
