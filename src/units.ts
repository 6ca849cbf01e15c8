import { VolumeError } from './errors.ts';

export const KiB = 1024n;
export const MiB = 1024n * KiB;
export const GiB = 1024n * MiB;
export const TiB = 1024n * GiB;

const factors: Readonly<Record<string, bigint>> = {
  '': 1n,
  B: 1n,
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
 * Parses a byte count in the notation of Kubernetes: `1073741824`, `10Gi`, `1.5Gi`, `500M`; fractions of a byte are rounded up.
 * `1024B` are bytes, too. `10GB` is refused, since some programs take it for `10Gi`. Throws `invalid`; the message starts with
 * `name`, if given.
 */
export function parseBytes(text: string, name?: string): bigint {
  const match = /^(\d{1,19})(?:\.(\d{1,9}))?([KMGTP]i|[kKMGTP]|B)?$/.exec(text.trim());
  const [, whole, fraction = '', unit = ''] = match ?? [];
  const factor = factors[unit];
  if (whole === undefined || factor === undefined || (fraction !== '' && factor === 1n)) {
    throw new VolumeError('invalid', `${prefix(name)}'${text}' is not a size; ${suggestion(text)}`);
  }
  const scale = 10n ** BigInt(fraction.length);
  return (BigInt(whole + fraction) * factor + scale - 1n) / scale;
}

/**
 * Parses the size of a volume that a user typed. Throws as `parseBytes`, and for a number below 1 MiB without a unit: users
 * who type `10` mean 10Gi, but Kubernetes reads it as bytes.
 */
export function parseTypedSize(text: string, name: string): bigint {
  const bytes = parseBytes(text, name);
  if (bytes >= MiB || bytes === 0n || !/^\s*\d+\s*$/.test(text)) return bytes;
  throw new VolumeError(
    'invalid',
    `${name}: '${text}' has no unit; did you mean ${bytes}Gi or ${bytes}Mi? Write ${bytes}B for bytes`,
  );
}

/** `10GB` and `10g` are binary for Docker, and decimal elsewhere, so the user has to choose. `10GiB` is binary everywhere. */
function suggestion(text: string): string {
  const [, number, letter, isBinary] =
    /^\s*(\d+(?:\.\d+)?)\s*([kmgtp])(i?)b?\s*$/i.exec(text) ?? [];
  if (number === undefined || letter === undefined) {
    return 'use a value such as 1073741824, 512Mi or 10Gi';
  }
  const unit = letter.toUpperCase();
  if (isBinary !== '') return `did you mean ${number}${unit}i?`;
  return `did you mean ${number}${unit}i (binary) or ${number}${unit} (decimal)?`;
}

const binaryUnits = [
  ['PiB', 1024n * TiB],
  ['TiB', TiB],
  ['GiB', GiB],
  ['MiB', MiB],
  ['KiB', KiB],
] as const;

/** Formats a byte count for messages, in binary units with at most one decimal: `1.5 GiB`. */
export function formatBytes(bytes: bigint): string {
  const sign = bytes < 0n ? '-' : '';
  const size = bytes < 0n ? -bytes : bytes;
  const [name, unit] = binaryUnits.find(([, one]) => size >= one) ?? ['B', 1n];
  const tenths = (size * 10n) / unit;
  return `${sign}${tenths / 10n}${tenths % 10n === 0n ? '' : `.${tenths % 10n}`} ${name}`;
}

/** Formats a byte count in the largest binary unit of which it is a multiple: `1500 MiB`. */
export function formatExactBytes(bytes: bigint): string {
  const [name, unit] = binaryUnits.find(([, one]) => bytes !== 0n && bytes % one === 0n) ?? [
    'B',
    1n,
  ];
  return `${bytes / unit} ${name}`;
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
