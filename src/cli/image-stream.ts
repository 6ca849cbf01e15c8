/**
 * The stream of an exported image: a zstd frame with the raw image, after a skippable frame with its facts, which other programs
 * ignore (RFC 8878, "Skippable Frames").
 */
import * as v from 'valibot';
import { UsageError } from './errors.ts';

/** What the receiver must know before the first byte of the image. */
export interface ImageFacts {
  readonly name: string;
  readonly sizeBytes: bigint;
  readonly isBlock: boolean;
  readonly sectorSize: number;
}

const skippableMagic = 0x184d2a50;
const zstdMagic = 0xfd2fb528;
const headBytes = 8;
const maxFactsBytes = 64 * 1024;

const factsSchema = v.object({
  loopcsi: v.literal(1),
  name: v.string(),
  sizeBytes: v.pipe(
    v.string(),
    v.regex(/^\d{1,19}$/),
    v.transform((text) => BigInt(text)),
  ),
  isBlock: v.boolean(),
  sectorSize: v.picklist([512, 4096]),
});

export function encodeFacts({ name, sizeBytes, isBlock, sectorSize }: ImageFacts): Buffer {
  const text = JSON.stringify({
    loopcsi: 1,
    name,
    sizeBytes: sizeBytes.toString(),
    isBlock,
    sectorSize,
  });
  const body = Buffer.from(text);
  const head = Buffer.alloc(headBytes);
  head.writeUInt32LE(skippableMagic, 0);
  head.writeUInt32LE(body.length, 4);
  return Buffer.concat([head, body]);
}

export interface OpenedStream {
  readonly facts: ImageFacts | undefined;
  readonly isCompressed: boolean;
  /** The rest of the stream. */
  readonly rest: AsyncIterable<Buffer>;
}

/** Reads the beginning of a stream, which may be raw, zstd, or an export. Throws `UsageError` for facts that it cannot read. */
export async function openStream(source: AsyncIterable<Uint8Array>): Promise<OpenedStream> {
  const reader = new StreamReader(source);
  const head = await reader.peek(headBytes);
  const magic = head.length >= 4 ? head.readUInt32LE(0) : 0;
  if (magic !== skippableMagic) {
    return { facts: undefined, isCompressed: magic === zstdMagic, rest: reader.rest() };
  }
  const bodyBytes = head.length === headBytes ? head.readUInt32LE(4) : 0;
  const frame = bodyBytes > maxFactsBytes ? head : await reader.take(headBytes + bodyBytes);
  const facts = parseFacts(frame.subarray(headBytes));
  return { facts, isCompressed: true, rest: reader.rest() };
}

function parseFacts(body: Buffer): ImageFacts {
  try {
    const { loopcsi: _version, ...facts } = v.parse(factsSchema, JSON.parse(body.toString()));
    return facts;
  } catch (error) {
    throw new UsageError(
      'the stream begins with facts that this version cannot read; use the version that exported it, or decompress it with zstd first',
      { cause: error },
    );
  }
}

/** Reads a number of bytes from the start of a stream, then the rest. */
class StreamReader {
  readonly #source: AsyncIterator<Uint8Array>;
  #buffered = Buffer.alloc(0);

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** Returns fewer bytes only at the end of the stream. */
  async peek(bytes: number): Promise<Buffer> {
    while (this.#buffered.length < bytes) {
      const next = await this.#source.next();
      if (next.done === true) break;
      this.#buffered = Buffer.concat([this.#buffered, next.value]);
    }
    return this.#buffered.subarray(0, bytes);
  }

  async take(bytes: number): Promise<Buffer> {
    const taken = await this.peek(bytes);
    this.#buffered = this.#buffered.subarray(taken.length);
    return taken;
  }

  async *rest(): AsyncGenerator<Buffer> {
    if (this.#buffered.length > 0) yield this.#buffered;
    for (;;) {
      const next = await this.#source.next();
      if (next.done === true) return;
      yield Buffer.from(next.value.buffer, next.value.byteOffset, next.value.byteLength);
    }
  }
}

/** Zeros in pieces of this size are not sent. */
const pieceBytes = 256 * 1024;
const zeros = Buffer.alloc(pieceBytes);

/** The driver gives up a stream in which nothing arrives for some minutes. */
const maxSilenceMs = 30_000;

/**
 * Cuts a stream into pieces and omits those that contain only zeros; in a long run of zeros, an empty piece says every half minute
 * that the stream goes on. `onBytes` gets all bytes.
 */
export async function* dataPieces(
  source: AsyncIterable<Uint8Array>,
  onBytes: (bytes: Buffer) => void,
  silenceMs = maxSilenceMs,
): AsyncGenerator<{ readonly offset: bigint; readonly data: Buffer }> {
  const piece = Buffer.alloc(pieceBytes);
  let filled = 0;
  let offset = 0n;
  let yieldedAtMs = performance.now();
  const flush = () => {
    const data = Buffer.from(piece.subarray(0, filled));
    const at = offset;
    offset += BigInt(filled);
    filled = 0;
    onBytes(data);
    if (!data.equals(zeros.subarray(0, data.length))) return { offset: at, data };
    const isSilent = performance.now() - yieldedAtMs > silenceMs;
    return isSilent ? { offset, data: Buffer.alloc(0) } : undefined;
  };
  for await (const chunk of source) {
    for (let from = 0; from < chunk.length; ) {
      const length = Math.min(chunk.length - from, pieceBytes - filled);
      piece.set(chunk.subarray(from, from + length), filled);
      from += length;
      filled += length;
      if (filled < pieceBytes) continue;
      const data = flush();
      if (data === undefined) continue;
      yieldedAtMs = performance.now();
      yield data;
    }
  }
  const last = filled === 0 ? undefined : flush();
  if (last !== undefined) yield last;
}

/** The same bytes with the zeros between the pieces, up to `endBytes`. */
export async function* withZeros(
  pieces: AsyncIterable<{ readonly offset: bigint; readonly data: Buffer }>,
  endBytes: bigint,
): AsyncGenerator<Buffer> {
  let reached = 0n;
  for await (const { offset, data } of pieces) {
    yield* zerosOf(offset - reached);
    yield data;
    reached = offset + BigInt(data.length);
  }
  yield* zerosOf(endBytes - reached);
}

function* zerosOf(count: bigint): Generator<Buffer> {
  for (let left = count; left > 0n; left -= BigInt(pieceBytes)) {
    yield left < BigInt(pieceBytes) ? zeros.subarray(0, Number(left)) : zeros;
  }
}
