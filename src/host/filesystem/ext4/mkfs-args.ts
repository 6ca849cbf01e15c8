import { GiB, MiB, TiB } from '../../../units.ts';
import type { MakeOptions } from '../../host.ts';
import { type DefaultFlag, mergeFlags } from '../mkfs-flags.ts';
import { requireUuid } from '../uuid.ts';

/**
 * Everything mke2fs's configuration could change from one distribution to the next is said on the
 * command line; `none` first, so that the list is whole. `metadata_csum_seed` lets tune2fs change
 * the UUID without rewriting every checksum, `resize_inode` keeps room for growth.
 */
const features = [
  'none',
  'has_journal',
  'ext_attr',
  'resize_inode',
  'dir_index',
  'filetype',
  'extent',
  '64bit',
  'flex_bg',
  'metadata_csum',
  'metadata_csum_seed',
  'sparse_super',
  'large_file',
  'huge_file',
  'dir_nlink',
  'extra_isize',
];

/**
 * The arguments of mkfs.ext4 for a new image, which reads as zeroes: neither mke2fs nor, after the
 * mount, the kernel needs to zero inode tables or the journal. `prezeroed` says so in the words of
 * e2fsprogs 1.47; without it, the kernel zeroes the inode tables in the background.
 */
export function ext4MakeArguments(
  imagePath: string,
  sizeBytes: bigint,
  options: MakeOptions,
  prezeroed: boolean,
): readonly string[] {
  const zeroes = prezeroed
    ? 'assume_storage_prezeroed=1'
    : 'lazy_itable_init=1,lazy_journal_init=1';
  const flags = mergeFlags(options.options, [
    // Left to itself, mke2fs gives small images 1 KiB blocks, which a device with 4 KiB sectors cannot mount.
    { flag: '-b', value: '4096' },
    // No reserve for root: the size asked for is the size to use.
    { flag: '-m', value: '0' },
    { flag: '-e', value: 'remount-ro' },
    // Discarding would punch holes into a thick image; a thin one has nothing to discard.
    { flag: '-E', value: `nodiscard,${zeroes}` },
    { flag: '-U', value: requireUuid(options.uuid) },
    { flag: '-O', value: features.join(','), join: true },
    { flag: '-i', value: String(bytesPerInode(sizeBytes)) },
    { flag: '-I', value: '256' },
    ...journalSize(sizeBytes),
  ]);
  return ['-q', '-F', ...flags, imagePath];
}

/** Space for one inode: dense below 512 MiB, as mke2fs does by itself, and sparse where 2³² inodes would not reach. */
function bytesPerInode(sizeBytes: bigint): number {
  if (sizeBytes < 512n * MiB) return 4096;
  return sizeBytes < 16n * TiB ? 16_384 : 65_536;
}

/**
 * A journal is written round and round, so in time a thin image holds all of it. mke2fs would take
 * up to 1 GiB of a large one; 128 MiB was its most until 1.43 and keeps a busy volume busy.
 */
function journalSize(sizeBytes: bigint): readonly DefaultFlag[] {
  return sizeBytes < 32n * GiB ? [] : [{ flag: '-J', value: 'size=128' }];
}
