import type { FileHandle } from 'node:fs/promises';
import { fsCall, fsync, openFlags, withOpen } from '../../kernel/descriptor.ts';
import type { Lane } from '../../lane.ts';
import {
  type Ext4Superblock,
  ext4SuperblockBytes,
  ext4SuperblockOffset,
  parseExt4Superblock,
  readOnlyCompatMetadataCsum,
  withChecksum,
} from './superblock.ts';

export const uuidOffset = 0x68;
const compatSparseSuper2 = 0x200;
const incompatMetadataCsumSeed = 0x2000;
const incompatJournalDevice = 0x8;
const readOnlyCompatSparseSuper = 0x1;

/**
 * Writes a new UUID into the superblock and its copies of an unattached, cleanly unmounted ext4. This takes 1 ms,
 * tune2fs 15 ms. It is possible if checksums depend on a stored seed and not on the UUID, as in all filesystems that
 * the driver creates; otherwise returns false and writes nothing.
 */
export async function writeExt4Uuid(lane: Lane, imagePath: string, uuid: string): Promise<boolean> {
  return withOpen(lane, imagePath, openFlags.readWrite, async (handle) => {
    const bytes = await readAt(lane, handle, imagePath, ext4SuperblockOffset);
    const superblock = parseExt4Superblock(bytes);
    if (superblock?.state !== 'clean' || !usesChecksumSeed(bytes)) return false;
    // Copies first: while the primary superblock still has the old UUID, everything can be repeated.
    for (const at of superblockCopies(superblock)) {
      const copy = await readAt(lane, handle, imagePath, at);
      if (parseExt4Superblock(copy)?.uuid === superblock.uuid) {
        await writeAt(lane, handle, imagePath, { at, bytes: withUuid(copy, uuid) });
      }
    }
    await writeAt(lane, handle, imagePath, {
      at: ext4SuperblockOffset,
      bytes: withUuid(bytes, uuid),
    });
    await fsync(lane, handle, imagePath);
    return true;
  });
}

/**
 * Whether all checksums except those of superblocks depend on a stored seed, and the copies are where
 * `superblockCopies` expects them.
 */
export function usesChecksumSeed(bytes: Buffer): boolean {
  const compat = bytes.readUInt32LE(0x5c);
  const incompat = bytes.readUInt32LE(0x60);
  const readOnlyCompat = bytes.readUInt32LE(0x64);
  return (
    (incompat & incompatMetadataCsumSeed) !== 0 &&
    (readOnlyCompat & readOnlyCompatMetadataCsum) !== 0 &&
    (readOnlyCompat & readOnlyCompatSparseSuper) !== 0 &&
    (compat & compatSparseSuper2) === 0 &&
    (incompat & incompatJournalDevice) === 0
  );
}

/**
 * Byte offsets of the superblock copies, which are in group 1 and in the groups that are powers of 3, 5 and 7
 * (`sparse_super`).
 */
export function superblockCopies(superblock: Ext4Superblock): readonly number[] {
  const { blocks, blocksPerGroup, blockBytes } = superblock;
  // With 1 KiB blocks, the first group starts at block 1. The driver's own filesystems have 4 KiB blocks.
  const firstBlock = blockBytes === 1024 ? 1n : 0n;
  const groups = new Set<bigint>([1n]);
  for (const base of [3n, 5n, 7n]) {
    for (let group = base; group * blocksPerGroup < blocks; group *= base) groups.add(group);
  }
  return [...groups]
    .filter((group) => group * blocksPerGroup + firstBlock < blocks)
    .map((group) => Number((group * blocksPerGroup + firstBlock) * BigInt(blockBytes)));
}

function withUuid(superblock: Buffer, uuid: string): Buffer {
  const bytes = Buffer.from(superblock);
  writeUuidAt(bytes, uuidOffset, uuid);
  return withChecksum(bytes);
}

/** Writes the 16 bytes of a UUID into a structure. */
export function writeUuidAt(bytes: Buffer, at: number, uuid: string): void {
  bytes.write(uuid.replaceAll('-', ''), at, 'hex');
}

async function readAt(lane: Lane, handle: FileHandle, path: string, at: number): Promise<Buffer> {
  const bytes = Buffer.alloc(ext4SuperblockBytes);
  await fsCall(lane, 'read', path, () => handle.read(bytes, 0, bytes.length, at));
  return bytes;
}

async function writeAt(
  lane: Lane,
  handle: FileHandle,
  path: string,
  { at, bytes }: { at: number; bytes: Buffer },
): Promise<void> {
  await fsCall(lane, 'write', path, () => handle.write(bytes, 0, bytes.length, at));
}
