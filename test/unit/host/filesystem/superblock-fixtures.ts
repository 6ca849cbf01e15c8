import { crc32c, crc32cInverted } from '../../../../src/host/filesystem/crc32c.ts';

/** Superblocks built byte by byte according to the documented formats, with their own checksums. */

export const uuid = '3f2b8c1d-0a4e-4f6b-9c7d-5e8f01234567';
const uuidBytes = Buffer.from(uuid.replaceAll('-', ''), 'hex');

export interface Ext4Fields {
  readonly blocks?: bigint;
  readonly state?: number;
  readonly incompat?: number;
  readonly journalBlock?: bigint;
}

export function ext4Superblock(fields: Ext4Fields = {}): Buffer {
  const { blocks = 262_144n, state = 1, incompat = 0x2c2, journalBlock = 131_072n } = fields;
  const bytes = Buffer.alloc(1024);
  bytes.writeUInt32LE(Number(blocks & 0xffffffffn), 0x04);
  bytes.writeUInt32LE(Number(blocks >> 32n), 0x150);
  bytes.writeUInt32LE(2, 0x18);
  bytes.writeUInt32LE(32_768, 0x20);
  bytes.writeUInt32LE(8192, 0x28);
  bytes.writeUInt16LE(0xef53, 0x38);
  bytes.writeUInt16LE(state, 0x3a);
  bytes.writeUInt16LE(256, 0x58);
  bytes.writeUInt32LE(0x3c, 0x5c);
  bytes.writeUInt32LE(incompat, 0x60);
  bytes.writeUInt32LE(0x46b, 0x64);
  uuidBytes.copy(bytes, 0x68);
  bytes.writeUInt16LE(127, 0xce);
  bytes.writeUInt8(1, 0xfd);
  bytes.writeUInt16LE(64, 0xfe);
  // The extent tree of the journal inode: a header and one extent.
  bytes.writeUInt16LE(0xf30a, 0x10c);
  bytes.writeUInt16LE(1, 0x10e);
  bytes.writeUInt16LE(4, 0x110);
  bytes.writeUInt16LE(8192, 0x10c + 16);
  bytes.writeUInt16LE(Number(journalBlock >> 32n), 0x10c + 18);
  bytes.writeUInt32LE(Number(journalBlock & 0xffffffffn), 0x10c + 20);
  bytes.writeUInt8(1, 0x175);
  return sealExt4(bytes);
}

export function sealExt4(bytes: Buffer): Buffer {
  bytes.writeUInt32LE(crc32c(bytes.subarray(0, 0x3fc)), 0x3fc);
  return bytes;
}

export function xfsSuperblock({ inProgress = 0, incompat = 3 } = {}): Buffer {
  const bytes = Buffer.alloc(4096);
  bytes.write('XFSB', 0, 'latin1');
  bytes.writeUInt32BE(4096, 4);
  bytes.writeBigUInt64BE(262_144n, 8);
  uuidBytes.copy(bytes, 0x20);
  // Block 6 of group 2: agblklog 16, groups of 65,536 blocks.
  bytes.writeBigUInt64BE((2n << 16n) | 6n, 0x30);
  bytes.writeUInt32BE(65_536, 0x54);
  bytes.writeUInt32BE(16_384, 0x60);
  bytes.writeUInt16BE(0xb4b5, 0x64);
  bytes.writeUInt16BE(4096, 0x66);
  bytes.writeUInt8(16, 0x7c);
  bytes.writeUInt8(inProgress, 0x7e);
  bytes.writeUInt32BE(incompat, 0xd8);
  return sealXfs(bytes);
}

export function sealXfs(bytes: Buffer): Buffer {
  bytes.writeUInt32LE(0, 0xe0);
  bytes.writeUInt32LE(crc32cInverted(bytes), 0xe0);
  return bytes;
}

export function btrfsSuperblock({ logRoot = 0n, totalBytes = 1n << 30n } = {}): Buffer {
  const bytes = Buffer.alloc(4096);
  uuidBytes.copy(bytes, 0x20);
  bytes.write('_BHRfS_M', 0x40, 'latin1');
  bytes.writeBigUInt64LE(logRoot, 0x60);
  bytes.writeBigUInt64LE(totalBytes, 0x70);
  bytes.writeUInt32LE(crc32cInverted(bytes.subarray(32)), 0);
  return bytes;
}

/** A copy with one bit flipped. */
export function withBitFlipped(bytes: Buffer, bit: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[bit >> 3] = (copy[bit >> 3] ?? 0) ^ (1 << (bit & 7));
  return copy;
}
