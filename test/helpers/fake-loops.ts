import { readlinkSync } from 'node:fs';
import { KernelError } from '../../src/host/errors.ts';
import type { DeviceLimits, LoopDevice, LoopDevices } from '../../src/host/host.ts';
import { noIo } from '../../src/host/loop/io-counters.ts';
import { noLimits } from '../../src/host/loop/io-limits.ts';
import { boundNumbers } from '../../src/host/loop/numbers.ts';
import { labelOf } from '../../src/host/loop/status.ts';
import { describe, type FakeKernel, isSame, sizeOf } from './fake-kernel.ts';

/** The loop table in memory. `abilities.directIo` is false when the filesystem of the pool refuses direct I/O. */
export function makeFakeLoops(
  kernel: FakeKernel,
  abilities: { readonly directIo: boolean; readonly limits: DeviceLimits },
): LoopDevices {
  const { limits } = abilities;
  const all = () => [...kernel.devices.values()];
  /** Numbers of devices that the driver kept open and detached; other numbers are preferred. */
  const avoidedNumbers = new Set<number>();
  const keep = (device: LoopDevice) => {
    const found = kernel.find(device);
    if (found !== undefined) found.autoclear = false;
    return found;
  };
  return {
    at: async (number) => {
      const found = kernel.devices.get(number);
      return found === undefined ? undefined : describe(found);
    },
    isAutoclear: (device) => kernel.find(device)?.autoclear === true,
    listAutoclear: async () =>
      all()
        .filter(({ autoclear }) => autoclear)
        .map(describe),
    clearAutoclear: async (device) => keep(device) !== undefined,
    hold: async (device) => {
      const found = keep(device);
      if (found === undefined) return false;
      found.held = true;
      return true;
    },
    writeBack: async (device) => {
      kernel.get(device, 'BLKFLSBUF');
    },
    list: async () => all().map(describe),
    listWithIo: async () => all().map((device) => ({ device: describe(device), io: noIo })),
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
      const bound = boundNumbers(kernel.mounts.map((mount) => ({ ...mount, superOptions: [] })));
      const isUsable = (number: number) => !bound.has(number) && !avoidedNumbers.has(number);
      const device = attachOrThrow(kernel, imagePath, isUsable, {
        readOnly: options.readOnly,
        directIo: options.directIo && abilities.directIo,
        discard: options.discard,
        sectorSize: options.sectorSize,
        label: labelOf(options.label),
        autoclear: options.autoclear === true,
        held: options.autoclear === true || options.hold === true,
      });
      const attached = describe(device);
      await limits.set(attached.majorMinor, noLimits);
      return attached;
    },
    release: async (device) => {
      const found = kernel.find(device);
      if (found === undefined || !found.held) return;
      found.held = false;
      kernel.detachIfUnused(found);
    },
    refreshSize: async (device) => {
      const found = kernel.get(device, 'LOOP_SET_CAPACITY');
      found.sizeBytes = sizeOf(found.imageFd);
    },
    detach: async (device, { later = false } = {}) => {
      const found = kernel.find(device);
      if (found === undefined) return 'detached';
      const former = (await limits.list()).get(device.majorMinor);
      await limits.set(device.majorMinor, noLimits);
      const wasHeld = found.held;
      found.held = false;
      kernel.clear(found);
      if (kernel.find(device) !== undefined) {
        if (!later) found.autoclear = false;
        if (former !== undefined) await limits.set(device.majorMinor, former);
        return 'in-use';
      }
      if (wasHeld) avoidedNumbers.add(found.number);
      return 'detached';
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
  isUsable: (number: number) => boolean,
  options: Parameters<FakeKernel['attach']>[1],
) {
  try {
    return kernel.attach(path, options, isUsable);
  } catch (error) {
    if (error instanceof Error && 'code' in error)
      throw new KernelError('open', String(error.code), path);
    throw error;
  }
}
