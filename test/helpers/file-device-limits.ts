import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import type { DeviceLimits } from '../../src/host/host.ts';
import { formatIoMax, hasLimits, parseIoMax } from '../../src/host/loop/io-limits.ts';

/** `io.max` in a file, for drivers that are killed, on machines with cgroup v1. Like the kernel's, it survives the driver. */
export function fileDeviceLimits(path: string): DeviceLimits {
  const read = () => {
    try {
      return parseIoMax(readFileSync(path, 'utf8'));
    } catch {
      return parseIoMax('');
    }
  };
  return {
    findCgroup: async () => ({ path }),
    list: async () => read(),
    set: async (majorMinor, limits) => {
      const devices = new Map(read());
      if (hasLimits(limits)) devices.set(majorMinor, limits);
      else devices.delete(majorMinor);
      const text = [...devices].map(([device, found]) => formatIoMax(device, found)).join('\n');
      // The kernel replaces a line atomically.
      writeFileSync(`${path}.new`, text);
      renameSync(`${path}.new`, path);
    },
  };
}
