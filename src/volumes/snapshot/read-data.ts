import { VolumeError } from '../../errors.ts';
import type { Host } from '../../host/host.ts';
import type { BlockRange } from '../model.ts';

/** Bytes of one chunk. */
const chunkBytes = 1024n * 1024n;
/** The two chunks that a caller may have, and the one that is being read. */
const reusedBuffers = 3;

interface Chunk {
  readonly offset: bigint;
  readonly data: Buffer;
}

interface Reading {
  readonly from: bigint;
  readonly signal: AbortSignal;
  /**
   * Whether the memory of a chunk is used again once two further chunks have been asked for. A new buffer for each chunk would make
   * the garbage collector run hundreds of times per GiB.
   */
  readonly reuseBuffers?: boolean;
}

/**
 * Reads the data of an image in chunks, without its holes; the next chunk is read while the caller has one. Throws `cancelled` if the
 * caller leaves, `internal` for a truncated image.
 */
export async function* readData(
  { files, extents }: Host,
  path: string,
  { from, signal, reuseBuffers = false }: Reading,
): AsyncGenerator<Chunk> {
  const buffers = reuseBuffers
    ? Array.from({ length: reusedBuffers }, () => Buffer.allocUnsafeSlow(Number(chunkBytes)))
    : [];
  let turn = 0;
  const read = async ({ offset, length: bytes }: BlockRange): Promise<Chunk> => {
    const length = Number(bytes);
    turn = (turn + 1) % reusedBuffers;
    const data = await files.readRange(path, { offset, length, into: buffers[turn] });
    if (data.length === length) return { offset, data };
    throw new VolumeError(
      'internal',
      `${path} was truncated while it was read at offset ${offset}; check the disk of its pool`,
    );
  };
  let next: Promise<Chunk> | undefined;
  for await (const range of chunksOf(extents.data(path, { from }))) {
    if (signal.aborted) throw new VolumeError('cancelled', 'the caller has disconnected');
    const current = next;
    next = read(range);
    // It may fail before the caller asks for it.
    next.catch(() => undefined);
    if (current !== undefined) yield await current;
  }
  if (next !== undefined) yield await next;
}

async function* chunksOf(ranges: AsyncIterable<BlockRange>): AsyncGenerator<BlockRange> {
  for await (const range of ranges) {
    const end = range.offset + range.length;
    for (let { offset } = range; offset < end; offset += chunkBytes)
      yield { offset, length: end - offset < chunkBytes ? end - offset : chunkBytes };
  }
}
