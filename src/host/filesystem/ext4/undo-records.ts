import type { FileHandle } from 'node:fs/promises';
import { CommandError, hasErrno } from '../../errors.ts';
import { fsCall, openFlags, withOpen } from '../../kernel/descriptor.ts';
import type { Lane } from '../../lane.ts';
import { crc32c } from '../crc32c.ts';

/** The content that a block of the image had before it was first overwritten. */
interface UndoRecord {
  readonly offset: bigint;
  readonly bytes: Buffer;
}

/**
 * The undo file of e2fsprogs 1.43 and later, little-endian. It has a header (magic, number of keys, number of the first
 * key block, block sizes, CRC-32C at 508), followed by any number of key blocks (magic, CRC-32C, keys from byte 16:
 * block of the image, CRC-32C, size in bytes), each followed by the old content of its blocks. Before each write to the
 * image, the program writes the old content, then the key block, then the header.
 */
const headerBytes = 512;
const headerMagic = 'E2UNDO02';
const headerChecksumOffset = 508;
const keyBlockMagic = 0xcadecade;
const keysOffset = 16;
const keyBytes = 16;
const hasOffsetFeature = 1;

interface Header {
  readonly keys: bigint;
  readonly firstKeyBlock: bigint;
  readonly blockBytes: number;
  readonly imageBlockBytes: number;
  readonly imageOffset: bigint;
}

interface Key {
  readonly block: bigint;
  readonly checksum: number;
  readonly bytes: number;
}

/**
 * Passes every record to `visit`, in order, after verifying its checksums. A file without a complete header has no
 * records: the header is written first, so the program ended before its first write to the image. Returns the number of
 * records.
 */
export async function forEachUndoRecord(
  lane: Lane,
  path: string,
  visit: (record: UndoRecord) => Promise<void>,
): Promise<number> {
  try {
    return await withOpen(lane, path, openFlags.read, async (handle) => {
      const header = parseHeader(await readAt(lane, handle, path, { at: 0n, length: headerBytes }));
      return header === undefined ? 0 : visitRecords(lane, { handle, path, header }, visit);
    });
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return 0;
    throw error;
  }
}

function parseHeader(bytes: Buffer): Header | undefined {
  if (bytes.length < headerBytes) return undefined;
  if (bytes.toString('latin1', 0, headerMagic.length) !== headerMagic) return undefined;
  const checksum = bytes.readUInt32LE(headerChecksumOffset);
  if (crc32c(bytes.subarray(0, headerChecksumOffset)) !== checksum) return undefined;
  const hasOffset = (bytes.readUInt32LE(48) & hasOffsetFeature) !== 0;
  return {
    keys: bytes.readBigUInt64LE(8),
    firstKeyBlock: bytes.readBigUInt64LE(24),
    blockBytes: bytes.readUInt32LE(32),
    imageBlockBytes: bytes.readUInt32LE(36),
    imageOffset: hasOffset ? bytes.readBigUInt64LE(64) : 0n,
  };
}

async function visitRecords(
  lane: Lane,
  { handle, path, header }: { handle: FileHandle; path: string; header: Header },
  visit: (record: UndoRecord) => Promise<void>,
): Promise<number> {
  const { blockBytes, imageBlockBytes, imageOffset } = header;
  const unit = BigInt(blockBytes);
  let keyBlock = header.firstKeyBlock;
  let left = header.keys;
  while (left > 0n) {
    const at = keyBlock * unit;
    const keys = parseKeyBlock(
      await readAt(lane, handle, path, { at, length: blockBytes }),
      left,
      path,
    );
    let dataBlock = keyBlock + 1n;
    for (const { block, checksum, bytes: length } of keys) {
      const bytes = await readAt(lane, handle, path, { at: dataBlock * unit, length });
      if (bytes.length < length || crc32c(bytes) !== checksum) throw damagedLogError(path);
      await visit({ offset: imageOffset + block * BigInt(imageBlockBytes), bytes });
      dataBlock += BigInt(Math.ceil(length / blockBytes));
    }
    left -= BigInt(keys.length);
    keyBlock = dataBlock;
  }
  return Number(header.keys);
}

function parseKeyBlock(bytes: Buffer, left: bigint, path: string): readonly Key[] {
  if (bytes.length < keysOffset || bytes.readUInt32LE(0) !== keyBlockMagic)
    throw damagedLogError(path);
  const zeroed = Buffer.from(bytes);
  zeroed.writeUInt32LE(0, 4);
  if (crc32c(zeroed) !== bytes.readUInt32LE(4)) throw damagedLogError(path);
  const capacity = Math.floor((bytes.length - keysOffset) / keyBytes);
  const count = left < BigInt(capacity) ? Number(left) : capacity;
  return Array.from({ length: count }, (_, index) => {
    const at = keysOffset + index * keyBytes;
    return {
      block: bytes.readBigUInt64LE(at),
      checksum: bytes.readUInt32LE(at + 8),
      bytes: bytes.readUInt32LE(at + 12),
    };
  });
}

function damagedLogError(path: string): CommandError {
  return new CommandError('undo', {
    message: `the undo log ${path} is damaged, so the changes of a killed program cannot be undone: run e2fsck -f on the image manually, then remove the log`,
  });
}

async function readAt(
  lane: Lane,
  handle: FileHandle,
  path: string,
  { at, length }: { at: bigint; length: number },
): Promise<Buffer> {
  const buffer = Buffer.alloc(length);
  const { bytesRead } = await fsCall(lane, 'read', path, () =>
    handle.read(buffer, 0, length, Number(at)),
  );
  return buffer.subarray(0, bytesRead);
}
