/** Parses the options of `docker volume create --opt` (docs/docker.md). */
import { VolumeError } from '../errors.ts';
import { type FsType, fsTypes } from '../host/host.ts';
import { parseTypedSize } from '../units.ts';
import type { FoundSource } from '../volumes/docker/volumes.ts';
import type { CreateVolumeInput } from '../volumes/model.ts';
import { type ParameterName, parseParameters } from '../volumes/parameters/storage-class.ts';

interface OptionDoc {
  readonly values: string;
  readonly default: string;
  readonly meaning: string;
}

/** A test compares this with the table of docs/docker.md. */
export const knownOptions = {
  size: {
    values: 'a size, for example `512Mi` or `10Gi`',
    default: "the driver's `--default-size`; for a copy, the size of the source",
    meaning: 'Size of the volume. The container sees it and cannot write more.',
  },
  fstype: {
    values: '`ext4`, `xfs`, `btrfs`',
    default: "the driver's `--default-fstype`; for a copy, that of the source",
    meaning: 'Filesystem of the volume.',
  },
  pool: {
    values: 'name of a pool',
    default: 'the pool with the most capacity; for a copy, the pool of the source',
    meaning: 'Pool in which the volume is created.',
  },
  provisioning: {
    values: '`thin`, `thick`',
    default: '`thin`',
    meaning: '`thick` allocates all blocks at creation, `thin` when they are written.',
  },
  mkfsOptions: {
    values: 'mkfs options',
    default: 'none',
    meaning: 'As in a StorageClass; docs/parameters.md lists the allowed options.',
  },
  readBytesPerSecond: {
    values: '`max`, or bytes per second, for example `50Mi`',
    default: '`max`: not limited',
    meaning: 'Limits reads. Needs `--pods-cgroup`: [I/O limits](limits-io.md).',
  },
  writeBytesPerSecond: {
    values: '`max`, or bytes per second',
    default: '`max`: not limited',
    meaning: 'Limits writes.',
  },
  readIops: {
    values: '`max`, or a number',
    default: '`max`: not limited',
    meaning: 'Limits read requests per second.',
  },
  writeIops: {
    values: '`max`, or a number',
    default: '`max`: not limited',
    meaning: 'Limits write requests per second.',
  },
  mountOptions: {
    values: 'mount options, separated by commas',
    default: 'none',
    meaning: 'Used for every mount of the volume, for example `noatime`.',
  },
  from: {
    values: 'name or id of a snapshot or volume; `snapshot:NAME` or `volume:NAME` if both exist',
    default: 'none: the volume is empty',
    meaning: 'The new volume is a copy of this snapshot or volume.',
  },
} as const satisfies Readonly<Record<string, OptionDoc>>;

type OptionName = keyof typeof knownOptions;
export type Options = Readonly<Record<string, string>>;

/**
 * Parses the options of a new volume. Throws `invalid` for an unknown option and for a value that is not allowed.
 * `findSource` resolves the option `from`.
 */
export function parseOptions(
  name: string,
  options: Options,
  context: { defaultFsType: FsType; findSource: (name: string) => FoundSource },
): CreateVolumeInput {
  requireKnown(options);
  const given: Partial<Record<OptionName, string>> = options;
  const source = given.from === undefined ? undefined : context.findSource(requireName(given.from));
  requireMountable(given.from ?? '', source);
  const fsType = parseFsType(given.fstype) ?? source?.fsType ?? context.defaultFsType;
  const { pool, provisioning, mkfsOptions } = given;
  const { readBytesPerSecond, writeBytesPerSecond, readIops, writeIops } = given;
  const parameters: Record<ParameterName & OptionName, string | undefined> = {
    pool,
    provisioning,
    mkfsOptions,
    readBytesPerSecond,
    writeBytesPerSecond,
    readIops,
    writeIops,
  };
  const withPool = { ...parameters, pool: pool ?? source?.pool };
  return {
    name,
    range: { requiredBytes: parseSize(given.size) ?? source?.sizeBytes ?? 0n, limitBytes: 0n },
    kind: 'mount',
    fsType,
    settings: parseParameters(withoutUndefined(withPool), fsType),
    parameters: withoutUndefined(parameters),
    source: source?.source ?? null,
    mountOptions: parseMountOptions(given.mountOptions),
  };
}

function requireKnown(options: Options): void {
  for (const key of Object.keys(options)) {
    if (Object.hasOwn(knownOptions, key)) continue;
    throw new VolumeError(
      'invalid',
      `option '${key}' is not known; known options: ${Object.keys(knownOptions).join(', ')}`,
    );
  }
}

/** Throws `invalid` for an empty name, which an unset variable in a compose file can cause. */
function requireName(from: string): string {
  if (!/^(?:snapshot:|volume:)?$/.test(from)) return from;
  throw new VolumeError(
    'invalid',
    `option from '${from}' contains no name; use the name of a snapshot or volume, or omit the option`,
  );
}

/** Throws `invalid` for a raw block source, because its copy has no filesystem that Docker could mount. */
function requireMountable(name: string, source: FoundSource | undefined): void {
  if (source === undefined || source.kind === 'mount') return;
  throw new VolumeError(
    'invalid',
    `option from '${name}' names a raw block ${source.source.kind}; Docker can only use volumes with a filesystem`,
  );
}

function parseSize(text: string | undefined): bigint | undefined {
  if (text === undefined) return undefined;
  const bytes = parseTypedSize(text, 'option size');
  if (bytes > 0n) return bytes;
  throw new VolumeError('invalid', `option size '${text}' must be greater than 0`);
}

function parseFsType(text: string | undefined): FsType | undefined {
  if (text === undefined) return undefined;
  const found = fsTypes.find((fsType) => fsType === text);
  if (found !== undefined) return found;
  throw new VolumeError(
    'invalid',
    `option fstype '${text}' is not supported; use one of ${fsTypes.join(', ')}`,
  );
}

function parseMountOptions(text: string | undefined): readonly string[] {
  return (text ?? '')
    .split(',')
    .map((option) => option.trim())
    .filter((option) => option !== '');
}

function withoutUndefined(
  entries: Readonly<Record<string, string | undefined>>,
): Readonly<Record<string, string>> {
  return Object.fromEntries(
    Object.entries(entries).flatMap(([key, value]) => (value === undefined ? [] : [[key, value]])),
  );
}

/** Returns the table of options for docs/docker.md. */
export function optionsAsMarkdown(): string {
  const rows = Object.entries(knownOptions).map(
    ([key, { values, default: defaultText, meaning }]) =>
      `| \`${key}\` | ${values} | ${defaultText} | ${meaning} |`,
  );
  return ['| Option | Values | Default | Meaning |', '|---|---|---|---|', ...rows].join('\n');
}
