import { VolumeError } from '../../errors.ts';
import type { FsType } from '../../host/host.ts';

/** A word, or a name with `=` and a value of this pattern. */
export type AllowedMountOption = string | { readonly name: string; readonly value: RegExp };

const number = (name: string): AllowedMountOption => ({ name, value: /^\d{1,9}$/ });

/** Flags that the kernel knows for every filesystem. */
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

/** What each filesystem's own options may be: none that skips a log, names a device or gives up a barrier. */
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

/** Options that people do try, and why a volume cannot have them. */
const refusals: readonly (readonly [pattern: RegExp, why: string])[] = [
  [/^r?bind$|^move$|^remount(?:=|$)/, 'the driver alone decides what is mounted where'],
  [/^(?:make-)?r?(?:shared|private|slave|unbindable)$/, 'propagation is the container runtime’s'],
  [/^(?:loop|offset|sizelimit|device)(?:=|$)/, 'the driver chooses the device'],
  [/^errors=panic$|^fatal_errors=/, 'a volume must not stop its node'],
  [/^(?:journal_dev|journal_path|logdev|rtdev)(?:=|$)/, 'a volume has no other device'],
  [/^nouuid$/, 'each volume has a UUID of its own'],
  [/^(?:noload|norecovery|nologreplay|rescue)(?:=|$)/, 'without its log a volume shows old data'],
  [/^nobarrier$|^barrier=0$/, 'data that was synced could be lost'],
  [/^subvol(?:id)?=/, 'a volume is mounted whole'],
];

const contextPattern = /^[A-Za-z0-9_.:,-]{1,255}$/;

/**
 * The mount options of a volume capability, checked and as single words in their order. An entry
 * may hold several with commas between. `context=` (SELinux) comes back in quotes, since its
 * categories have commas. Throws `invalid`, naming the word that is not allowed.
 */
export function parseMountOptions(fsType: FsType, flags: readonly string[]): readonly string[] {
  const allowed = [...allowedVfsOptions, ...allowedFilesystemOptions[fsType]];
  return flags.flatMap(splitEntry).map((word) => {
    if (word.startsWith('context=')) return checkedContext(word);
    const refusal = refusals.find(([pattern]) => pattern.test(word));
    if (refusal !== undefined) {
      throw new VolumeError('invalid', `mount option '${word}' is refused: ${refusal[1]}`);
    }
    if (allowed.some((option) => matches(option, word))) return word;
    const list = `${allowed.map(describeMountOption).join(', ')}, context=CONTEXT`;
    throw new VolumeError(
      'invalid',
      `mount option '${word}' is not allowed for ${fsType}; allowed: ${list}`,
    );
  });
}

/** Splits at commas, but takes all that follows `context=` as its value, unless quotes end it before. */
function splitEntry(entry: string): readonly string[] {
  const parts = entry.match(/context="[^"]*"|context=(?:[^"].*)?$|[^,]+/g) ?? [];
  return parts.map((part) => part.trim()).filter((part) => part !== '');
}

function checkedContext(word: string): string {
  const value = word.slice('context='.length).replace(/^"(.*)"$/, '$1');
  if (contextPattern.test(value)) return `context="${value}"`;
  throw new VolumeError('invalid', `mount option '${word}' is not an SELinux context`);
}

function matches(option: AllowedMountOption, word: string): boolean {
  if (typeof option === 'string') return option === word;
  const { name, value } = option;
  return word.startsWith(`${name}=`) && value.test(word.slice(name.length + 1));
}

/** An option as people read it: `noatime`, `commit=…`. */
export function describeMountOption(option: AllowedMountOption): string {
  return typeof option === 'string' ? option : `${option.name}=…`;
}
