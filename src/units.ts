import { VolumeError } from './errors.ts';

export const KiB = 1024n;
export const MiB = 1024n * KiB;
export const GiB = 1024n * MiB;
export const TiB = 1024n * GiB;

const factors: Readonly<Record<string, bigint>> = {
  '': 1n,
  Ki: KiB,
  Mi: MiB,
  Gi: GiB,
  Ti: TiB,
  Pi: 1024n * TiB,
  k: 1000n,
  K: 1000n,
  M: 1000n ** 2n,
  G: 1000n ** 3n,
  T: 1000n ** 4n,
  P: 1000n ** 5n,
};

/**
 * Parses a byte count in the notation of Kubernetes: `1073741824`, `10Gi`, `500M`. A trailing `B` is optional: `10GiB`
 * equals `10Gi`. Throws `invalid`; the message starts with `name`, if given.
 */
export function parseBytes(text: string, name?: string): bigint {
  const match = /^(\d{1,19})(?:([KMGTP]i|[kKMGTP])?B?)$/.exec(text.trim());
  const factor = factors[match?.[2] ?? ''];
  if (match?.[1] === undefined || factor === undefined) {
    throw new VolumeError(
      'invalid',
      `${prefix(name)}'${text}' is not a size; use a value such as 1073741824, 512Mi or 10Gi`,
    );
  }
  return BigInt(match[1]) * factor;
}

/** Formats a byte count for messages, in binary units with at most one decimal: `1.5 GiB`. */
export function formatBytes(bytes: bigint): string {
  const sign = bytes < 0n ? '-' : '';
  const size = bytes < 0n ? -bytes : bytes;
  for (const [name, unit] of [
    ['PiB', 1024n * TiB],
    ['TiB', TiB],
    ['GiB', GiB],
    ['MiB', MiB],
    ['KiB', KiB],
  ] as const) {
    if (size >= unit) {
      const tenths = (size * 10n) / unit;
      return `${sign}${tenths / 10n}${tenths % 10n === 0n ? '' : `.${tenths % 10n}`} ${name}`;
    }
  }
  return `${sign}${size} B`;
}

/** Rounds `bytes` up to a multiple of `unit`. */
export function roundUp(bytes: bigint, unit: bigint): bigint {
  return ((bytes + unit - 1n) / unit) * unit;
}

const durationFactors: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
};

/**
 * Parses a duration such as `500ms`, `30s`, `5m` or `1h` to milliseconds. Throws `invalid`; the message starts with
 * `name`, if given.
 */
export function parseDuration(text: string, name?: string): number {
  const match = /^(\d{1,9})(ms|s|m|h)$/.exec(text.trim());
  const factor = durationFactors[match?.[2] ?? ''];
  if (match?.[1] === undefined || factor === undefined) {
    throw new VolumeError(
      'invalid',
      `${prefix(name)}'${text}' is not a duration; use a value such as 500ms, 30s or 5m`,
    );
  }
  return Number(match[1]) * factor;
}

function prefix(name: string | undefined): string {
  return name === undefined ? '' : `${name}: `;
}
