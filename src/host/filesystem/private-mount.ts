import { mkdtemp, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
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
  const target = await mkdtemp(join(options.workDir, 'mount-'));
  try {
    const device = await loops.attach(imagePath, {
      sectorSize: options.sectorSize,
      readOnly: false,
      directIo: true,
      discard: true,
      autoclear: true,
      mark: 'private',
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
      await loops.detach(device);
    }
  } finally {
    await rmdir(target);
  }
}
