/** Parameters of StorageClasses and snapshot classes, and attributes of inline volumes (docs/parameters.md). */
import { VolumeError } from '../../errors.ts';
import type { FsType } from '../../host/host.ts';
import { noLimits } from '../../host/loop/io-limits.ts';
import { poolNamePattern } from '../../ids.ts';
import { parseBytes } from '../../units.ts';
import type { MutableSettings, SnapshotSettings, TrimMode, VolumeSettings } from '../model.ts';
import { limitNames, limitParameters, parseLimits } from './io-limits.ts';
import { parseMkfsOptions } from './mkfs-options.ts';

interface ParameterDoc {
  readonly values: string;
  readonly default: string;
  readonly meaning: string;
}

function limitDoc(name: keyof typeof limitParameters, meaning: string): ParameterDoc {
  return {
    values: limitParameters[name],
    default: 'max: not limited',
    meaning: `${meaning} See [I/O limits](limits-io.md).`,
  };
}

/** Parameters of a StorageClass. A test compares them with the table of docs/parameters.md. */
export const knownParameters = {
  pool: {
    values: 'name of a pool',
    default: 'the pool with the most capacity',
    meaning: 'The pool of the node in which the volume is created.',
  },
  provisioning: {
    values: '`thin`, `thick`',
    default: '`thin`',
    meaning:
      '`thick` allocates all blocks before the volume exists and never frees any; `thin` allocates blocks as data is written.',
  },
  mkfsOptions: {
    values: 'mkfs options, see below',
    default: 'none',
    meaning: 'Options of mkfs, checked against a list. Not for block volumes.',
  },
  sectorSize: {
    values: '`4096`, `512`',
    default: '`4096`; the source’s for a restore or clone',
    meaning: 'Logical sector size of the device in bytes. It never changes.',
  },
  trim: {
    values: '`periodic`, `online`, `off`',
    default: '`periodic`; `off` for thick volumes',
    meaning:
      'When blocks that the filesystem has freed are returned to the pool: once a day, immediately (mount option `discard`), or never.',
  },
  directIO: {
    values: '`true`, `false`',
    default: '`true`',
    meaning:
      'Whether the loop device bypasses the page cache of the pool’s filesystem. If the pool does not support this, the driver uses the page cache and logs the reason.',
  },
  readBytesPerSecond: limitDoc('readBytesPerSecond', 'Bytes that the volume reads per second.'),
  writeBytesPerSecond: limitDoc('writeBytesPerSecond', 'Bytes that the volume writes per second.'),
  readIops: limitDoc('readIops', 'Read requests per second.'),
  writeIops: limitDoc('writeIops', 'Write requests per second.'),
} as const satisfies Readonly<Record<keyof RawSettings, ParameterDoc>>;

/** Parameters that can be changed later: by a VolumeAttributesClass, or `loopcsi volume limit`. */
const mutableParameters = ['trim', ...limitNames] as const satisfies readonly ParameterName[];

export type ParameterName = keyof typeof knownParameters;

/** The `volumeAttributes` of an inline volume. */
export const knownAttributes = {
  size: {
    values: 'a size such as `512Mi`',
    default: 'the driver’s `--ephemeral-default-size`',
    meaning: 'Size of the volume; the maximum is the driver’s `--ephemeral-max-size`.',
  },
  pool: {
    values: 'name of a pool',
    default: 'the pool with the most capacity',
    meaning: 'The pool of the node in which the volume is created.',
  },
} as const satisfies Readonly<Record<string, ParameterDoc>>;

/** Parameters of a VolumeSnapshotClass or VolumeGroupSnapshotClass. */
export const knownSnapshotParameters = {
  freeze: {
    values: '`yes`, `no`',
    default: '`no`',
    meaning:
      'Permits freezing a filesystem in use while its data is copied, on a pool without reflink. With reflink it is always frozen, for a few tens of milliseconds.',
  },
} as const satisfies Readonly<Record<string, ParameterDoc>>;

interface RawSettings {
  readonly pool: string;
  readonly provisioning: string;
  readonly mkfsOptions: string;
  readonly sectorSize: string;
  readonly trim: string;
  readonly directIO: string;
  readonly readBytesPerSecond: string;
  readonly writeBytesPerSecond: string;
  readonly readIops: string;
  readonly writeIops: string;
}

type KeyValues = Readonly<Record<string, string>>;

/** Keys that Kubernetes adds: metadata of the claim or the pod, which the driver does not use. */
const kubernetesKey = /^(?:csi\.storage\.k8s\.io|storage\.kubernetes\.io)\//;

/** Parses the parameters of a StorageClass. Throws `invalid` for unknown keys and for values that are not allowed. */
export function parseParameters(parameters: KeyValues, fsType: FsType | null): VolumeSettings {
  requireKnown(parameters, Object.keys(knownParameters), 'parameter');
  const raw: Partial<RawSettings> = parameters;
  const provisioning = pick(raw.provisioning ?? 'thin', ['thin', 'thick'], 'provisioning');
  const trim = parseTrim(raw.trim ?? defaultTrimOf(provisioning));
  requireTrimFits(trim, provisioning);
  return {
    pool: parsePool(raw.pool),
    provisioning,
    mkfsOptions: parseMkfsParameter(raw.mkfsOptions ?? '', fsType),
    sectorSize: parseSectorSize(raw.sectorSize),
    trim,
    directIo: pick(raw.directIO ?? 'true', ['true', 'false'], 'directIO') === 'true',
    limits: { ...noLimits, ...parseLimits(parameters) },
  };
}

/**
 * Parses the parameters of a VolumeAttributesClass, which change a volume. Throws `invalid` for unknown keys, for those that cannot
 * be changed, and for values that are not allowed.
 */
