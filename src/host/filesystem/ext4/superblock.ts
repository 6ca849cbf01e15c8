import type { SuperblockState } from '../../host.ts';
import { crc32c } from '../crc32c.ts';
import { formatUuid } from '../uuid.ts';

/** Offset and size, in bytes, of the primary superblock in an image. */
export const ext4SuperblockOffset = 1024;
export const ext4SuperblockBytes = 1024;

/** The fields of an ext4 superblock that the driver uses (Linux, Documentation/filesystems/ext4, "Super Block"). */
export interface Ext4Superblock {
  readonly uuid: string;
  readonly blockBytes: number;
  readonly blocks: bigint;
  readonly state: SuperblockState;
  /** Number of blocks in a group, and how many of them hold no data in a group with a superblock copy. */
  readonly blocksPerGroup: bigint;
  readonly groupOverheadBlocks: bigint;
  /** The first block of the journal, which may record an error; undefined if there is no internal journal. */
  readonly journalBlock: bigint | undefined;
}

const magic = 0xef53;
const stateValid = 1;
const stateErrors = 2;
const incompatRecover = 0x4;
const compatJournal = 0x4;
export const readOnlyCompatMetadataCsum = 0x400;
const checksumCrc32c = 1;
const checksumOffset = 0x3fc;
const extentMagic = 0xf30a;

/**
 * Parses the 1024 bytes of a superblock; undefined if the magic or the checksum is wrong. While the filesystem is
 * mounted, fields may change before the checksum is updated: pass `verify: false`.
 */
export function parseExt4Superblock(
  bytes: Buffer,
  { verify = true }: { readonly verify?: boolean } = {},
): Ext4Superblock | undefined {
  if (bytes.length < ext4SuperblockBytes || bytes.readUInt16LE(0x38) !== magic) return undefined;
  const logBlockSize = bytes.readUInt32LE(0x18);
  if (logBlockSize > 6 || (verify && !isChecksumValid(bytes))) return undefined;
  const blockBytes = 1024 << logBlockSize;
  return {
    uuid: formatUuid(bytes.subarray(0x68, 0x78)),
    blockBytes,
    blocks: BigInt(bytes.readUInt32LE(0x04)) | (BigInt(bytes.readUInt32LE(0x150)) << 32n),
    state: stateOf(bytes),
    blocksPerGroup: BigInt(bytes.readUInt32LE(0x20)),
    groupOverheadBlocks: groupOverhead(bytes, blockBytes),
    journalBlock: journalBlockOf(bytes),
  };
}

/**
 * Verifies the checksum, which covers everything before it, if the feature bit or the checksum type is set. If only the
 * bit counted, a single flipped bit would disable the check.
 */
function isChecksumValid(bytes: Buffer): boolean {
  const hasFeature = (bytes.readUInt32LE(0x64) & readOnlyCompatMetadataCsum) !== 0;
  const type = bytes.readUInt8(0x175);
  if (!hasFeature && type !== checksumCrc32c) return true;
  if (type !== checksumCrc32c) return false;
  return crc32c(bytes.subarray(0, checksumOffset)) === bytes.readUInt32LE(checksumOffset);
}

function stateOf(bytes: Buffer): SuperblockState {
  const state = bytes.readUInt16LE(0x3a);
  if ((state & stateErrors) !== 0) return 'has-errors';
  if ((bytes.readUInt32LE(0x60) & incompatRecover) !== 0) return 'needs-replay';
  // Without a journal, only a missing valid bit shows that the filesystem was not unmounted, and only e2fsck can repair
  // that.
  return (state & stateValid) === 0 ? 'has-errors' : 'clean';
}

/**
 * Counts the blocks of a group that hold no data: superblock, group descriptors and the blocks reserved for more of
 * them, both bitmaps and the inode table. mke2fs also requires 50 data blocks.
 */
