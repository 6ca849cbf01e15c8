import type { IoLimits } from '../host.ts';

export const noLimits: IoLimits = {
  readBytesPerSecond: null,
  writeBytesPerSecond: null,
  readIops: null,
  writeIops: null,
};

/** Whether at least one limit is given. */
export function hasLimits(limits: IoLimits): boolean {
  return keysOfLimits.some((key) => limits[key] !== null);
}

/** Whether two sets of limits are equal. */
export function areEqualLimits(a: IoLimits, b: IoLimits): boolean {
  return keysOfLimits.every((key) => a[key] === b[key]);
}

/** The keys of `io.max` (cgroup v2). */
const ioMaxKeys = {
  readBytesPerSecond: 'rbps',
  writeBytesPerSecond: 'wbps',
  readIops: 'riops',
  writeIops: 'wiops',
} as const satisfies Readonly<Record<keyof IoLimits, string>>;

export const keysOfLimits = Object.keys(ioMaxKeys) as readonly (keyof IoLimits)[];

/** Formats a line for `io.max`: `7:3 rbps=max wbps=1048576 riops=max wiops=max`. */
export function formatIoMax(majorMinor: string, limits: IoLimits): string {
  const values = keysOfLimits.map((key) => `${ioMaxKeys[key]}=${limits[key] ?? 'max'}`);
  return `${majorMinor} ${values.join(' ')}`;
}

/** Parses `io.max`: the limits of the loop devices that have any, by `7:N`. */
export function parseIoMax(text: string): ReadonlyMap<string, IoLimits> {
  const devices = new Map<string, IoLimits>();
  for (const line of text.split('\n')) {
    const [majorMinor = '', ...fields] = line.trim().split(' ');
    if (!/^7:\d+$/.test(majorMinor)) continue;
    const values = new Map(fields.map((field) => field.split('=', 2) as [string, string]));
    const limitOf = (key: keyof IoLimits): bigint | null => {
      const value = values.get(ioMaxKeys[key]) ?? 'max';
      return /^\d+$/.test(value) ? BigInt(value) : null;
    };
    const limits: IoLimits = {
      readBytesPerSecond: limitOf('readBytesPerSecond'),
      writeBytesPerSecond: limitOf('writeBytesPerSecond'),
      readIops: limitOf('readIops'),
      writeIops: limitOf('writeIops'),
    };
    if (hasLimits(limits)) devices.set(majorMinor, limits);
  }
  return devices;
}
