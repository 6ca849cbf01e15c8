/**
 * What two agents send each other while the one reads the data of a source: frames, each of a head of 48 bytes and of a body.
 *
 * | bytes | field |
 * |---|---|
 * | 4 | kind: 1 request, 2 alive, 3 data, 4 end, 5 failure |
 * | 4 | length of the body |
 * | 8 | data: its offset in the image; end: the size of the image; failure: its gRPC code; otherwise 0 |
 * | 32 | data and end: the digest of all data so far; otherwise 0 |
 *
 * Numbers are big-endian. The reader sends its request (data-request.ts), the sender the data in ascending order, without holes, and as its
 * last frame the end, or a failure with its message. In between, both send alive frames, so that a side that hangs is noticed.
 */
import { status } from '@grpc/grpc-js';
import { StatusError } from '../status.ts';

/** The name of this protocol in the TLS handshake (ALPN). */
export const dataProtocol = 'loopcsi-data/1';

const headBytes = 48;
const digestAt = 16;
/** Of a piece of data. */
export const maxPieceBytes = 1024 * 1024;
/** Bodies up to this size get memory of their own, as several of them may arrive at once. */
const maxSmallBytes = 64 * 1024;
const nothing = Buffer.alloc(0);

const kinds = { request: 1, alive: 2, data: 3, end: 4, failure: 5 } as const;
type Kind = keyof typeof kinds;
const kindByNumber = new Map(
  Object.entries(kinds).map(([name, number]) => [number as number, name as Kind]),
);

export interface Frame {
  readonly kind: Kind;
  readonly value: bigint;
  /** 32 bytes. */
  readonly digest: Buffer;
  readonly body: Buffer;
}

type Head = Omit<Frame, 'body'> & { readonly bodyBytes: number };

/** The head of a frame, which its body follows. */
export function encodeHead({
  kind,
  value = 0n,
  digest = nothing,
  body = nothing,
}: Pick<Frame, 'kind'> & Partial<Frame>): Buffer {
  const head = Buffer.alloc(headBytes);
  head.writeUInt32BE(kinds[kind], 0);
  head.writeUInt32BE(body.length, 4);
  head.writeBigUInt64BE(value, 8);
  digest.copy(head, digestAt);
  return head;
}

/** A frame with a small body. */
export function encodeFrame(frame: Pick<Frame, 'kind'> & Partial<Frame>): Buffer {
  return Buffer.concat([encodeHead(frame), frame.body ?? nothing]);
}

export const aliveFrame = encodeHead({ kind: 'alive' });

/**
 * Finds the frames in received bytes. The memory of large bodies is used again: a new buffer for each would make the garbage collector run
 * hundreds of times per GiB.
 */
export class FrameDecoder {
  readonly #maxBodyBytes: number;
  readonly #headBuffer = Buffer.alloc(headBytes);
  readonly #free: Buffer[] = [];
  /** The frame whose body is being received. */
  #head: Head | undefined;
  /** Where the next bytes belong: to a head or to a body. */
  #target: Buffer = this.#headBuffer;
  #filled = 0;

  constructor({ maxBodyBytes }: { readonly maxBodyBytes: number }) {
    this.#maxBodyBytes = maxBodyBytes;
  }

  /** Copies the bytes, and returns the frames that end in them. Throws INTERNAL for bytes that are no frame. */
  decode(bytes: Buffer): readonly Frame[] {
    const frames: Frame[] = [];
    for (let used = 0; used < bytes.length; ) {
      const copied = bytes.copy(this.#target, this.#filled, used);
      used += copied;
      this.#filled += copied;
      if (this.#filled < this.#target.length) break;
      const frame = this.#next();
      if (frame !== undefined) frames.push(frame);
    }
    return frames;
  }

  /** Lets the memory of a body be used again. */
  release({ body }: Pick<Frame, 'body'>): void {
    if (body.length > maxSmallBytes) this.#free.push(Buffer.from(body.buffer));
  }

  /** A head or a body is complete. Returns its frame, if that is. */
  #next(): Frame | undefined {
    const head = this.#head ?? this.#decodeHead();
    const { bodyBytes, ...rest } = head;
    this.#filled = 0;
    if (this.#head === undefined && bodyBytes > 0) {
      this.#head = head;
      this.#target = this.#bufferFor(bodyBytes);
      return undefined;
    }
    const body = bodyBytes === 0 ? nothing : this.#target;
    this.#head = undefined;
    this.#target = this.#headBuffer;
    return { ...rest, body };
  }

  #decodeHead(): Head {
    const head = this.#headBuffer;
    const number = head.readUInt32BE(0);
    const bodyBytes = head.readUInt32BE(4);
    const kind = kindByNumber.get(number);
    if (kind === undefined || bodyBytes > this.#maxBodyBytes) {
      const problem = `what was received is no frame (kind ${number}, ${bodyBytes} bytes)`;
      throw new StatusError(status.INTERNAL, problem);
    }
    const digest = Buffer.from(head.subarray(digestAt));
    return { kind, bodyBytes, value: head.readBigUInt64BE(8), digest };
  }

  #bufferFor(bytes: number): Buffer {
    if (bytes <= maxSmallBytes) return Buffer.allocUnsafe(bytes);
    return (this.#free.pop() ?? Buffer.allocUnsafeSlow(this.#maxBodyBytes)).subarray(0, bytes);
  }
}
