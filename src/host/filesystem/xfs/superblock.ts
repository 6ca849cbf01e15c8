import { crc32cInverted } from '../crc32c.ts';
import { formatUuid } from '../uuid.ts';

/** The primary superblock is the first sector of the first allocation group. Sectors have at most 4096 bytes here. */
export const xfsSuperblockBytes = 4096;

/**
 * The fields of an XFS superblock that the driver uses (xfsprogs, xfs_format.h, struct xfs_dsb); numbers are
 * big-endian.
 */
export interface XfsSuperblock {
  /** The UUID that users see. With the META_UUID feature, the metadata has another one. */
  readonly uuid: string;
  readonly blockBytes: number;
  readonly blocks: bigint;
  readonly sectorBytes: number;
  /** Offset and length of the log in the image, in bytes. */
  readonly logOffset: bigint;
  readonly logBytes: bigint;
  /** A run of xfs_repair did not finish. The kernel refuses to mount the filesystem. */
  readonly needsRepair: boolean;
}

const magic = 0x58465342;
const checksumOffset = 0xe0;
const maxAgBlockLog = 31;
const incompatNeedsRepair = 0x10;

/** Parses a version 5 superblock at the start of an image; undefined if the magic, a size or the checksum is wrong. */
export function parseXfsSuperblock(bytes: Buffer): XfsSuperblock | undefined {
  if (bytes.length < xfsSuperblockBytes || bytes.readUInt32BE(0) !== magic) return undefined;
  const sectorBytes = bytes.readUInt16BE(0x66);
  const blockBytes = bytes.readUInt32BE(4);
  const isVersion5 = (bytes.readUInt16BE(0x64) & 0xf) === 5;
  const knownSector = sectorBytes === 512 || sectorBytes === 1024 || sectorBytes === 2048;
  if (!isVersion5 || !(knownSector || sectorBytes === 4096)) return undefined;
  if (!isChecksumValid(bytes.subarray(0, sectorBytes))) return undefined;
  const agBlockLog = bytes.readUInt8(0x7c);
  const isMkfsUnfinished = bytes.readUInt8(0x7e) !== 0;
  if (agBlockLog > maxAgBlockLog || isMkfsUnfinished) return undefined;
  // The high bits of a block number are the allocation group, and the low bits are the block within the group.
  const logStart = bytes.readBigUInt64BE(0x30);
  const group = logStart >> BigInt(agBlockLog);
  const within = logStart & ((1n << BigInt(agBlockLog)) - 1n);
  const groupBlocks = BigInt(bytes.readUInt32BE(0x54));
  return {
    uuid: formatUuid(bytes.subarray(0x20, 0x30)),
    blockBytes,
    blocks: bytes.readBigUInt64BE(8),
    sectorBytes,
    logOffset: (group * groupBlocks + within) * BigInt(blockBytes),
    logBytes: BigInt(bytes.readUInt32BE(0x60)) * BigInt(blockBytes),
    needsRepair: (bytes.readUInt32BE(0xd8) & incompatNeedsRepair) !== 0,
  };
}

/** Verifies the checksum: CRC-32C of the sector with the checksum field zeroed, stored little-endian. */
function isChecksumValid(sector: Buffer): boolean {
  const zeroed = Buffer.from(sector);
  zeroed.writeUInt32LE(0, checksumOffset);
  return crc32cInverted(zeroed) === sector.readUInt32LE(checksumOffset);
}
