import { GiB, MiB, TiB } from '../../../units.ts';
import type { MakeOptions } from '../../host.ts';
import { type DefaultFlag, mergeFlags } from '../mkfs-flags.ts';
import { requireUuid } from '../uuid.ts';

/**
 * All features are listed, since mke2fs.conf differs between distributions; `none` first clears its defaults.
 * `metadata_csum_seed` lets tune2fs change the UUID without rewriting every checksum; `resize_inode` reserves space for
 * growth.
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
 * The arguments of mkfs.ext4 for a new image. The image reads as zeroes, so neither mke2fs nor the kernel after the
 * mount needs to zero inode tables or the journal. `prezeroed` uses the option of e2fsprogs 1.47; without it, the
 * kernel zeroes the inode tables in the background.
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
    // By default mke2fs uses 1 KiB blocks for small images, which cannot be mounted from a device with 4 KiB sectors.
    { flag: '-b', value: '4096' },
    // Reserve nothing for root: the requested size is the usable size.
    { flag: '-m', value: '0' },
    { flag: '-e', value: 'remount-ro' },
    // Discarding would punch holes into a thick image; a thin image has nothing to discard.
    { flag: '-E', value: `nodiscard,${zeroes}` },
    { flag: '-U', value: requireUuid(options.uuid) },
    { flag: '-O', value: features.join(','), join: true },
    { flag: '-i', value: String(bytesPerInode(sizeBytes)) },
    { flag: '-I', value: '256' },
    ...journalSize(sizeBytes),
  ]);
  return ['-q', '-F', ...flags, imagePath];
}

/**
 * Bytes per inode: 4 KiB below 512 MiB (the default of mke2fs is the same), and more where 2³² inodes would not
 * suffice.
 */
function bytesPerInode(sizeBytes: bigint): number {
  if (sizeBytes < 512n * MiB) return 4096;
  return sizeBytes < 16n * TiB ? 16_384 : 65_536;
}

/**
 * The journal is written cyclically, so a thin image eventually stores all of it. mke2fs would use up to 1 GiB for a
 * large image; 128 MiB was its maximum until 1.43 and suffices for a busy volume.
 */
function journalSize(sizeBytes: bigint): readonly DefaultFlag[] {
  return sizeBytes < 32n * GiB ? [] : [{ flag: '-J', value: 'size=128' }];
}
