import type { FileHandle } from 'node:fs/promises';
import { fsCall, majorMinorOf, openFlags, withOpen } from './descriptor.ts';
import { KernelError } from './errors.ts';
import type { LoopDevice } from './host.ts';
import { readKernelText } from './kernel.ts';
import { readMounts } from './mountinfo.ts';

/**
 * Opens the root of the filesystem mounted at `target`, after checking that it is `device`'s. An ioctl that acts on a
 * filesystem (freeze, trim, resize) on a directory that is not mounted would hit the filesystem beneath, the pool's.
 * KernelError ENODEV when another filesystem, or none, is mounted there.
 */
export function withMounted<T>(
  target: string,
  device: Pick<LoopDevice, 'path' | 'majorMinor'>,
  work: (handle: FileHandle) => Promise<T>,
): Promise<T> {
  return withOpen(target, openFlags.directory, async (handle) => {
    if (!(await isOn(handle, target, device))) {
      throw new KernelError(
        'open',
        'ENODEV',
        `${target}: the filesystem there is not that of ${device.path}`,
      );
    }
    return work(handle);
  });
}

async function isOn(
  handle: FileHandle,
  target: string,
  device: Pick<LoopDevice, 'path' | 'majorMinor'>,
): Promise<boolean> {
  const { dev } = await fsCall('fstat', target, () => handle.stat({ bigint: true }));
  if (majorMinorOf(dev) === device.majorMinor) return true;
  // btrfs has device numbers of its own: there the mount's source tells.
  const info = await readKernelText(`/proc/self/fdinfo/${handle.fd}`);
  const mountId = Number(/^mnt_id:\s*(\d+)$/m.exec(info)?.[1]);
  const mount = (await readMounts()).find(({ id }) => id === mountId);
  return mount?.fsType === 'btrfs' && mount.source === device.path;
}
