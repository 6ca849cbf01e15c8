import { readlinkSync } from 'node:fs';
import { KernelError } from '../../src/host/errors.ts';
import type { LoopDevices } from '../../src/host/host.ts';
import { describe, type FakeKernel, isSame, sizeOf } from './fake-kernel.ts';

/** The loop table in memory. `abilities.directIo` false: the pool's filesystem refuses it. */
export function makeFakeLoops(kernel: FakeKernel, abilities: { directIo: boolean }): LoopDevices {
  const all = () => [...kernel.devices.values()];
  return {
    list: async () => all().map(describe),
    backingPath: async (device) => {
      const found = kernel.find(device);
      return found === undefined ? undefined : readlinkSync(`/proc/self/fd/${found.imageFd}`);
    },
    findByImage: async (image) =>
      all()
        .filter(({ identity }) => isSame(identity, image))
        .sort((a, b) => Number(a.readOnly) - Number(b.readOnly))
        .map(describe),
    attach: async (imagePath, options) => {
      const device = attachOrThrow(kernel, imagePath, {
        readOnly: options.readOnly,
        directIo: options.directIo && abilities.directIo,
        discard: options.discard,
        sectorSize: options.sectorSize,
        mark: Buffer.from(`loopcsi:${options.mark}`).subarray(0, 63).toString('utf8'),
        autoclear: options.autoclear === true,
        held: options.autoclear === true,
      });
      return describe(device);
    },
    release: async (device) => {
      const found = kernel.find(device);
      if (found === undefined || !found.held) return;
      found.held = false;
      kernel.settle(found);
    },
    refreshSize: async (device) => {
      const found = kernel.get(device, 'LOOP_SET_CAPACITY');
      found.sizeBytes = sizeOf(found.imageFd);
    },
    detach: async (device) => {
      const found = kernel.find(device);
      if (found === undefined) return 'detached';
      found.held = false;
      kernel.clear(found);
      return kernel.find(device) === undefined ? 'detached' : 'in-use';
    },
    isInUse: async (device) => {
      const found = kernel.find(device);
      return found !== undefined && kernel.isInUse(found);
    },
    sync: async (device) => {
      kernel.get(device, 'fsync');
    },
  };
}

function attachOrThrow(
  kernel: FakeKernel,
  path: string,
  options: Parameters<FakeKernel['attach']>[1],
) {
  try {
    return kernel.attach(path, options);
  } catch (error) {
    if (error instanceof Error && 'code' in error)
      throw new KernelError('open', String(error.code), path);
    throw error;
  }
}
