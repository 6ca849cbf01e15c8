import { stat } from 'node:fs/promises';
import { CommandError, KernelError } from '../../src/host/errors.ts';
import { Ext4State } from '../../src/host/filesystem/ext4/ext4.ts';
import { makeFilesystems } from '../../src/host/filesystem/filesystems.ts';
import type {
  Filesystem,
  Filesystems,
  LoopDevices,
  Mounts,
  NodeFacts,
} from '../../src/host/host.ts';
import { driverLane } from '../../src/host/lane.ts';
import { requireNoProgram } from '../../src/host/programs/image-lock.ts';
import { type FakeKernel, isSame } from './fake-kernel.ts';
import type { FakePrograms } from './fake-programs.ts';
import {
  changeFakeSuperblock,
  readFakeSuperblock,
  writeFakeSuperblock,
} from './fake-superblock.ts';

interface Deps {
  readonly kernel: FakeKernel;
  readonly loops: LoopDevices;
  readonly mounts: Mounts;
  readonly facts: NodeFacts;
  readonly programs: FakePrograms;
}

/** Filesystems that consist of one block, which describes them. */
export function makeFakeFilesystems(deps: Deps): Filesystems {
  // Minimum sizes and mount options equal those of the real filesystems; none of their programs runs.
  const run = () => Promise.reject(new Error('the fake runs no program'));
  const real = makeFilesystems(driverLane, {
    ...deps,
    run,
    ext4State: new Ext4State(),
    kernelRelease: deps.facts.kernelRelease,
  });
  return {
    ext4: { ...makeFakeFilesystem(real.ext4, deps), countErrors: () => Promise.resolve(0) },
    xfs: makeFakeFilesystem(real.xfs, deps),
    btrfs: makeFakeFilesystem(real.btrfs, deps),
  };
}

function makeFakeFilesystem(
  real: Filesystem,
  { kernel, mounts, facts, programs }: Deps,
): Filesystem {
  const { type, minBytes, minGrownBytes, maxGrowthFactor, mountOptions } = real;
  const sizeOfUnattached = async (imagePath: string): Promise<bigint> => {
    const { dev, ino, size } = await stat(imagePath, { bigint: true });
    const identity = { device: dev, inode: ino };
    const attached = [...kernel.devices.values()].some((device) =>
      isSame(device.identity, identity),
    );
    // No program notices that an image is in use, so running one on it is a bug of the caller.
    if (attached) throw new Error(`${imagePath} is attached: no program may touch it`);
    const isInterrupted = (await readFakeSuperblock(imagePath))?.isInterrupted === true;
    if (isInterrupted)
      throw new Error(`${imagePath} has an interrupted change: it must be recovered first`);
    return size;
  };
  const run = <T>(imagePath: string, finish: () => Promise<T>): Promise<T> =>
    programs.run(imagePath, {
      begin: async () => {
        const isMade = (await readFakeSuperblock(imagePath)) !== undefined;
        if (isMade) await changeFakeSuperblock(imagePath, { isInterrupted: true });
      },
      finish: async () => {
        const result = await finish();
        await changeFakeSuperblock(imagePath, { isInterrupted: false });
        return result;
      },
    });
  return {
    type,
    minBytes,
    minGrownBytes,
    maxGrowthFactor,
    mountOptions,
    make: async (imagePath, options) => {
      const sizeBytes = await sizeOfUnattached(imagePath);
      if (sizeBytes < minBytes) {
        throw new CommandError(`mkfs.${type}`, {
          message: `${imagePath} is too small`,
          exitCode: 1,
        });
      }
      await run(imagePath, () =>
        writeFakeSuperblock(imagePath, {
          fsType: type,
          uuid: options.uuid,
          sizeBytes,
          state: 'clean',
          maxSectorSize: 4096,
          damage: 'none',
          hasLostAndFound: type === 'ext4',
          isInterrupted: false,
        }),
      );
    },
    readSuperblock: async (imagePath) => {
      const found = await readFakeSuperblock(imagePath);
      if (found?.fsType !== type) return undefined;
      const { fsType, uuid, sizeBytes, state, maxSectorSize } = found;
      return { fsType, uuid, sizeBytes, state, maxSectorSize };
    },
    check: async (imagePath) => {
      await sizeOfUnattached(imagePath);
      const found = await readFakeSuperblock(imagePath);
      if (found?.fsType !== type || found.damage === 'beyond') {
        return { outcome: 'damaged', detail: 'the fake found damage that it cannot repair' };
      }
      await run(imagePath, () =>
        changeFakeSuperblock(imagePath, { state: 'clean', damage: 'none' }),
      );
      return { outcome: found.damage === 'none' ? 'sound' : 'repaired' };
    },
    recover: async (imagePath) => {
      if ((await readFakeSuperblock(imagePath))?.isInterrupted !== true) return false;
      await requireNoProgram(driverLane, imagePath);
      await changeFakeSuperblock(imagePath, { isInterrupted: false });
      return true;
    },
    growMounted: async (target, device, sizeBytes) => {
      const mount = await mounts.at(target);
      const found = kernel.get(device, 'resize');
      if (mount?.majorMinor !== device.majorMinor && mount?.source !== device.path) {
        throw new KernelError('open', 'ENODEV', target);
      }
      if (sizeBytes > found.sizeBytes) throw new KernelError('resize', 'EINVAL', target);
      const path = `/proc/self/fd/${found.imageFd}`;
      const present = await readFakeSuperblock(path);
      if (present === undefined || present.sizeBytes >= sizeBytes) return 'grown';
      if (sizeBytes < minGrownBytes) throw new KernelError('resize', 'EINVAL', target);
      if (type === 'ext4' && !facts.canGrowExt4Online) return 'not-permitted';
      await changeFakeSuperblock(path, { sizeBytes });
      return 'grown';
    },
    growUnmounted: async (imagePath) => {
      const sizeBytes = await sizeOfUnattached(imagePath);
      const present = await readFakeSuperblock(imagePath);
      if (present !== undefined && sizeBytes > present.sizeBytes && sizeBytes < minGrownBytes) {
        throw new KernelError('resize', 'EINVAL', imagePath);
      }
      await run(imagePath, () => changeFakeSuperblock(imagePath, { sizeBytes, state: 'clean' }));
    },
    renewUuid: async (imagePath, { uuid }) => {
      await sizeOfUnattached(imagePath);
      await run(imagePath, () => changeFakeSuperblock(imagePath, { uuid, state: 'clean' }));
    },
  };
}
