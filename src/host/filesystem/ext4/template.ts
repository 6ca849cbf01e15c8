import { crc32c } from '../crc32c.ts';
import {
  type Ext4Superblock,
  ext4SuperblockAt,
  ext4SuperblockBytes,
  parseExt4Superblock,
  withChecksum,
} from './superblock.ts';
import { superblockCopies, usesChecksumSeed, uuidAt, writeUuidAt } from './write-uuid.ts';

/**
 * A fresh ext4, made by mkfs.ext4, to be written into other new images of the same size (ADR 0005). Two runs of mkfs
 * with equal arguments differ only in UUID, hash seed and times of the superblocks, times of the first inodes, and
 * checksums; those are renewed for each image. Pure functions: template-cache.ts reads and writes.
 */

/** Contiguous bytes at an offset. */
export interface Run {
  readonly at: number;
  readonly bytes: Buffer;
}

/** Values that differ between filesystems. */
export interface Ext4Identity {
  readonly uuid: string;
  /** Directories hash names with it. A writer who knows it could make them slow. */
  readonly hashSeed: string;
  readonly atMs: number;
}

export interface Ext4Template {
  readonly runs: readonly Run[];
  /** Structures that are renewed for each filesystem, in ascending order. */
  readonly stamps: readonly Stamp[];
}

interface Stamp extends Run {
  readonly renew: (bytes: Buffer, identity: Ext4Identity) => void;
}

const hashSeedAt = 0xec;
const seedAt = 0x270;
/** Offsets of the low 32 bits and of the byte above them: last write, last check, creation. */
const superblockTimes = [
  [0x30, 0x274],
  [0x40, 0x277],
  [0x108, 0x276],
] as const;

const generationAt = 0x64;
const checksumLowAt = 0x7c;
const extraSizeAt = 0x80;
const checksumHighAt = 0x82;
/** i_extra_isize needed for the upper half of the checksum, and for the time of birth. */
const extraWithHigh = 4;
const extraWithTimes = 24;
/** Offsets of the seconds of access, change, modification and birth, and of their 33rd and 34th bits. */
const inodeTimes = [
  [0x08, 0x8c],
  [0x0c, 0x84],
  [0x10, 0x88],
  [0x90, 0x94],
] as const;

/**
 * Makes a template from the data of a fresh image; undefined if its structure is unknown: then mkfs makes every image.
 * `runs` are all blocks that are not zero, in ascending order.
 */
export function templateOf(runs: readonly Run[], uuid: string): Ext4Template | undefined {
  const bytes = slice(runs, ext4SuperblockAt, ext4SuperblockBytes);
  const superblock = bytes === undefined ? undefined : parseExt4Superblock(bytes);
  if (bytes === undefined || superblock === undefined) return undefined;
  const isKnown =
    superblock.uuid === uuid && superblock.state === 'clean' && superblock.blockBytes === 4096;
  if (!isKnown || !usesChecksumSeed(bytes)) return undefined;
  const superblocks = superblockStamps(runs, superblock);
  const inodes = inodeStamps(runs, bytes);
  if (superblocks === undefined || inodes === undefined) return undefined;
  return { runs, stamps: [...superblocks, ...inodes].sort((a, b) => a.at - b.at) };
}

function superblockStamps(
  runs: readonly Run[],
  superblock: Ext4Superblock,
): readonly Stamp[] | undefined {
  const stamps: Stamp[] = [];
  for (const at of [ext4SuperblockAt, ...superblockCopies(superblock)]) {
    const bytes = slice(runs, at, ext4SuperblockBytes);
    if (bytes === undefined || parseExt4Superblock(bytes)?.uuid !== superblock.uuid) {
      return undefined;
    }
    stamps.push({ at, bytes, renew: renewSuperblock });
  }
  return stamps;
}

function renewSuperblock(bytes: Buffer, { uuid, hashSeed, atMs }: Ext4Identity): void {
  writeUuidAt(bytes, uuidAt, uuid);
  writeUuidAt(bytes, hashSeedAt, hashSeed);
  const seconds = Math.floor(atMs / 1000);
  for (const [low, high] of superblockTimes) {
    bytes.writeUInt32LE(seconds % 2 ** 32, low);
    bytes.writeUInt8(Math.floor(seconds / 2 ** 32), high);
  }
  withChecksum(bytes);
}