function groupOverhead(bytes: Buffer, blockBytes: number): bigint {
  const inodeTable = Math.ceil((bytes.readUInt32LE(0x28) * bytes.readUInt16LE(0x58)) / blockBytes);
  const blocks = BigInt(bytes.readUInt32LE(0x04)) | (BigInt(bytes.readUInt32LE(0x150)) << 32n);
  const perGroup = BigInt(Math.max(1, bytes.readUInt32LE(0x20)));
  const descriptorBytes = Math.max(32, bytes.readUInt16LE(0xfe));
  const groups = (blocks + perGroup - 1n) / perGroup;
  const descriptors = (groups * BigInt(descriptorBytes)) / BigInt(blockBytes) + 1n;
  return BigInt(1 + bytes.readUInt16LE(0xce) + 2 + inodeTable + 50) + descriptors;
}

/**
 * Reads the first block of the journal from the copy of the journal inode's extent tree that mke2fs stores in the
 * superblock.
 */
function journalBlockOf(bytes: Buffer): bigint | undefined {
  const hasJournal = (bytes.readUInt32LE(0x5c) & compatJournal) !== 0;
  const backupIsInodeBlocks = bytes.readUInt8(0xfd) === 1;
  if (!hasJournal || !backupIsInodeBlocks) return undefined;
  const tree = bytes.subarray(0x10c, 0x10c + 60);
  const isLeaf = tree.readUInt16LE(6) === 0;
  if (tree.readUInt16LE(0) !== extentMagic || tree.readUInt16LE(2) === 0 || !isLeaf) {
    return undefined;
  }
  // The first extent: logical block (u32), length (u16), high (u16) and low (u32) part of the physical block.
  if (tree.readUInt32LE(12) !== 0) return undefined;
  return (BigInt(tree.readUInt16LE(18)) << 32n) | BigInt(tree.readUInt32LE(20));
}

/**
 * Whether the filesystem uses as much of `sizeBytes` as ext4 can. mke2fs, resize2fs and the kernel omit a last group
 * that is too small for its own metadata, so a few MiB may remain unused.
 */
export function ext4Fills(superblock: Ext4Superblock, sizeBytes: bigint): boolean {
  const wanted = sizeBytes / BigInt(superblock.blockBytes);
  return superblock.blocks >= wanted || wanted - superblock.blocks < ext4UnusableTail(superblock);
}

/** Fewer blocks than this may stay unused after the end of the filesystem. */
export function ext4UnusableTail(superblock: Ext4Superblock): bigint {
  const endsWithGroup = superblock.blocks % superblock.blocksPerGroup === 0n;
  return endsWithGroup ? superblock.groupOverheadBlocks : 0n;
}

/**
 * Maximum factor of a single growth of an unattached ext4: resize2fs 1.47.0 damages a small filesystem that it grows by
 * more than a factor of about 1,024. Several smaller steps are fine.
 */
export const ext4MaxGrowthFactor = 1000n;

const journalMagic = 0xc03b3998;

/** Whether the journal's superblock (at least 36 bytes of it) records the error that stopped the journal. */
export function journalRecordsError(bytes: Buffer): boolean {
  return isJournal(bytes) && bytes.readUInt32BE(0x20) !== 0;
}

/**
 * Whether the journal has transactions that may not be in the filesystem yet: its superblock then has their first
 * block.
 */
export function journalHasData(bytes: Buffer): boolean {
  return isJournal(bytes) && bytes.readUInt32BE(0x1c) !== 0;
}

function isJournal(bytes: Buffer): boolean {
  return bytes.length >= 36 && bytes.readUInt32BE(0) === journalMagic;
}

/**
 * Returns a copy of the superblock with the flag that requests a replay; undefined if the flag is already set or the
 * filesystem has no metadata_csum.
 */
export function withReplayFlag(superblock: Buffer): Buffer | undefined {
  const incompat = superblock.readUInt32LE(0x60);
  const hasChecksum = (superblock.readUInt32LE(0x64) & readOnlyCompatMetadataCsum) !== 0;
  if ((incompat & incompatRecover) !== 0 || !hasChecksum) return undefined;
  const bytes = Buffer.from(superblock);
  bytes.writeUInt32LE(incompat | incompatRecover, 0x60);
  return withChecksum(bytes);
}

/** Updates the checksum of the superblock in place and returns the superblock. */
export function withChecksum(superblock: Buffer): Buffer {
  superblock.writeUInt32LE(crc32c(superblock.subarray(0, checksumOffset)), checksumOffset);
  return superblock;
}
