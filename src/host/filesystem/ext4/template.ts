import { crc32c } from '../crc32c.ts';
import {
  type Ext4Superblock,
  ext4SuperblockBytes,
  ext4SuperblockOffset,
  parseExt4Superblock,
  withChecksum,
} from './superblock.ts';
import { superblockCopies, usesChecksumSeed, uuidOffset, writeUuidAt } from './write-uuid.ts';

/**
 * A fresh ext4 created by mkfs.ext4, to be written into other new images of the same size (ADR 0005). Two runs of mkfs
 * with equal arguments differ only in the UUID, hash seed and times of the superblocks, the times of the first inodes,
 * and checksums. Those are set anew for each image. All functions are pure: template-cache.ts does the I/O.
 */

/** Contiguous bytes at an offset. */
export interface ByteRun {
  readonly at: number;
  readonly bytes: Buffer;
}

/** The values that differ between filesystems with the same arguments. */
export interface Ext4Identity {
  readonly uuid: string;
  /** Directories hash file names with it. A user who knew it could choose names that make lookups slow. */
  readonly hashSeed: string;
  readonly atMs: number;
}

export interface Ext4Template {
  readonly runs: readonly ByteRun[];
  /** Structures that are updated for each filesystem, in ascending order. */
  readonly structures: readonly VariableStructure[];
}

interface VariableStructure extends ByteRun {
  readonly update: (bytes: Buffer, identity: Ext4Identity) => void;
}

const hashSeedOffset = 0xec;
const checksumSeedOffset = 0x270;
/** Offsets of the low 32 bits and of the high byte: last write, last check, creation. */
const superblockTimes = [
  [0x30, 0x274],
  [0x40, 0x277],
  [0x108, 0x276],
] as const;

const generationOffset = 0x64;
const checksumLowOffset = 0x7c;
const extraSizeOffset = 0x80;
const checksumHighOffset = 0x82;
/** The i_extra_isize that the high half of the checksum needs, and the one that the creation time needs. */
const extraWithHigh = 4;
const extraWithTimes = 24;
/** Offsets of the seconds and of the extra field with their high 2 bits: access, change, modification, creation. */
const inodeTimes = [
  [0x08, 0x8c],
  [0x0c, 0x84],
  [0x10, 0x88],
  [0x90, 0x94],
] as const;

/**
 * Creates a template from the data of a fresh image. `runs` are all blocks that are not zero, in ascending order.
 * Returns undefined if the structure is unknown; mkfs then formats every image.
 */
export function makeTemplate(runs: readonly ByteRun[], uuid: string): Ext4Template | undefined {
  const bytes = sliceOf(runs, ext4SuperblockOffset, ext4SuperblockBytes);
  const superblock = bytes === undefined ? undefined : parseExt4Superblock(bytes);
  if (bytes === undefined || superblock === undefined) return undefined;
  const isKnown =
    superblock.uuid === uuid && superblock.state === 'clean' && superblock.blockBytes === 4096;
  if (!isKnown || !usesChecksumSeed(bytes)) return undefined;
  const superblocks = findSuperblocks(runs, superblock);
  const inodes = findInodes(runs, bytes);
  if (superblocks === undefined || inodes === undefined) return undefined;
  return { runs, structures: [...superblocks, ...inodes].sort((a, b) => a.at - b.at) };
}

function findSuperblocks(
  runs: readonly ByteRun[],
  superblock: Ext4Superblock,
): readonly VariableStructure[] | undefined {
  const structures: VariableStructure[] = [];
  for (const at of [ext4SuperblockOffset, ...superblockCopies(superblock)]) {
    const bytes = sliceOf(runs, at, ext4SuperblockBytes);
    if (bytes === undefined || parseExt4Superblock(bytes)?.uuid !== superblock.uuid) {
      return undefined;
    }
    structures.push({ at, bytes, update: updateSuperblock });
  }
  return structures;
}

function updateSuperblock(bytes: Buffer, { uuid, hashSeed, atMs }: Ext4Identity): void {
  writeUuidAt(bytes, uuidOffset, uuid);
  writeUuidAt(bytes, hashSeedOffset, hashSeed);
  const seconds = Math.floor(atMs / 1000);
  for (const [low, high] of superblockTimes) {
    bytes.writeUInt32LE(seconds % 2 ** 32, low);
    bytes.writeUInt8(Math.floor(seconds / 2 ** 32), high);
  }
  withChecksum(bytes);
}