export function parseMutableParameters(parameters: KeyValues): MutableSettings {
  requireMutable(parameters);
  const { trim } = parameters;
  return {
    ...(trim === undefined ? {} : { trim: parseTrim(trim) }),
    limits: parseLimits(parameters),
  };
}

/** Throws `invalid` for parameters that are unknown, or that a volume keeps for its life. */
export function requireMutable(parameters: KeyValues): void {
  for (const key of Object.keys(parameters)) {
    if (kubernetesKey.test(key) || isMutable(key)) continue;
    const problem = Object.hasOwn(knownParameters, key)
      ? 'can only be set when a volume is created, as a parameter of its StorageClass'
      : 'is not known';
    throw new VolumeError(
      'invalid',
      `mutable parameter '${key}' ${problem}; known keys: ${mutableParameters.join(', ')}`,
    );
  }
}

export function isMutable(key: string): key is (typeof mutableParameters)[number] {
  return mutableParameters.some((one) => one === key);
}

/** Throws `invalid` if blocks of a thick volume would be returned to the pool. */
export function requireTrimFits(
  trim: TrimMode,
  provisioning: VolumeSettings['provisioning'],
): void {
  if (provisioning === 'thin' || trim === 'off') return;
  throw new VolumeError(
    'invalid',
    `parameter trim '${trim}' conflicts with provisioning 'thick': all blocks of a thick volume stay allocated; omit trim`,
  );
}

export function defaultTrimOf(provisioning: VolumeSettings['provisioning']): TrimMode {
  return provisioning === 'thick' ? 'off' : 'periodic';
}

function parseTrim(text: string): TrimMode {
  return pick(text, ['periodic', 'online', 'off'], 'trim');
}

/** Returns only the pool, for calls that are not about one volume. Throws `invalid` for unknown keys and for a malformed pool name. */
export function parsePoolParameter(parameters: KeyValues): string | undefined {
  requireKnown(parameters, Object.keys(knownParameters), 'parameter');
  return parsePool(parameters['pool']);
}

/**
 * Returns the pool for GetCapacity, which the capacity tracking of the scheduler calls for every StorageClass; undefined means any
 * pool. A class whose pool exists nowhere in the cluster also gets any pool: with a capacity of 0 the scheduler would wait forever
 * for free storage. Instead, CreateVolume is called, and its error is shown on the claim.
 */
export function parsePoolOfClass(
  parameters: KeyValues,
  clusterPools: readonly string[],
): string | undefined {
  const { pool } = parameters;
  return pool !== undefined && clusterPools.includes(pool) ? pool : undefined;
}

/** Parses the parameters of a snapshot class. Throws `invalid` for unknown keys and values. */
export function parseSnapshotParameters(parameters: KeyValues): SnapshotSettings {
  requireKnown(parameters, Object.keys(knownSnapshotParameters), 'snapshot class parameter');
  return { freeze: pick(parameters['freeze'] ?? 'no', ['yes', 'no'], 'freeze') === 'yes' };
}

/** Parses the attributes of an inline volume. The domain checks its size against the minimum and maximum. */
export function parseInlineAttributes(context: KeyValues): {
  readonly sizeBytes: bigint | undefined;
  readonly settings: VolumeSettings;
} {
  requireKnown(context, Object.keys(knownAttributes), 'volume attribute');
  const { size, pool } = context;
  const parameters = pool === undefined ? {} : { pool };
  const sizeBytes = size === undefined ? undefined : parseBytes(size, 'volume attribute size');
  if (sizeBytes === 0n) {
    throw new VolumeError('invalid', 'volume attribute size is 0; omit it to get the default size');
  }
  return {
    sizeBytes,
    settings: parseParameters(parameters, null),
  };
}

function requireKnown(given: KeyValues, known: readonly string[], keyKind: string): void {
  for (const key of Object.keys(given)) {
    if (kubernetesKey.test(key) || known.includes(key)) continue;
    throw new VolumeError(
      'invalid',
      `${keyKind} '${key}' is not known; known keys: ${known.join(', ')}`,
    );
  }
}

function pick<const T extends string>(value: string, allowed: readonly T[], key: string): T {
  const found = allowed.find((one) => one === value);
  if (found !== undefined) return found;
  throw new VolumeError(
    'invalid',
    `parameter ${key} '${value}' is not allowed; allowed values: ${allowed.join(', ')}`,
  );
}

function parseSectorSize(text: string | undefined): VolumeSettings['sectorSize'] {
  if (text === undefined) return undefined;
  return pick(text, ['4096', '512'], 'sectorSize') === '512' ? 512 : 4096;
}

function parsePool(pool: string | undefined): string | undefined {
  if (pool === undefined || poolNamePattern.test(pool)) return pool;
  throw new VolumeError(
    'invalid',
    `parameter pool '${pool}' is not a pool name; use lower-case letters, digits and '-'`,
  );
}

function parseMkfsParameter(text: string, fsType: FsType | null): readonly string[] {
  if (text.trim() === '') return [];
  if (fsType === null) {
    throw new VolumeError('invalid', 'parameter mkfsOptions: a block volume has no filesystem');
  }
  return parseMkfsOptions(fsType, text);
}

/** Returns a table of docs/parameters.md. */
export function parametersAsMarkdown(docs: Readonly<Record<string, ParameterDoc>>): string {
  const rows = Object.entries(docs).map(
    ([key, { values, default: shown, meaning }]) =>
      `| \`${key}\` | ${values} | ${shown} | ${meaning} |`,
  );
  return ['| Key | Values | Default | Meaning |', '|---|---|---|---|', ...rows].join('\n');
}
