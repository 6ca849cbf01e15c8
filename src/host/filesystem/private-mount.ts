import { join } from 'node:path';
import { pollUntil } from '../../async.ts';
import { KernelError } from '../errors.ts';
import { makePaths } from '../files/paths.ts';
import type { FsType, LoopDevice, LoopDevices, Mounts, SectorSize } from '../host.ts';
import type { Lane } from '../lane.ts';
import { makePrivateMountName } from './private-mount-name.ts';

export interface PrivateMountDeps {
  readonly loops: LoopDevices;
  readonly mounts: Mounts;
}

export interface WorkOptions {
  readonly sectorSize: SectorSize;
  /** A directory of the driver, on any filesystem. The mount point is created in it and removed afterwards. */
  readonly workDir: string;
}

interface PrivateMountOptions extends WorkOptions {
  readonly fsType: FsType;
  readonly mountOptions: readonly string[];
}

/**
 * Mounts an unattached image privately while `work` runs. Mounting replays the log; `work` may grow the filesystem.
 * Afterwards nothing is mounted or attached, even if `work` fails. A crash leaves at most the mount, whose device the
 * kernel detaches when recovery unmounts it.
 */
export async function withPrivateMount(
  lane: Lane,
  { loops, mounts }: PrivateMountDeps,
  imagePath: string,
  options: PrivateMountOptions,
  work: (target: string, device: LoopDevice) => Promise<void> = async () => undefined,
): Promise<void> {
  const target = join(options.workDir, makePrivateMountName());
  await makePaths(lane).makeNewDirectory(target);
  try {
    const device = await loops.attach(imagePath, {
      sectorSize: options.sectorSize,
      readOnly: false,
      directIo: true,
      discard: true,
      autoclear: true,
      label: 'private',
    });
    try {
      // Another volume with the same UUID may be mounted: the source of a copy, or the original of a block volume (ADR 0032).
      const nouuid = options.fsType === 'xfs' ? ['nouuid'] : [];
      await mounts.mountDevice(device.path, target, {
        fsType: options.fsType,
        options: [...options.mountOptions, ...nouuid],
      });
      await loops.release(device);
      try {
        await work(target, device);
      } finally {
        await mounts.unmount(target);
      }
    } finally {
      await detachCompletely(loops, device, imagePath);
    }
  } finally {
    await makePaths(lane).removeDirectory(target);
  }
}

/** How long a starting container may have a copy of this mount. */
const mountCopyTimeoutMs = 10_000;
const mountCopyPollMs = 20;

/**
 * Detaches the device and waits until that has happened: a mount namespace created in the meantime has a copy of the
 * mount, and no program may use an image whose superblock is still active. KernelError EBUSY at the time limit.
 */
async function detachCompletely(
  loops: LoopDevices,
  device: LoopDevice,
  imagePath: string,
): Promise<void> {
  if ((await loops.detach(device, { later: true })) === 'detached') return;
  const isDetached = async () => (await loops.findByImage(device.backing)).length === 0;
  const limit = { timeoutMs: mountCopyTimeoutMs, pauseMs: mountCopyPollMs };
  if (await pollUntil(isDetached, limit)) return;
  throw new KernelError(
    'LOOP_CLR_FD',
    'EBUSY',
    `${device.path} (something is still using ${imagePath})`,
  );
}
