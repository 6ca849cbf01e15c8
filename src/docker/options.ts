/** The `--opt` words of `docker volume create` (docs/docker.md), as an input of the domain. */
import { VolumeError } from '../errors.ts';
import { type FsType, fsTypes } from '../host/host.ts';
import { parseBytes } from '../units.ts';
import type { FoundSource } from '../volumes/docker/volumes.ts';
import type { CreateVolumeInput } from '../volumes/model.ts';
import { parseParameters } from '../volumes/parameters/storage-class.ts';

interface OptionDoc {
  readonly values: string;
  readonly default: string;
  readonly meaning: string;
}

/** What may be said. The table of docs/docker.md is made from it; a test compares. */
export const knownOptions = {
  size: {
    values: 'a size, `512Mi` or `10Gi` for example',
    default: "the driver's `--default-size`; of a clone, the size of its source",
    meaning: 'Size of the volume: what the container sees, and the most it can write.',
  },
  fstype: {
    values: '`ext4`, `xfs`, `btrfs`',
    default: "the driver's `--default-fstype`; of a clone, its source's",
    meaning: 'Filesystem of the volume.',
  },
  pool: {
    values: 'name of a pool',
    default: 'the pool with the most room; of a clone, the pool of its source',
    meaning: 'Which pool of the machine the volume is made in.',
  },
  provisioning: {
    values: '`thin`, `thick`',
    default: '`thin`',
    meaning: '`thick` allocates every block at once, `thin` allocates as data is written.',
  },
  mkfsOptions: {
    values: 'flags of mkfs, checked against a list',
    default: 'none',
    meaning: 'As in a StorageClass: docs/parameters.md has the list.',
  },
  mountOptions: {
    values: 'words with commas between',
    default: 'none',
    meaning: 'Options of the mount, for the life of the volume: `noatime` for example.',
  },
  from: {
    values: 'name or id of a snapshot or volume, `snapshot:NAME` or `volume:NAME`',
    default: 'an empty volume',
    meaning: 'The new volume starts as a copy of it.',
  },
} as const satisfies Readonly<Record<string, OptionDoc>>;

type OptionName = keyof typeof knownOptions;
export type Options = Readonly<Record<string, string>>;

/**
 * What `docker volume create NAME --opt …` asks for. `findSource` looks the value of `from` up. Throws `invalid` for an
 * unknown option, which names the known ones, and for a value that is not allowed.
 */
export function parseOptions(
  name: string,
  options: Options,
  context: { defaultFsType: FsType; findSource: (name: string) => FoundSource },
): CreateVolumeInput {
  requireKnown(options);
  const given: Partial<Record<OptionName, string>> = options;
  const source = given.from === undefined ? undefined : context.findSource(namedBy(given.from));
  requireMountable(given.from ?? '', source);
  const fsType = parseFsType(given.fstype) ?? source?.fsType ?? context.defaultFsType;
  const { pool = source?.pool, provisioning, mkfsOptions } = given;
  const parameters = definedOf({ pool, provisioning, mkfsOptions });
  return {
    name,
    range: { requiredBytes: parseSize(given.size) ?? source?.sizeBytes ?? 0n, limitBytes: 0n },
    kind: 'mount',
    fsType,
    settings: parseParameters(parameters, fsType),
    parameters: definedOf({ pool: given.pool, provisioning, mkfsOptions }),
    source: source?.source ?? null,
    mountOptions: parseWords(given.mountOptions),
  };
}

function requireKnown(options: Options): void {
  for (const key of Object.keys(options)) {
    if (Object.hasOwn(knownOptions, key)) continue;
    throw new VolumeError(
      'invalid',
      `option '${key}' is not known; known are ${Object.keys(knownOptions).join(', ')}`,
    );
  }
}

/** Throws `invalid` for nothing, as a variable that is not set leaves it in a compose file. */
function namedBy(from: string): string {
  if (!/^(?:snapshot:|volume:)?$/.test(from)) return from;
  throw new VolumeError(
    'invalid',
    `option from '${from}' names nothing; write the name of a snapshot or volume, or leave it out`,
  );
}

/** A block volume has no filesystem that could be mounted, and a copy of one has none either. */
function requireMountable(name: string, source: FoundSource | undefined): void {
  if (source === undefined || source.kind === 'mount') return;
  throw new VolumeError(
    'invalid',
    `option from '${name}' is a raw block ${source.source.kind}; Docker can only use filesystems`,
  );
}

function parseSize(text: string | undefined): bigint | undefined {
  if (text === undefined) return undefined;
  const bytes = parseBytes(text, 'option size');
  if (bytes > 0n) return bytes;
  throw new VolumeError('invalid', `option size '${text}' must be more than nothing`);
}

function parseFsType(text: string | undefined): FsType | undefined {
  if (text === undefined) return undefined;
  const found = fsTypes.find((one) => one === text);
  if (found !== undefined) return found;
  throw new VolumeError(
    'invalid',
    `option fstype '${text}' is not served; write one of ${fsTypes.join(', ')}`,
  );
}

function parseWords(text: string | undefined): readonly string[] {
  return (text ?? '')
    .split(',')
    .map((word) => word.trim())
    .filter((word) => word !== '');
}

function definedOf(
  entries: Readonly<Record<string, string | undefined>>,
): Readonly<Record<string, string>> {
  return Object.fromEntries(
    Object.entries(entries).flatMap(([key, value]) => (value === undefined ? [] : [[key, value]])),
  );
}

/** The table of docs/docker.md. */
export function optionsAsMarkdown(): string {
  const rows = Object.entries(knownOptions).map(
    ([key, { values, default: shown, meaning }]) =>
      `| \`${key}\` | ${values} | ${shown} | ${meaning} |`,
  );
  return ['| Option | Values | Default | Meaning |', '|---|---|---|---|', ...rows].join('\n');
}
