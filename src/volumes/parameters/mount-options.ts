import { VolumeError } from '../../errors.ts';
import type { FsType } from '../../host/host.ts';

/** An option without a value, or the name of an option whose value must match the pattern. */
type AllowedMountOption = string | { readonly name: string; readonly value: RegExp };

const number = (name: string): AllowedMountOption => ({ name, value: /^\d{1,9}$/ });

/** Options that the kernel supports for every filesystem. */
export const allowedVfsOptions: readonly AllowedMountOption[] = [
  'defaults',
  'ro',
  'rw',
  'suid',
  'nosuid',
  'dev',
  'nodev',
  'exec',
  'noexec',
  'sync',
  'async',
  'dirsync',
  'atime',
  'noatime',
  'diratime',
  'nodiratime',
  'relatime',
  'norelatime',
  'strictatime',
  'nostrictatime',
  'lazytime',
  'nolazytime',
  'symfollow',
  'nosymfollow',
];

/** Allowed options of each filesystem. Options that skip its log, name a device or disable barriers are excluded. */
export const allowedFilesystemOptions: Readonly<Record<FsType, readonly AllowedMountOption[]>> = {
  ext4: [
    'acl',
    'user_xattr',
    'bsddf',
    'minixdf',
    'discard',
    'nodiscard',
    'delalloc',
    'nodelalloc',
    'auto_da_alloc',
    'noauto_da_alloc',
    'barrier',
    'dioread_lock',
    'dioread_nolock',
    'block_validity',
    'noblock_validity',
    'journal_checksum',
    'nojournal_checksum',
    'init_itable',
    'noinit_itable',
    'i_version',
    'grpid',
    'nogrpid',
    'bsdgroups',
    'sysvgroups',
    'quota',
    'noquota',
    'usrquota',
    'grpquota',
    'prjquota',
    ...['commit', 'max_batch_time', 'min_batch_time', 'inode_readahead_blks'].map(number),
    ...['max_dir_size_kb', 'stripe', 'init_itable'].map(number),
    { name: 'data', value: /^(?:ordered|journal|writeback)$/ },
    { name: 'errors', value: /^(?:remount-ro|continue)$/ },
    { name: 'barrier', value: /^1$/ },
  ],
  xfs: [
    'discard',
    'nodiscard',
    'inode32',
    'inode64',
    'largeio',
    'nolargeio',
    'noalign',
    'swalloc',
    'wsync',
    'filestreams',
    'grpid',
    'nogrpid',
    'bsdgroups',
    'sysvgroups',
    'quota',
    'noquota',
    'uquota',
    'usrquota',
    'uqnoenforce',
    'qnoenforce',
    'gquota',
    'grpquota',
    'gqnoenforce',
    'pquota',
    'prjquota',
    'pqnoenforce',
    { name: 'allocsize', value: /^\d{1,10}[kmgKMG]?$/ },
    { name: 'logbsize', value: /^\d{1,6}k?$/ },
    { name: 'logbufs', value: /^[2-8]$/ },
  ],
  btrfs: [
    'acl',
    'noacl',
    'autodefrag',
    'noautodefrag',
    'barrier',
    'discard',
    'nodiscard',
    'compress',
    'compress-force',
    'datacow',
    'nodatacow',
    'datasum',
    'nodatasum',
    'flushoncommit',
    'noflushoncommit',
    'skip_balance',
    'ssd',
    'ssd_spread',
    'nossd',
    'nossd_spread',
    'user_subvol_rm_allowed',
    ...['commit', 'metadata_ratio', 'thread_pool'].map(number),
    { name: 'max_inline', value: /^\d{1,9}[kK]?$/ },
    { name: 'discard', value: /^(?:sync|async)$/ },
    { name: 'space_cache', value: /^v2$/ },
    ...['compress', 'compress-force'].map((name) => ({
      name,
      value: /^(?:no|none|lzo|zlib(?::[1-9])?|zstd(?::(?:[1-9]|1[0-5]))?)$/,
    })),
  ],
};

