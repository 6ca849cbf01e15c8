/**
 * The log of the kernel's dm-log-writes (Documentation/admin-guide/device-mapper/log-writes.rst): a superblock, then one sector
 * an entry, followed by the data of a write. Writes that completed before a flush was sent precede it; FUA writes are logged
 * when they complete. So the entries up to a flush or a FUA write are the minimum that a disk has from then on.
 */
import type { FileHandle } from 'node:fs/promises';

const magic = 0x6a736677736872n;
const version = 1n;
/** magic, version and number of entries, 64 bits each, and the size of a sector, 32 bits. */
const superblockBytes = 28;
/** sector, number of sectors, flags and length of inline data, 64 bits each. */
export const entryHeaderBytes = 32;

const flagBits = { flush: 1n, fua: 2n, discard: 4n, mark: 8n } as const;

export interface LogSuperblock {
  readonly entries: number;
  readonly sectorBytes: number;
}

export interface LogEntry {
  /** Its number in the log, from 0. */
  readonly index: number;
  /** The offset on the logged device. */
  readonly offsetBytes: number;
  /** The number of bytes written or discarded; 0 for a flush without data and for a mark. */
  readonly lengthBytes: number;
  readonly isFlush: boolean;
  readonly isFua: boolean;
  readonly isDiscard: boolean;
  /** Text of a mark; undefined for everything else. */
  readonly mark: string | undefined;
  /** The offset of its data in the log. */
  readonly dataOffset: number;
}

/** Throws if the file is not a log, or has an unknown version. */
export function parseSuperblock(bytes: Buffer): LogSuperblock {
  if (bytes.length < superblockBytes || bytes.readBigUInt64LE(0) !== magic) {
    throw new Error('this is not a log of dm-log-writes: its magic number differs');
  }
  const found = bytes.readBigUInt64LE(8);
  if (found !== version) throw new Error(`the log has version ${found}, not ${version}`);
  return { entries: Number(bytes.readBigUInt64LE(16)), sectorBytes: bytes.readUInt32LE(24) };
}

/** Parses the header at `headerOffset` of the log. */
export function parseEntry(
  header: Buffer,
  at: { index: number; headerOffset: number; sectorBytes: number },
): LogEntry {
  const { index, headerOffset, sectorBytes } = at;
  const flags = header.readBigUInt64LE(16);
  const isMark = (flags & flagBits.mark) !== 0n;
  const textBytes = Number(header.readBigUInt64LE(24));
  return {
    index,
    offsetBytes: Number(header.readBigUInt64LE(0)) * sectorBytes,
    lengthBytes: isMark ? 0 : Number(header.readBigUInt64LE(8)) * sectorBytes,
    isFlush: (flags & flagBits.flush) !== 0n,
    isFua: (flags & flagBits.fua) !== 0n,
    isDiscard: (flags & flagBits.discard) !== 0n,
    mark: isMark
      ? header.toString('utf8', entryHeaderBytes, entryHeaderBytes + textBytes)
      : undefined,
    dataOffset: headerOffset + sectorBytes,
  };
}

/** Every entry in order, without the data. Throws when the log ends before its last entry. */
export async function readEntries(log: FileHandle): Promise<readonly LogEntry[]> {
  const { entries: count, sectorBytes } = parseSuperblock(await readAt(log, 0, superblockBytes));
  const entries: LogEntry[] = [];
  let headerOffset = sectorBytes;
  for (let index = 0; index < count; index += 1) {
    const header = await readAt(log, headerOffset, sectorBytes);
    const entry = parseEntry(header, { index, headerOffset, sectorBytes });
    entries.push(entry);
    headerOffset = entry.dataOffset + (entry.isDiscard ? 0 : entry.lengthBytes);
  }
  return entries;
}

/** The data of a write. */
export async function readData(log: FileHandle, entry: LogEntry): Promise<Buffer> {
  return readAt(log, entry.dataOffset, entry.lengthBytes);
}

async function readAt(log: FileHandle, offset: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  for (let done = 0; done < length; ) {
    const { bytesRead } = await log.read(bytes, done, length - done, offset + done);
    if (bytesRead === 0) throw new Error(`the log ends at byte ${offset + done}`);
    done += bytesRead;
  }
  return bytes;
}
