import type { SuperblockState } from '../../host.ts';
import { crc32c } from '../crc32c.ts';
import { formatUuid } from '../uuid.ts';

/** Offset of the primary superblock in an image, and its size, in bytes. */
export const ext4SuperblockAt = 1024;
export const ext4SuperblockBytes = 1024;

/** The fields of an ext4 superblock that we use (Linux, Documentation/filesystems/ext4, "Super Block"). */
export interface Ext4Superblock {
  readonly uuid: string;
  readonly blockBytes: number;
  readonly blocks: bigint;
  readonly state: SuperblockState;
  /** Blocks of a group, and the number without data in a group with a superblock copy. */
  readonly blocksPerGroup: bigint;
  readonly groupOverheadBlocks: bigint;
  /** First block of the journal, which may record an error; undefined without an internal journal. */
  readonly journalBlock: bigint | undefined;
}

const magic = 0xef53;
const stateValid = 1;
const stateErrors = 2;
const incompatRecover = 0x4;
const compatJournal = 0x4;
export const readOnlyCompatMetadataCsum = 0x400;
const checksumCrc32c = 1;
const checksumAt = 0x3fc;
const extentMagic = 0xf30a;

/**
 * Reads a superblock from its 1024 bytes; undefined if the magic or the checksum is wrong. While mounted, fields may
 * change before the checksum does: pass `verify: false` then.
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
 * The checksum covers everything before it. It is checked if the feature bit is set, and also if only the type of the
 * checksum is: otherwise one flipped feature bit would disable the check.
 */
function isChecksumValid(bytes: Buffer): boolean {
  const hasFeature = (bytes.readUInt32LE(0x64) & readOnlyCompatMetadataCsum) !== 0;
  const type = bytes.readUInt8(0x175);
  if (!hasFeature && type !== checksumCrc32c) return true;
  if (type !== checksumCrc32c) return false;
  return crc32c(bytes.subarray(0, checksumAt)) === bytes.readUInt32LE(checksumAt);
}

function stateOf(bytes: Buffer): SuperblockState {
  const state = bytes.readUInt16LE(0x3a);
  if ((state & stateErrors) !== 0) return 'has-errors';
  if ((bytes.readUInt32LE(0x60) & incompatRecover) !== 0) return 'needs-replay';
  // Without a journal, only the missing valid bit shows an unclean end, and only e2fsck helps.
  return (state & stateValid) === 0 ? 'has-errors' : 'clean';
}

/** Superblock, descriptors and their reserve, both bitmaps and the inode table; mke2fs also requires 50 data blocks. */
function groupOverhead(bytes: Buffer, blockBytes: number): bigint {
  const inodeTable = Math.ceil((bytes.readUInt32LE(0x28) * bytes.readUInt16LE(0x58)) / blockBytes);
  const blocks = BigInt(bytes.readUInt32LE(0x04)) | (BigInt(bytes.readUInt32LE(0x150)) << 32n);
  const perGroup = BigInt(Math.max(1, bytes.readUInt32LE(0x20)));
  const descriptorBytes = Math.max(32, bytes.readUInt16LE(0xfe));
  const groups = (blocks + perGroup - 1n) / perGroup;
  const descriptors = (groups * BigInt(descriptorBytes)) / BigInt(blockBytes) + 1n;
  return BigInt(1 + bytes.readUInt16LE(0xce) + 2 + inodeTable + 50) + descriptors;
}

/** From the copy of the extent tree of the journal inode, which mke2fs leaves in the superblock. */
function journalBlockOf(bytes: Buffer): bigint | undefined {
  const hasJournal = (bytes.readUInt32LE(0x5c) & compatJournal) !== 0;
  const backupIsInodeBlocks = bytes.readUInt8(0xfd) === 1;
  if (!hasJournal || !backupIsInodeBlocks) return undefined;
  const tree = bytes.subarray(0x10c, 0x10c + 60);
  const isLeaf = tree.readUInt16LE(6) === 0;
  if (tree.readUInt16LE(0) !== extentMagic || tree.readUInt16LE(2) === 0 || !isLeaf) {
    return undefined;
  }
  // The first extent: u32 logical, u16 length, u16 high and u32 low half of the physical block.
  if (tree.readUInt32LE(12) !== 0) return undefined;
  return (BigInt(tree.readUInt16LE(18)) << 32n) | BigInt(tree.readUInt32LE(20));
}

/**
 * Whether the filesystem uses as much of `sizeBytes` as ext4 can: mke2fs, resize2fs and the kernel leave out a last
 * group that is too small for its own tables, so a few MiB may remain.
 */
export function ext4Fills(superblock: Ext4Superblock, sizeBytes: bigint): boolean {
  const wanted = sizeBytes / BigInt(superblock.blockBytes);
  return superblock.blocks >= wanted || wanted - superblock.blocks < ext4UnusableTail(superblock);
}

/** The filesystem leaves fewer blocks than this after its end unused. */
export function ext4UnusableTail(superblock: Ext4Superblock): bigint {
  const endsWithGroup = superblock.blocks % superblock.blocksPerGroup === 0n;
  return endsWithGroup ? superblock.groupOverheadBlocks : 0n;
}

/**
 * Maximum factor of one growth of an unattached ext4: resize2fs 1.47.0 damages a small one that becomes more than about
 * 1,024 times as large. Several steps within the factor are fine.
 */
export const ext4MaxGrowthFactor = 1000n;

const journalMagic = 0xc03b3998;

/** Whether the superblock of a journal (at least 36 bytes of it) records the error that stopped the kernel. */
export function journalRecordsError(bytes: Buffer): boolean {
  return isJournal(bytes) && bytes.readUInt32BE(0x20) !== 0;
}

/** Whether the journal has transactions that the filesystem may lack: its superblock names their first block. */
export function journalHasData(bytes: Buffer): boolean {
  return isJournal(bytes) && bytes.readUInt32BE(0x1c) !== 0;
}

function isJournal(bytes: Buffer): boolean {
  return bytes.length >= 36 && bytes.readUInt32BE(0) === journalMagic;
}

/**
 * A copy with the flag that requests a replay; undefined if the flag is set, or if the checksums are of another kind.
 */
export function withReplayFlag(superblock: Buffer): Buffer | undefined {
  const incompat = superblock.readUInt32LE(0x60);
  const hasChecksum = (superblock.readUInt32LE(0x64) & readOnlyCompatMetadataCsum) !== 0;
  if ((incompat & incompatRecover) !== 0 || !hasChecksum) return undefined;
  const bytes = Buffer.from(superblock);
  bytes.writeUInt32LE(incompat | incompatRecover, 0x60);
  return withChecksum(bytes);
}

/** Renews the checksum of the superblock in place, and returns it. */
export function withChecksum(superblock: Buffer): Buffer {
  superblock.writeUInt32LE(crc32c(superblock.subarray(0, checksumAt)), checksumAt);
  return superblock;
}
