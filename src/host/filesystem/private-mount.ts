import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { KernelError } from '../errors.ts';
import { paths } from '../files/paths.ts';
import type { FsType, LoopDevice, LoopDevices, Mounts, SectorSize } from '../host.ts';

/** What a private mount is made with. */
export interface PrivateMountDeps {
  readonly loops: LoopDevices;
  readonly mounts: Mounts;
}

export interface PrivateMountOptions {
  readonly fsType: FsType;
  readonly sectorSize: SectorSize;
  /** A directory of ours on any filesystem; the mount point is made in it and removed again. */
  readonly workDir: string;
  readonly mountOptions: readonly string[];
}

/**
 * Mounts an unattached image in a place of its own for as long as `work` takes: its log is replayed
 * by that, and `work` may grow it. Afterwards nothing is mounted or attached, also when `work` fails.
 * A crash leaves at most the mount, whose device detaches by itself when start-up unmounts it.
 */
export async function withPrivateMount(
  { loops, mounts }: PrivateMountDeps,
  imagePath: string,
  options: PrivateMountOptions,
  work: (target: string, device: LoopDevice) => Promise<void> = async () => undefined,
): Promise<void> {
  const target = join(options.workDir, `mount-${randomUUID()}`);
  await paths.makeNewDirectory(target);
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
      await mounts.mountDevice(device.path, target, {
        fsType: options.fsType,
        options: options.mountOptions,
      });
      await loops.release(device);
      try {
        await work(target, device);
      } finally {
        await mounts.unmount(target);
      }
    } finally {
      await detachWholly(loops, device, imagePath);
    }
  } finally {
    await paths.removeDirectory(target);
  }
}

/** How long a container that is just starting may keep its copy of our mount. */
const detachBoundMs = 10_000;

/**
 * Detached for certain: a mount namespace made meanwhile has a copy of the mount, and no program may
 * work on an image whose filesystem still lives. KernelError EBUSY when it does not end.
 */
async function detachWholly(
  loops: LoopDevices,
  device: LoopDevice,
  imagePath: string,
): Promise<void> {
  if ((await loops.detach(device, { later: true })) === 'detached') return;
  const giveUpAt = performance.now() + detachBoundMs;
  while ((await loops.findByImage(device.backing)).length > 0) {
    if (performance.now() > giveUpAt) {
      throw new KernelError('LOOP_CLR_FD', 'EBUSY', `${device.path}: something holds ${imagePath}`);
    }
    await delay(20);
  }
}