/**
 * The inodes to which mkfs gives a time: root, journal, lost+found. Returns undefined unless the checksums in the image
 * match those computed here.
 */
function findInodes(
  runs: readonly ByteRun[],
  superblock: Buffer,
): readonly VariableStructure[] | undefined {
  const inodeBytes = superblock.readUInt16LE(0x58);
  const inodeTable = inodeTableOf(runs, superblock);
  if (inodeTable === undefined || inodeBytes < 256) return undefined;
  const seed = superblock.readUInt32LE(checksumSeedOffset);
  const firstNonReserved = superblock.readUInt32LE(0x54);
  const structures: VariableStructure[] = [];
  for (let number = 1; number <= firstNonReserved; number += 1) {
    const at = inodeTable + (number - 1) * inodeBytes;
    const bytes = sliceOf(runs, at, inodeBytes);
    if (bytes === undefined) return undefined;
    if (inodeTimes.every(([seconds]) => bytes.readUInt32LE(seconds) === 0)) continue;
    const updated = Buffer.from(bytes);
    updateInodeChecksum(updated, number, seed);
    if (!updated.equals(bytes)) return undefined;
    structures.push({
      at,
      bytes,
      update: (inode, { atMs }) => {
        setTimes(inode, atMs);
        updateInodeChecksum(inode, number, seed);
      },
    });
  }
  return structures.length === 0 ? undefined : structures;
}

/** The byte offset of the first group's inode table, from the group descriptor in the block after the superblock. */
function inodeTableOf(runs: readonly ByteRun[], superblock: Buffer): number | undefined {
  const descriptor = sliceOf(runs, 4096, 64);
  if (descriptor === undefined || superblock.readUInt16LE(0xfe) !== 64) return undefined;
  return (descriptor.readUInt32LE(0x08) + descriptor.readUInt32LE(0x28) * 2 ** 32) * 4096;
}

/** Sets all times of an inode except those that mkfs left at zero. */
function setTimes(inode: Buffer, atMs: number): void {
  const seconds = Math.floor(atMs / 1000);
  // The extra bits are those above a signed 32-bit number.
  const highBits = Math.floor((seconds + 2 ** 31) / 2 ** 32) & 3;
  for (const [low, extra] of inodeTimes) {
    if (inode.readUInt32LE(low) === 0) continue;
    inode.writeUInt32LE(seconds % 2 ** 32, low);
    if (extraBytesOf(inode) >= extraWithTimes) inode.writeUInt32LE(highBits, extra);
  }
}

/** The checksum covers the inode number, the generation, and the inode with its checksum zeroed. */
function updateInodeChecksum(inode: Buffer, number: number, seed: number): void {
  const hasHigh = extraBytesOf(inode) >= extraWithHigh;
  const head = Buffer.alloc(8);
  head.writeUInt32LE(number, 0);
  inode.copy(head, 4, generationOffset, generationOffset + 4);
  inode.writeUInt16LE(0, checksumLowOffset);
  if (hasHigh) inode.writeUInt16LE(0, checksumHighOffset);
  const checksum = crc32c(inode, crc32c(head, seed));
  inode.writeUInt16LE(checksum & 0xffff, checksumLowOffset);
  if (hasHigh) inode.writeUInt16LE(checksum >>> 16, checksumHighOffset);
}

function extraBytesOf(inode: Buffer): number {
  return inode.readUInt16LE(extraSizeOffset);
}

function sliceOf(runs: readonly ByteRun[], at: number, length: number): Buffer | undefined {
  const run = runs.find((one) => at >= one.at && at + length <= one.at + one.bytes.length);
  return run?.bytes.subarray(at - run.at, at - run.at + length);
}

/** One contiguous write, made of bytes of the template and updated structures. */
interface TemplateWrite {
  readonly at: number;
  readonly parts: readonly Buffer[];
}

/** Returns the bytes of a new filesystem. The template is not changed. */
export function instantiate(
  template: Ext4Template,
  identity: Ext4Identity,
): readonly TemplateWrite[] {
  return template.runs.map(({ at, bytes }) => {
    const parts: Buffer[] = [];
    let done = 0;
    for (const structure of template.structures) {
      const from = structure.at - at;
      if (from < 0 || from >= bytes.length) continue;
      const updated = Buffer.from(structure.bytes);
      structure.update(updated, identity);
      if (from > done) parts.push(bytes.subarray(done, from));
      parts.push(updated);
      done = from + updated.length;
    }
    if (done < bytes.length) parts.push(bytes.subarray(done));
    return { at, parts };
  });
}
