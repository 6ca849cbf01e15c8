import type { FileHandle } from 'node:fs/promises';
import {
  closeHandle,
  fsCall,
  majorMinorOf,
  openFlags,
  openHandle,
  withOpen,
} from './descriptor.ts';
import { KernelError } from './errors.ts';
import type { LoopDevice } from './host.ts';
import { readKernelText } from './kernel.ts';
import { readMounts } from './mountinfo.ts';

/**
 * Opens the root of the filesystem mounted at `target`, after checking that it is `device`'s. An ioctl that acts on a
 * filesystem (freeze, trim, resize) on a directory that is not mounted would hit the filesystem beneath, the pool's.
 * KernelError ENODEV when another filesystem, or none, is mounted there.
 */
export async function withMounted<T>(
  target: string,
  device: DeviceName,
  work: (handle: FileHandle) => Promise<T>,
): Promise<T> {
  return withOpen(target, openFlags.directory, async (handle) => {
    await checkIsOn(handle, target, device);
    return work(handle);
  });
}

/** The same for the caller to close. */
export async function openMounted(target: string, device: DeviceName): Promise<FileHandle> {
  const handle = await openHandle(target, openFlags.directory);
  try {
    await checkIsOn(handle, target, device);
    return handle;
  } catch (error) {
    await closeHandle(handle, target);
    throw error;
  }
}

type DeviceName = Pick<LoopDevice, 'path' | 'majorMinor'>;

async function checkIsOn(handle: FileHandle, target: string, device: DeviceName): Promise<void> {
  const { dev } = await fsCall('fstat', target, () => handle.stat({ bigint: true }));
  if (majorMinorOf(dev) === device.majorMinor) return;
  // btrfs has device numbers of its own: there the mount's source tells.
  const info = await readKernelText(`/proc/self/fdinfo/${handle.fd}`);
  const mountId = Number(/^mnt_id:\s*(\d+)$/m.exec(info)?.[1]);
  const mount = (await readMounts()).find(({ id }) => id === mountId);
  if (mount?.fsType === 'btrfs' && mount.source === device.path) return;
  const subject = `${target}: the filesystem there is not that of ${device.path}`;
  throw new KernelError('open', 'ENODEV', subject);
}
