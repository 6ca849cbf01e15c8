import { VolumeError } from '../../errors.ts';
import type { FsType } from '../../host/host.ts';

/** Allowed values of a flag; `hint` describes them in docs/parameters.md and in error messages. */
interface AllowedValue {
  readonly pattern: RegExp;
  readonly hint: string;
}

interface AllowedFlag {
  /** The spelling that is passed to mkfs and listed in docs/parameters.md. */
  readonly flag: string;
  /** Other spellings of the same flag. */
  readonly aliases?: readonly string[];
  /** The value must match one of these. With `list`, it is a comma-separated list in which each of them may occur once. */
  readonly values: readonly AllowedValue[];
  readonly list?: boolean;
}

const oneOf = (...values: readonly string[]): AllowedValue => ({
  pattern: new RegExp(`^(?:${values.map((value) => value.replace('^', '\\^')).join('|')})$`),
  hint: values.join('|'),
});
const key = (name: string, pattern: RegExp, hint: string): AllowedValue => ({
  pattern: new RegExp(`^${name}=(?:${pattern.source})$`),
  hint: `${name}=${hint}`,
});
const onOff = (...names: readonly string[]): readonly AllowedValue[] =>
  names.map((name) => key(name, /[01]/, '0|1'));
const label = (length: number): AllowedFlag => ({
  flag: '-L',
  aliases: ['--label'],
  values: [{ pattern: new RegExp(`^[A-Za-z0-9][A-Za-z0-9._-]{0,${length - 1}}$`), hint: 'LABEL' }],
});

/**
 * The mkfs options that a StorageClass may set. Options for the geometry (block, sector and image size), for devices, the UUID and
 * discard are excluded, as are features that the checks of this driver depend on.
 */
export const allowedMkfsFlags: Readonly<Record<FsType, readonly AllowedFlag[]>> = {
  ext4: [
    {
      flag: '-i',
      values: [
        {
          pattern: /^(?:409[6-9]|4[1-9]\d\d|[5-9]\d{3}|[1-9]\d{4,6})$/,
          hint: 'BYTES (4096 to 9999999)',
        },
      ],
    },
    { flag: '-I', values: [oneOf('256', '512', '1024')] },
    { flag: '-N', values: [{ pattern: /^[1-9]\d{1,8}$/, hint: 'COUNT (10 to 999999999)' }] },
    { flag: '-J', values: [key('size', /[4-9]|[1-9]\d{1,3}/, 'MIB (4 to 9999)')] },
    {
      flag: '-O',
      list: true,
      values: [
        oneOf(
          'ea_inode',
          'encrypt',
          'fast_commit',
          'inline_data',
          'large_dir',
          'orphan_file',
          'project',
          'quota',
          'verity',
        ),
      ],
    },
    label(16),
  ],
  xfs: [
    {
      flag: '-i',
      list: true,
      values: [
        key('size', /512|1024|2048/, '512|1024|2048'),
        key('maxpct', /\d\d?|100/, '0 to 100'),
        ...onOff('sparse'),
      ],
    },
    {
      flag: '-m',
      list: true,
      values: onOff('bigtime', 'finobt', 'inobtcount', 'reflink', 'rmapbt'),
    },
    {
      flag: '-n',
      values: [key('size', /4096|8192|16384|32768|65536/, '4096|8192|16384|32768|65536')],
    },
    { flag: '-l', values: [key('size', /(?:6[4-9]|[7-9]\d|1\d{3}|[1-9]\d\d)m/, '64m to 1999m')] },
    label(12),
  ],
  btrfs: [
    {
      flag: '-n',
      aliases: ['--nodesize'],
      values: [oneOf('4096', '8192', '16384', '32768', '65536')],
    },
    { flag: '-m', aliases: ['--metadata'], values: [oneOf('single', 'dup')] },
    { flag: '-d', aliases: ['--data'], values: [oneOf('single', 'dup')] },
    { flag: '--csum', aliases: ['--checksum'], values: [oneOf('crc32c', 'sha256')] },
    {
      flag: '-O',
      aliases: ['--features'],
      list: true,
      values: [oneOf('no-holes', '^no-holes')],
    },
    label(64),
  ],
};

/**
 * Parses the `mkfsOptions` of a StorageClass into pairs of flag and value, with each flag in its main spelling. Throws `invalid`
 * for an option that is not allowed or given twice, and lists those that are allowed.
 */
export function parseMkfsOptions(fsType: FsType, text: string): readonly string[] {
  const args = text.split(/[ \t\n]+/).filter((arg) => arg !== '');
  const result = new Map<string, string>();
  for (let index = 0; index < args.length; index += 1) {
    const arg = args[index] ?? '';
    const equals = arg.startsWith('--') ? arg.indexOf('=') : -1;
    const name = equals < 0 ? arg : arg.slice(0, equals);
    const allowed = allowedMkfsFlags[fsType].find(
      ({ flag, aliases = [] }) => flag === name || aliases.includes(name),
    );
    if (allowed === undefined) throw refusedError(fsType, `'${arg}' is not allowed`);
    if (result.has(allowed.flag)) throw refusedError(fsType, `'${name}' is given twice`);
    if (equals < 0) index += 1;
    const value = equals < 0 ? args[index] : arg.slice(equals + 1);
    if (value === undefined) throw refusedError(fsType, `'${name}' has no value`);
    requireAllowed(fsType, allowed, value);
    result.set(allowed.flag, value);
  }
  return [...result].flat();
}

function requireAllowed(fsType: FsType, allowed: AllowedFlag, value: string): void {
  const parts = allowed.list === true ? value.split(',') : [value];
  const seen = new Set<string>();
  for (const part of parts) {
    if (!allowed.values.some(({ pattern }) => pattern.test(part))) {
      throw refusedError(fsType, `'${part}' is not allowed after ${allowed.flag}`);
    }
    const name = part.replace(/^\^|=.*$/g, '');
    if (seen.has(name))
      throw refusedError(fsType, `'${name}' is given twice after ${allowed.flag}`);
    seen.add(name);
  }
}

function refusedError(fsType: FsType, problem: string): VolumeError {
  const list = allowedMkfsFlags[fsType].map(describeFlag).join('; ');
  return new VolumeError('invalid', `mkfsOptions for ${fsType}: ${problem}; allowed: ${list}`);
}

/** A flag and its allowed values, for messages: `-m bigtime=0|1, rmapbt=0|1`. */
function describeFlag({ flag, values }: AllowedFlag): string {
  return `${flag} ${values.map(({ hint }) => hint).join(', ')}`;
}
