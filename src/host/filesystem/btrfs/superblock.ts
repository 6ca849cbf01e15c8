import { createHash } from 'node:crypto';
import { crc32cInverted } from '../crc32c.ts';
import { formatUuid } from '../uuid.ts';

/** Offset and size, in bytes, of the primary superblock in an image. */
export const btrfsSuperblockOffset = 65_536;
export const btrfsSuperblockBytes = 4096;

/**
 * The fields of a btrfs superblock that the driver uses (Linux, struct btrfs_super_block); numbers are little-endian.
 */
export interface BtrfsSuperblock {
  /** The UUID that users see. With the METADATA_UUID feature, the metadata has another one. */
  readonly uuid: string;
  readonly totalBytes: bigint;
  /** Whether there is a log tree, which fsync writes and the next mount replays. */
  readonly hasLogTree: boolean;
}

const magic = '_BHRfS_M';

/** Parses the 4096 bytes of a superblock; undefined if the magic or the checksum is wrong. */
export function parseBtrfsSuperblock(bytes: Buffer): BtrfsSuperblock | undefined {
  if (bytes.length < btrfsSuperblockBytes) return undefined;
  if (bytes.toString('latin1', 0x40, 0x48) !== magic || !isChecksumValid(bytes)) return undefined;
  return {
    uuid: formatUuid(bytes.subarray(0x20, 0x30)),
    totalBytes: bytes.readBigUInt64LE(0x70),
    hasLogTree: bytes.readBigUInt64LE(0x60) !== 0n,
  };
}

/**
 * Verifies the checksum, which covers everything after its own 32 bytes: CRC-32C (type 0) or SHA-256 (type 2), the two
 * types that mkfsOptions allows.
 */
function isChecksumValid(bytes: Buffer): boolean {
  const covered = bytes.subarray(32, btrfsSuperblockBytes);
  switch (bytes.readUInt16LE(0xc4)) {
    case 0:
      return crc32cInverted(covered) === bytes.readUInt32LE(0);
    case 2:
      return createHash('sha256').update(covered).digest().equals(bytes.subarray(0, 32));
    default:
      return false;
  }
}
