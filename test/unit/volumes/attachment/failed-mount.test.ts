import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { VolumeError } from '../../../../src/errors.ts';
import { KernelError } from '../../../../src/host/errors.ts';
import { attachedOnly } from '../../../helpers/attached-only.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, capability, volumeInput } from '../../../helpers/scratch-node.ts';

/** A volume that is not staged, and the arguments of its stage call. */
async function unstaged(t: ExecutionContext, wish: Parameters<typeof volumeInput>[1] = {}) {
  const node = await fakeNode(t);
  const { volumes } = await node.open([node.settings('a')]);
  const { record } = await volumes.createVolume(call(), volumeInput('v', wish));
  const stagingTargetPath = join(node.directory, 'staging');
  await mkdir(stagingTargetPath);
  const asked = { volumeId: record.id, stagingTargetPath, capability: capability() };
  return { node, volumes, asked };
}

const cases = [
  {
    name: 'refused by the kernel',
    error: 'EUCLEAN',
    after: false,
    times: 2,
  },
  {
    name: 'that failed but exists',
    error: 'EIO',
    after: true,
    times: 1,
  },
] as const;

for (const { name, error, after, times } of cases) {
  test(`a mount ${name} leaves no mount and no device, and the repeated stage succeeds`, async (t) => {
    const { node, volumes, asked } = await unstaged(t);
    for (let time = 0; time < times; time += 1) {
      node.host.failNext('mounts.mountDevice', new KernelError('mount', error, 'a test'), {
        after,
      });
    }
    t.is(await reasonOf(volumes.stageVolume(call(), asked)), 'wrong-state');
    t.deepEqual(await node.host.loops.list(), []);
    t.deepEqual(await node.host.mounts.list(), []);
    await volumes.stageVolume(call(), asked);
    t.is((await node.host.loops.list()).length, 1);
    t.is((await node.host.mounts.list()).length, 1);
    await volumes.unstageVolume(call(), asked);
    t.deepEqual(await node.host.loops.list(), []);
  });
}

for (const error of ['EIO', 'EINVAL', 'EUCLEAN']) {
  test(`a mount that failed once with ${error} is tried again and not reported as damage`, async (t) => {
    const { node, volumes, asked } = await unstaged(t);
    node.host.failNext('mounts.mountDevice', new KernelError('mount', error, 'a test'));
    await volumes.stageVolume(call(), asked);
    t.is((await node.host.mounts.list()).length, 1);
  });
}

test('a mount that failed twice is not reported as damage if the superblock cannot be read either', async (t) => {
  const { node, volumes, asked } = await unstaged(t);
  const failure = (call: string) => new KernelError(call, 'EIO', 'a test');
  for (let time = 0; time < 2; time += 1) {
    node.host.failNext('mounts.mountDevice', failure('mount'));
  }
  // The first read of the superblock, before the mount, succeeds.
  const { ext4 } = node.host.filesystems;
  const reads = ext4.readSuperblock.bind(ext4);
  let looks = 0;
  ext4.readSuperblock = (path) => {
    looks += 1;
    return looks > 1 ? Promise.reject(failure('read')) : reads(path);
  };
  const error = await t.throwsAsync(volumes.stageVolume(call(), asked));
  t.notRegex(error?.message ?? '', /damaged/);
  t.regex(error?.message ?? '', /check the disk/);
});

for (const { what, takesChanges, reason, says } of [
  {
    what: 'is reported as a failed disk if the pool accepts no changes',
    takesChanges: false,
    reason: 'internal',
    says: /the disk of pool 'a' has failed/,
  },
  {
    what: 'is reported as an I/O error if the pool accepts changes',
    takesChanges: true,
    reason: 'wrong-state',
    says: /I\/O error.*pool 'a'.*check the kernel's log/,
  },
] as const) {
  test(`a mount that failed twice with EIO ${what}, never as damage`, async (t) => {
    const { node, volumes, asked } = await unstaged(t);
    const failure = (call: string) => new KernelError(call, 'EIO', 'a test');
    for (let time = 0; time < 2; time += 1) {
      node.host.failNext('mounts.mountDevice', failure('mount'));
    }
    if (!takesChanges) node.host.failNext('files.makeNewDirectory', failure('mkdir'));
    const expectation = { instanceOf: VolumeError, message: says };
    const error = await t.throwsAsync(volumes.stageVolume(call(), asked), expectation);
    t.is(error?.reason, reason);
    t.notRegex(error?.message ?? '', /damaged/);
    t.deepEqual(await node.host.loops.list(), []);
  });
}

test('a btrfs that the kernel has registered on another device is not reported as damage, and is staged once that device is detached', async (t) => {
  const { node, volumes, asked } = await unstaged(t, { fsType: 'btrfs' });
  node.host.failNext('mounts.mountDevice', new KernelError('mount', 'EEXIST', 'a test'));
  const message = /has the UUID \S+, and so has another device.*Detach the other.*btrfstune -m/;
  const error = await t.throwsAsync(volumes.stageVolume(call(), asked), { message });
  t.is(error instanceof VolumeError ? error.reason : undefined, 'wrong-state');
  t.notRegex(error?.message ?? '', /damaged/);
  t.deepEqual(await node.host.loops.list(), []);
  await volumes.stageVolume(call(), asked);
});

test('an attached image is never attached a second time', async (t) => {
  const { node, volumes, asked } = await attachedOnly(t);
  await volumes.stageVolume(call(), asked);
  t.is((await node.host.loops.list()).length, 1);
});

test('a delete detaches an unused device', async (t) => {
  const { node, volumes, asked } = await attachedOnly(t);
  await volumes.deleteVolume(call(), asked.volumeId);
  t.deepEqual(await node.host.loops.list(), []);
});

test('a delete is refused while a device is used in another mount namespace', async (t) => {
  const { node, volumes, asked } = await attachedOnly(t);
  const [device] = await node.host.loops.list();
  const stopUse = node.host.useElsewhere(device?.number ?? -1);
  t.is(await reasonOf(volumes.deleteVolume(call(), asked.volumeId)), 'wrong-state');
  t.false((await node.host.loops.list())[0]?.autoclear, 'no detach was requested');
  stopUse();
  await volumes.deleteVolume(call(), asked.volumeId);
  t.deepEqual(await node.host.loops.list(), []);
});
