import type { FileHandle } from 'node:fs/promises';
import { MiB } from '../../units.ts';
import { KernelError } from '../errors.ts';
import type { ByteRange } from '../host.ts';
import { fsCall, openFlags, withOpen } from '../kernel/descriptor.ts';
import type { Lane } from '../lane.ts';

/** Maximum number of bytes compared by one call, which needs two buffers of this size. */
export const maxComparedBytes = 4n * MiB;

/** Implements `Extents.compare`. */
export async function compareFiles(
  lane: Lane,
  a: string,
  b: string,
  range: ByteRange & { blockBytes: bigint },
): Promise<readonly ByteRange[]> {
  if (range.length > maxComparedBytes) throw new KernelError('read', 'E2BIG', `${a} and ${b}`);
  const [ofA, ofB] = await Promise.all([readRange(lane, a, range), readRange(lane, b, range)]);
  return differingBlocks(ofA, ofB, range);
}

async function readRange(lane: Lane, path: string, { offset, length }: ByteRange): Promise<Buffer> {
  const buffer = Buffer.alloc(Number(length));
  await withOpen(lane, path, openFlags.read, (handle) => fill(lane, handle, path, buffer, offset));
  return buffer;
}

/** Reads until the buffer is full or the file ends. The rest of the buffer is unchanged. */
async function fill(
  lane: Lane,
  handle: FileHandle,
  path: string,
  buffer: Buffer,
  offset: bigint,
): Promise<void> {
  let filled = 0;
  while (filled < buffer.length) {
    const position = Number(offset) + filled;
    const { bytesRead } = await fsCall(lane, 'read', path, () =>
      handle.read(buffer, filled, buffer.length - filled, position),
    );
    if (bytesRead === 0) return;
    filled += bytesRead;
  }
}

/**
 * The ranges of blocks in which two buffers of equal length differ. Adjacent blocks are joined. `offset` is the file
 * offset of both buffers.
 */
export function differingBlocks(
  a: Buffer,
  b: Buffer,
  range: { offset: bigint; blockBytes: bigint },
): readonly ByteRange[] {
  // Most ranges are equal, so compare the whole range first.
  if (a.equals(b)) return [];
  const step = Number(range.blockBytes);
  const found: ByteRange[] = [];
  let begin: number | undefined;
  for (let at = 0; at < a.length; at += step) {
    const end = Math.min(at + step, a.length);
    const equal = a.compare(b, at, end, at, end) === 0;
    if (equal && begin !== undefined) {
      found.push({ offset: range.offset + BigInt(begin), length: BigInt(at - begin) });
      begin = undefined;
    } else if (!equal) begin ??= at;
  }
  if (begin !== undefined) {
    found.push({ offset: range.offset + BigInt(begin), length: BigInt(a.length - begin) });
  }
  return found;
}
