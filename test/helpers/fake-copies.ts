import { createHash } from 'node:crypto';
import { constants, copyFile, open, stat } from 'node:fs/promises';
import { KernelError } from '../../src/host/errors.ts';
import { makeCopies } from '../../src/host/files/copy.ts';
import { makeExtents } from '../../src/host/files/extents.ts';
import type { Copies, Extent, Extents } from '../../src/host/host.ts';
import { driverLane } from '../../src/host/lane.ts';

const extentBytes = 64 * 1024;
const sharedFlag = 0x2000;
const lastFlag = 1;

/**
 * Extents and clones of a pool with or without reflinks. A clone is a plain copy. The address of a block is derived
 * from its content and offset, so equal addresses mean equal bytes, as in a pool with reflinks.
 */
export class FakeBlocks {
  readonly #addresses = new Map<string, bigint>();
  readonly #cloned = new Set<string>();
  readonly #canShare: boolean;
  /** Seeking and copying need no privilege, so the real ones are used. */
  readonly #real = { extents: makeExtents(driverLane), copies: makeCopies(driverLane) };

  constructor(canShare: boolean) {
    this.#canShare = canShare;
  }

  get extents(): Extents {
    return {
      map: (path, options) => this.#map(path, options?.from ?? 0n),
      data: (path, options) => this.#real.extents.data(path, options),
      compare: (a, b, range) => this.#real.extents.compare(a, b, range),
      count: async (path) => {
        let count = 0;
        for await (const batch of this.#map(path, 0n)) count += batch.length;
        return count;
      },
      exclusiveBytes: async (path) => {
        let bytes = 0n;
        for await (const batch of this.#map(path, 0n)) {
          for (const { length, flags } of batch) if ((flags & sharedFlag) === 0) bytes += length;
        }
        return bytes;
      },
    };
  }

  get copies(): Copies {
    return {
      canReflink: async () => this.#canShare,
      reflink: async (from, to) => {
        if (!this.#canShare) throw new KernelError('FICLONE', 'EOPNOTSUPP', `${from} to ${to}`);
        try {
          await copyFile(from, to, constants.COPYFILE_EXCL);
        } catch (error) {
          throw error instanceof Error && 'code' in error
            ? new KernelError('open', String(error.code), to)
            : error;
        }
        this.#cloned.add(await identity(from)).add(await identity(to));
      },
      copySparse: (from, to, options) => this.#real.copies.copySparse(from, to, options),
    };
  }

  async *#map(path: string, from: bigint): AsyncIterable<readonly Extent[]> {
    const flags = this.#cloned.has(await identity(path)) ? sharedFlag : 0;
    const extents: Extent[] = [];
    const handle = await open(path, 'r');
    try {
      for await (const range of this.#real.extents.data(path, { from })) {
        const end = Number(range.offset + range.length);
        for (let at = Number(range.offset); at < end; at = nextBoundary(at)) {
          const bytes = Buffer.alloc(Math.min(nextBoundary(at), end) - at);
          await handle.read(bytes, 0, bytes.length, at);
          extents.push({
            logical: BigInt(at),
            physical: this.#address(at, bytes),
            length: BigInt(bytes.length),
            flags,
          });
        }
      }
    } finally {
      await handle.close();
    }
    const last = extents.pop();
    if (last !== undefined) yield [...extents, { ...last, flags: flags | lastFlag }];
  }

  #address(offset: number, bytes: Buffer): bigint {
    const key = `${offset} ${createHash('sha1').update(bytes).digest('hex')}`;
    let address = this.#addresses.get(key);
    if (address === undefined) {
      address = BigInt(this.#addresses.size + 1) * 0x1_0000_0000n + BigInt(offset);
      this.#addresses.set(key, address);
    }
    return address;
  }
}

/** Splits at fixed offsets, so that a change moves no other boundary. */
function nextBoundary(at: number): number {
  return at - (at % extentBytes) + extentBytes;
}

async function identity(path: string): Promise<string> {
  const { dev, ino } = await stat(path, { bigint: true });
  return `${dev}:${ino}`;
}