/** Refused options that users are known to try, with the reason for each refusal. */
const refusals: readonly (readonly [pattern: RegExp, why: string])[] = [
  [/^r?bind$|^move$|^remount(?:=|$)/, 'the driver alone decides what is mounted where'],
  [
    /^(?:make-)?r?(?:shared|private|slave|unbindable)$/,
    'the container runtime sets the mount propagation',
  ],
  [/^(?:loop|offset|sizelimit|device)(?:=|$)/, 'the driver chooses the device'],
  [/^errors=panic$|^fatal_errors=/, 'a volume must not stop its node'],
  [/^(?:journal_dev|journal_path|logdev|rtdev)(?:=|$)/, 'a volume has only one device'],
  [/^nouuid$/, 'each volume has its own UUID'],
  [
    /^(?:noload|norecovery|nologreplay|rescue)(?:=|$)/,
    'without replay of its log a volume would contain old data',
  ],
  [/^nobarrier$|^barrier=0$/, 'data that was synced could be lost'],
  [/^subvol(?:id)?=/, 'a volume is always mounted as a whole'],
];

const contextPattern = /^[A-Za-z0-9_.:,-]{1,255}$/;

/**
 * Parses the mount options of a volume capability and keeps their order. One entry may contain several options, separated by
 * commas. The value of `context=` (SELinux) is returned in quotes, since its categories contain commas. Throws `invalid` with the
 * name of an option that is not allowed.
 */
export function parseMountOptions(fsType: FsType, flags: readonly string[]): readonly string[] {
  const allowed = [...allowedVfsOptions, ...allowedFilesystemOptions[fsType]];
  return flags.flatMap(splitEntry).map((option) => {
    if (option.startsWith('context=')) return checkedContext(option);
    const refusal = refusals.find(([pattern]) => pattern.test(option));
    if (refusal !== undefined) {
      throw new VolumeError('invalid', `mount option '${option}' is refused: ${refusal[1]}`);
    }
    if (allowed.some((one) => matches(one, option))) return option;
    const list = `${allowed.map(describeMountOption).join(', ')}, context=CONTEXT`;
    throw new VolumeError(
      'invalid',
      `mount option '${option}' is not allowed for ${fsType}; allowed: ${list}`,
    );
  });
}

/**
 * Returns the mount options of a new volume, for its record. Throws `invalid` if one of them, or one of the mount flags, is not
 * allowed for its filesystem: the volume could never be mounted.
 */
export function checkedMountOptions(
  fsType: FsType | null,
  input: { readonly mountOptions?: readonly string[]; readonly mountFlags?: readonly string[] },
): readonly string[] {
  const { mountOptions = [], mountFlags = [] } = input;
  if (fsType !== null) parseMountOptions(fsType, [...mountOptions, ...mountFlags]);
  return mountOptions;
}

/** Splits an entry at commas. The value of `context=` extends to the end of the entry, unless it is quoted. */
function splitEntry(entry: string): readonly string[] {
  const parts = entry.match(/context="[^"]*"|context=(?:[^"].*)?$|[^,]+/g) ?? [];
  return parts.map((part) => part.trim()).filter((part) => part !== '');
}

function checkedContext(option: string): string {
  const value = option.slice('context='.length).replace(/^"(.*)"$/, '$1');
  if (contextPattern.test(value)) return `context="${value}"`;
  throw new VolumeError('invalid', `mount option '${option}' is not an SELinux context`);
}

function matches(allowed: AllowedMountOption, option: string): boolean {
  if (typeof allowed === 'string') return allowed === option;
  const { name, value } = allowed;
  return option.startsWith(`${name}=`) && value.test(option.slice(name.length + 1));
}

/** An option, for messages and docs/parameters.md: `noatime`, `commit=…`. */
export function describeMountOption(option: AllowedMountOption): string {
  return typeof option === 'string' ? option : `${option.name}=…`;
}
