/** The parameters that limit the I/O of a volume (docs/parameters.md). */
import { VolumeError } from '../../errors.ts';
import type { IoLimits } from '../../host/host.ts';
import { formatExactBytes, KiB, parseBytes } from '../../units.ts';

/** The value that removes a limit. */
const unlimited = 'max';

/** Lower limits would keep even a mount, with the replay of its log, from ending in time. */
const minBytesPerSecond = 64n * KiB;
const minIops = 10n;
/** The kernel takes 2³²-1 for "no limit". */
const maxIops = 2n ** 32n - 2n;
const maxBytesPerSecond = 2n ** 60n;

/** The limits, with a description of their values for docs/parameters.md. */
export const limitParameters = {
  readBytesPerSecond: `max, or bytes per second from ${formatExactBytes(minBytesPerSecond)}`,
  writeBytesPerSecond: `max, or bytes per second from ${formatExactBytes(minBytesPerSecond)}`,
  readIops: `max, or a number from ${minIops}`,
  writeIops: `max, or a number from ${minIops}`,
} as const satisfies Readonly<Record<keyof IoLimits, string>>;

export const limitNames = Object.keys(limitParameters) as readonly (keyof IoLimits)[];

/** Parses the limits among the parameters; those that are not given are absent. Throws `invalid`. */
export function parseLimits(parameters: Readonly<Record<string, string>>): Partial<IoLimits> {
  const given = limitNames.flatMap((name) => {
    const text = parameters[name];
    return text === undefined ? [] : [[name, parseLimit(name, text)] as const];
  });
  return Object.fromEntries(given);
}

/** Whether the parameters limit a volume. Any value except `max` is a limit here; CreateVolume refuses wrong ones. */
export function hasLimitParameters(parameters: Readonly<Record<string, string>>): boolean {
  return limitNames.some((name) => (parameters[name] ?? unlimited).trim() !== unlimited);
}

/** Returns null for `max`. `0` and `''` are refused: they could mean both "none" and "no limit". */
function parseLimit(name: keyof IoLimits, text: string): bigint | null {
  if (text.trim() === unlimited) return null;
  const isIops = name === 'readIops' || name === 'writeIops';
  const value = isIops ? parseIops(name, text) : parseBytes(text, `parameter ${name}`);
  const [min, max] = isIops ? [minIops, maxIops] : [minBytesPerSecond, maxBytesPerSecond];
  if (value >= min && value <= max) return value;
  throw new VolumeError(
    'invalid',
    `parameter ${name} '${text}' is ${value < min ? 'below the minimum of' : 'above the maximum of'} ${value < min ? min : max}; use '${unlimited}' for no limit`,
  );
}

/** Parses a number in the notation of Kubernetes. It has no unit of bytes. */
function parseIops(name: string, text: string): bigint {
  try {
    if (!text.includes('B')) return parseBytes(text);
  } catch (error) {
    if (!(error instanceof VolumeError)) throw error;
  }
  throw new VolumeError(
    'invalid',
    `parameter ${name} '${text}' is not a number; use a value such as 500 or 2k, or '${unlimited}' for no limit`,
  );
}

/** Formats a limit as its parameter: `1048576`, or `max`. */
export function formatLimit(limit: bigint | null): string {
  return limit === null ? unlimited : limit.toString();
}
