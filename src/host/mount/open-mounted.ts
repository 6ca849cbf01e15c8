import { closeSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { KernelError } from '../errors.ts';
import type { LoopDevice } from '../host.ts';
import { openTreeClone, readKernelText } from '../kernel/calls.ts';
import {
  descriptorPath,
  fsCall,
  majorMinorOf,
  openFlags,
  openHandle,
  useAndClose,
  withOpen,
} from '../kernel/descriptor.ts';
import type { Lane } from '../lane.ts';
import { isFilesystemOn } from './loop-mounts.ts';
import { readMounts } from './mountinfo.ts';

/**
 * Opens the root of the filesystem mounted at `target`, after checking that it is on `device`. Without the check, an
 * ioctl (freeze, trim, resize) would act on the pool's own filesystem if nothing is mounted there. KernelError ENODEV
 * if another filesystem, or none, is mounted there.
 */
export async function withMounted<T>(
  lane: Lane,
  target: string,
  device: DeviceName,
  work: (handle: FileHandle) => Promise<T>,
): Promise<T> {
  return withOpen(lane, target, openFlags.directory, async (handle) => {
    await requireFilesystemOn(lane, handle, target, device);
    return work(handle);
  });
}

/**
 * Opens the root of the filesystem mounted at `target`, after the same check, through a private mount without a path
 * that ends when the caller closes the handle. Until then the superblock stays active, while `target` can be unmounted.
 */
export function openMounted(lane: Lane, target: string, device: DeviceName): Promise<FileHandle> {
  return withMounted(lane, target, device, async ({ fd }) => {
    const tree = await openTreeClone(lane, descriptorPath(fd), closeSync);
    return useAndClose(lane, tree, { isPathOnly: true }, () =>
      openHandle(lane, descriptorPath(tree), openFlags.directoryFollowed),
    );
  });
}

type DeviceName = Pick<LoopDevice, 'path' | 'majorMinor'>;

async function requireFilesystemOn(
  lane: Lane,
  handle: FileHandle,
  target: string,
  device: DeviceName,
): Promise<void> {
  const { dev } = await fsCall(lane, 'fstat', target, () => handle.stat({ bigint: true }));
  if (majorMinorOf(dev) === device.majorMinor) return;
  // btrfs has anonymous device numbers: compare the source of the mount instead.
  const info = await readKernelText(lane, `/proc/self/fdinfo/${handle.fd}`);
  const mountId = Number(/^mnt_id:\s*(\d+)$/m.exec(info)?.[1]);
  const mount = (await readMounts(lane)).find(({ id }) => id === mountId);
  if (mount !== undefined && isFilesystemOn(mount, device)) return;
  const subject = `${target} (the filesystem mounted there is not on ${device.path})`;
  throw new KernelError('open', 'ENODEV', subject);
}
