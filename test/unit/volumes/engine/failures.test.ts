import test from 'ava';
import { VolumeError } from '../../../../src/errors.ts';
import { CommandError, KernelError, StuckError } from '../../../../src/host/errors.ts';
import { toVolumeError } from '../../../../src/volumes/engine/failures.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';

const failed = { message: 'mkfs.ext4 ended with 1', exitCode: 1 };

test('a kernel error gets its reason from its errno, never from its text', async (t) => {
  const node = await fakeNode(t);
  const { domain } = await node.open([node.settings('a')]);
  const pool = domain.pools.named('a');
  const cases = [
    [new KernelError('write', 'ENOSPC', 'x'), 'no-space'],
    [new KernelError('write', 'EDQUOT', 'x'), 'no-space'],
    [new KernelError('umount', 'EBUSY', 'x'), 'wrong-state'],
    [new KernelError('open', 'EROFS', 'x'), 'unavailable'],
    [new KernelError('read', 'EIO', 'x'), 'internal'],
    [new StuckError('statfs', 'v', 60_000), 'busy'],
    [new CommandError('mkfs.ext4', failed), 'internal'],
    [new Error('No space left on device'), 'internal'],
    [new VolumeError('conflict', 'x'), 'conflict'],
  ] as const;
  for (const [error, reason] of cases) {
    t.is((await toVolumeError(error, 'x', pool)).reason, reason, error.message);
  }
  const ofDisk = await toVolumeError(new KernelError('read', 'EIO', 'x'), 'x', pool);
  t.regex(ofDisk.message, /the disk of pool 'a' has failed: check the disk/);
  const { files } = node.host;
  const capacity = files.capacity.bind(files);
  files.capacity = async (path) => ({ ...(await capacity(path)), freeBytes: 4096n });
  const full = await toVolumeError(new CommandError('mkfs.ext4', failed), 'x', pool);
  t.is(full.reason, 'no-space', 'a program that fails on a full pool failed for lack of space');
});