/**
 * Inodes that mkfs gives a time: root, journal, lost+found. Their checksums prove that ours are computed in the same
 * way.
 */
function inodeStamps(runs: readonly Run[], superblock: Buffer): readonly Stamp[] | undefined {
  const inodeBytes = superblock.readUInt16LE(0x58);
  const table = inodeTableOf(runs, superblock);
  if (table === undefined || inodeBytes < 256) return undefined;
  const seed = superblock.readUInt32LE(seedAt);
  const firstOrdinary = superblock.readUInt32LE(0x54);
  const stamps: Stamp[] = [];
  for (let number = 1; number <= firstOrdinary; number += 1) {
    const at = table + (number - 1) * inodeBytes;
    const bytes = slice(runs, at, inodeBytes);
    if (bytes === undefined) return undefined;
    if (inodeTimes.every(([seconds]) => bytes.readUInt32LE(seconds) === 0)) continue;
    const renewed = Buffer.from(bytes);
    renewInodeChecksum(renewed, number, seed);
    if (!renewed.equals(bytes)) return undefined;
    stamps.push({
      at,
      bytes,
      renew: (inode, { atMs }) => {
        renewTimes(inode, atMs);
        renewInodeChecksum(inode, number, seed);
      },
    });
  }
  return stamps.length === 0 ? undefined : stamps;
}

/** Byte offset of the inode table of the first group, from its descriptor in the block after the superblock. */
function inodeTableOf(runs: readonly Run[], superblock: Buffer): number | undefined {
  const descriptor = slice(runs, 4096, 64);
  if (descriptor === undefined || superblock.readUInt16LE(0xfe) !== 64) return undefined;
  return (descriptor.readUInt32LE(0x08) + descriptor.readUInt32LE(0x28) * 2 ** 32) * 4096;
}

/** Times that mkfs left at zero stay zero. */
function renewTimes(inode: Buffer, atMs: number): void {
  const seconds = Math.floor(atMs / 1000);
  // The extra bits are those above a signed 32-bit number.
  const above = Math.floor((seconds + 2 ** 31) / 2 ** 32) & 3;
  for (const [low, extra] of inodeTimes) {
    if (inode.readUInt32LE(low) === 0) continue;
    inode.writeUInt32LE(seconds % 2 ** 32, low);
    if (extraBytesOf(inode) >= extraWithTimes) inode.writeUInt32LE(above, extra);
  }
}

/** The checksum covers the number of the inode, its generation, and the inode with zeroes in place of the checksum. */
function renewInodeChecksum(inode: Buffer, number: number, seed: number): void {
  const hasHigh = extraBytesOf(inode) >= extraWithHigh;
  const head = Buffer.alloc(8);
  head.writeUInt32LE(number, 0);
  inode.copy(head, 4, generationAt, generationAt + 4);
  inode.writeUInt16LE(0, checksumLowAt);
  if (hasHigh) inode.writeUInt16LE(0, checksumHighAt);
  const checksum = crc32c(inode, crc32c(head, seed));
  inode.writeUInt16LE(checksum & 0xffff, checksumLowAt);
  if (hasHigh) inode.writeUInt16LE(checksum >>> 16, checksumHighAt);
}

function extraBytesOf(inode: Buffer): number {
  return inode.readUInt16LE(extraSizeAt);
}

function slice(runs: readonly Run[], at: number, length: number): Buffer | undefined {
  const run = runs.find((one) => at >= one.at && at + length <= one.at + one.bytes.length);
  return run?.bytes.subarray(at - run.at, at - run.at + length);
}

/** One contiguous write: bytes of the template, and renewed structures. */
export interface Piece {
  readonly at: number;
  readonly parts: readonly Buffer[];
}

/** The bytes of a new filesystem. Does not change the template. */
export function instantiate(template: Ext4Template, identity: Ext4Identity): readonly Piece[] {
  return template.runs.map(({ at, bytes }) => {
    const parts: Buffer[] = [];
    let done = 0;
    for (const stamp of template.stamps) {
      const from = stamp.at - at;
      if (from < 0 || from >= bytes.length) continue;
      const own = Buffer.from(stamp.bytes);
      stamp.renew(own, identity);
      if (from > done) parts.push(bytes.subarray(done, from));
      parts.push(own);
      done = from + own.length;
    }
    if (done < bytes.length) parts.push(bytes.subarray(done));
    return { at, parts };
  });
}
