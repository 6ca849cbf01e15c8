import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { MiB } from '../../../../src/units.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, capability, volumeInput } from '../../../helpers/scratch-node.ts';

/** A node with a volume that mount IDs can mount. The filesystem is xfs, so no lost+found is searched for in its root. */
async function nodeWith(t: ExecutionContext) {
  const node = await fakeNode(t);
  const mountDir = join(node.directory, 'mounts');
  const { volumes, docker, domain } = await node.open([node.settings('a')], {
    mountDir,
  });
  const input = volumeInput('v', { fsType: 'xfs', sizeBytes: 320n * MiB });
  const volumeId = (await volumes.createVolume(call(), input)).record.id;
  return {
    node,
    volumes,
    volumeId,
    locks: domain.operations.locks,
    mount: (mountId: string) => docker.mount(call(), { volumeId, mountId }),
    unmount: (mountId: string) => docker.unmount(call(), { volumeId, mountId }),
    remove: () => docker.remove(call(), volumeId),
  };
}

test('a volume is mounted for its first mount ID, and unmounted with its last', async (t) => {
  const { node, volumeId, mount, unmount } = await nodeWith(t);
  const path = await mount('one');
  t.is(path, join(node.directory, 'mounts', volumeId));
  t.is(await mount('one'), path, 'the same mount ID counts once');
  t.is(await mount('two'), path);
  t.is((await node.host.mounts.list()).length, 1);
  await unmount('one');
  t.is((await node.host.mounts.list()).length, 1);
  await unmount('two');
  t.deepEqual(await node.host.mounts.list(), []);
  t.deepEqual(await node.host.loops.list(), []);
  t.is(await reasonOf(unmount('two')), 'ok', 'again');
});

test('while another call works on the volume, Docker calls are refused as busy', async (t) => {
  const { volumeId, locks, mount, unmount, remove } = await nodeWith(t);
  const unlock = locks.acquire({ exclusive: [`volume:${volumeId}`] }, 'a test');
  for (const work of [() => mount('one'), () => unmount('one'), remove]) {
    t.is(await reasonOf(work()), 'busy');
  }
  unlock();
  t.is(await reasonOf(mount('one')), 'ok');
});

test('a volume that is staged for CSI is not mounted for Docker, and vice versa', async (t) => {
  const { node, volumes, volumeId, mount } = await nodeWith(t);
  const stagingTargetPath = join(node.directory, 'staging');
  await mkdir(stagingTargetPath);
  const stage = () =>
    volumes.stageVolume(call(), { volumeId, stagingTargetPath, capability: capability() });
  await stage();
  t.is(await reasonOf(mount('one')), 'wrong-state');
  await volumes.unstageVolume(call(), { volumeId, stagingTargetPath });
  await mount('one');
  t.is(await reasonOf(stage()), 'wrong-state');
});

test('a mount that was killed before it grew the filesystem is completed by the repeated mount', async (t) => {
  const { node, volumes, volumeId, mount } = await nodeWith(t);
  const range = { requiredBytes: 640n * MiB, limitBytes: 0n };
  const expand = async () => (await volumes.expandVolume(call(), { volumeId, range })).remaining;
  t.is(await expand(), 'next-stage');
  node.host.failNext('filesystems.xfs.growMounted', new Error('killed here'));
  // A killed driver does not undo the stage.
  node.host.failNext('mounts.unmount', new Error('killed here'));
  t.is(await reasonOf(mount('one')), 'internal');
  t.is(await expand(), 'node-expand');
  await mount('one');
  t.is(await expand(), 'none');
  t.is((await node.host.mounts.list()).length, 1);
});
