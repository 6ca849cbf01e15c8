import { VolumeError } from '../../errors.ts';
import type { Capacity, FileIdentity, Host } from '../../host/host.ts';
import { formatBytes, MiB } from '../../units.ts';
import { maxImageBytes } from '../capacity.ts';
import { inLane } from '../engine/lanes.ts';
import type { PoolContents } from './contents.ts';

import { type ImageUsage, measureImages } from './image-usage.ts';
import { isOvercommitted, type PoolSettings } from './settings.ts';
import { isGuarded, minFreeInodes, watermarksOf } from './thresholds.ts';

/** Bytes set aside for one operation until its record counts them. */
interface Reservation {
  release(): void;
}

/** The numbers from which a pool's capacity is calculated, in bytes. */
export interface SpaceFacts {
  readonly totalBytes: bigint;
  readonly freeBytes: bigint;
  /** Never promised: the configured reserve, or what the filesystem keeps from unprivileged users (root), if that is more. */
  readonly reserveBytes: bigint;
  readonly overcommitPerMille: number;
  /** Sum of the volumes' promised sizes, inline volumes included. */
  readonly promisedBytes: bigint;
  /** Allocated by the pool's volumes, snapshots and trash, as st_blocks counts. */
  readonly allocatedBytes: bigint;
  /** Allocated by snapshots. Their sources may be rewritten completely, which needs the same amount again. */
  readonly snapshotBytes: bigint;
  /** Bytes that volumes may still allocate: their sizes minus the blocks that they share with no other image. */
  readonly outstandingBytes: bigint;
  readonly inFlightBytes: bigint;
  readonly trashBytes: bigint;
  /** With less free space, a guarded pool creates no new volume. 0 for other pools. */
  readonly watermarkBytes: bigint;
}

/** Whether enough inodes are free for the files of running operations. */
export function hasInodes({ totalInodes, freeInodes }: MeasuredFacts): boolean {
  return totalInodes === 0n || freeInodes >= minFreeInodes;
}

/**
 * The terms of a pool's capacity, in bytes: overcommit × (total − other − reserve) − volumes − snapshots − in flight − trash −
 * blocks − held back = capacity. Without overcommit, `blocksBytes` makes the capacity at most free − reserve − outstanding − in
 * flight, which is safe however blocks are shared.
 */
export interface CapacityTerms {
  readonly totalBytes: bigint;
  /** Used by other files on the pool's filesystem, and by the filesystem itself. */
  readonly otherBytes: bigint;
  readonly reserveBytes: bigint;
  readonly overcommitPerMille: number;
  /** Promised to volumes. */
  readonly volumeBytes: bigint;
  readonly snapshotBytes: bigint;
  readonly inFlightBytes: bigint;
  readonly trashBytes: bigint;
  /** Free blocks that are missing for what is promised already, because images share blocks or are larger than promised. */
  readonly blocksBytes: bigint;
  /** Held back because an overcommitted pool is below its trim watermark. */
  readonly heldBackBytes: bigint;
  /** What the pool may still promise; negative if too much is promised. */
  readonly capacityBytes: bigint;
}

export function capacityTermsOf(facts: SpaceFacts): CapacityTerms {
  const { totalBytes, freeBytes, reserveBytes, overcommitPerMille } = facts;
  const { snapshotBytes, inFlightBytes, trashBytes } = facts;
  const used = totalBytes - freeBytes;
  const otherBytes = used > facts.allocatedBytes ? used - facts.allocatedBytes : 0n;
  const share = overcommitted(totalBytes - reserveBytes - otherBytes, overcommitPerMille);
  const byPromises = share - facts.promisedBytes - snapshotBytes - inFlightBytes - trashBytes;
  const byBlocks = freeBytes - reserveBytes - facts.outstandingBytes - inFlightBytes;
  const isLimitedByBlocks = !isOvercommitted(facts) && byBlocks < byPromises;
  const blocksBytes = isLimitedByBlocks ? byPromises - byBlocks : 0n;
  // A nearly full pool promises nothing more, even if the overcommit factor would allow it.
  const isHeldBack = isOvercommitted(facts) && freeBytes < facts.watermarkBytes && byPromises > 0n;
  const heldBackBytes = isHeldBack ? byPromises : 0n;
  return {
    totalBytes,
    otherBytes,
    reserveBytes,
    overcommitPerMille,
    volumeBytes: facts.promisedBytes,
    snapshotBytes,
    inFlightBytes,
    trashBytes,
    blocksBytes,
    heldBackBytes,
    capacityBytes: byPromises - blocksBytes - heldBackBytes,
  };
}

/** The bytes that the pool may still promise. May be negative. */
export function promisableBytesOf(facts: SpaceFacts): bigint {
  return capacityTermsOf(facts).capacityBytes;
}

/** Names each term that is not 0. Their sum is the capacity, or 0 if too much is promised. */
export function describeCapacity(terms: CapacityTerms): string {
  const { overcommitPerMille, capacityBytes } = terms;
  const base = terms.totalBytes - terms.otherBytes - terms.reserveBytes;
  const parts: readonly (readonly [bigint, string])[] = [
    [-terms.otherBytes, 'used by other files'],
    [-terms.reserveBytes, 'reserve'],
    [overcommitted(base, overcommitPerMille) - base, `by overcommit ${overcommitPerMille / 1000}`],
    [-terms.volumeBytes, 'promised to volumes'],
    [-terms.snapshotBytes, 'for snapshots'],
    [-terms.inFlightBytes, 'for what is being created'],
    [-terms.trashBytes, 'of deleted entries'],
    [-terms.blocksBytes, 'for shared blocks'],
    [-terms.heldBackBytes, 'held back below the trim watermark'],
    [atLeastZero(-capacityBytes), 'promised too much'],
  ];
  const added = parts
    .filter(([bytes]) => bytes !== 0n)
    .map(([bytes, name]) =>
      bytes < 0n ? ` − ${formatBytes(-bytes)} ${name}` : ` + ${formatBytes(bytes)} ${name}`,
    );
  return `${formatBytes(terms.totalBytes)} in total${added.join('')}`;
}

function overcommitted(bytes: bigint, perMille: number): bigint {
  return (bytes * BigInt(perMille)) / 1000n;
}

/** The configured reserve, in bytes of a filesystem of that size. */
export function reserveBytesOf(reserve: PoolSettings['reserve'], totalBytes: bigint): bigint {
  return 'bytes' in reserve ? reserve.bytes : (totalBytes * BigInt(reserve.perMille)) / 1000n;
}

/** Adds the inodes and the usage of each image. Filesystems that create inodes on demand report 0 for both counts. */
export interface MeasuredFacts extends SpaceFacts {
  readonly totalInodes: bigint;
  readonly freeInodes: bigint;
  /** Allocated bytes of each image, with the keys of `ImageUsage`. */
  readonly allocatedById: ReadonlyMap<string, bigint>;
  /** The inode of each image, with the same keys. */
  readonly identityById: ReadonlyMap<string, FileIdentity>;
}

/** Accounts for the space of one pool, so that no free byte is promised twice. */
export class PoolSpace {
  readonly #pool: PoolContents;
  readonly #host: Host;
  #inFlightBytes = 0n;
  /** The part of `#inFlightBytes` whose blocks are being allocated now. */
  #allocatingBytes = 0n;
  readonly #trash = new Map<string, bigint>();
  #measured: ImageUsage | undefined;
  #measuring: Promise<ImageUsage> | undefined;
  #lastReservation: Promise<unknown> = Promise.resolve();
  /** The number of invalidations. A measurement during which it has changed is not kept. */
  #invalidations = 0;

  /** Its calls run in a lane of their own, so that a disk that hangs blocks no other call of the caller. */
  constructor(pool: PoolContents, deps: { readonly host: Host }) {
    const { name } = pool;
    this.#pool = pool;
    this.#host = inLane(deps, { kind: 'space', id: name, pool: name }).host;
  }

  /** Counts the blocks of an entry in the trash, until they are free. */
  addTrash(entry: string, allocatedBytes: bigint): void {
    this.#trash.set(entry, allocatedBytes);
  }

  removeTrash(entry: string): void {
    this.#trash.delete(entry);
  }

  /** Discards the measurement, because blocks were freed or shared. */
  invalidate(): void {
    this.#invalidations += 1;
    this.#measured = undefined;
    this.#measuring = undefined;
  }

  /** Throws `unavailable` as soon as the pool is not served. */
  async facts(): Promise<MeasuredFacts> {
    return this.#pool.whileServed(async () => {
      const measured = await this.#measure();
      return this.#factsOf(measured, await this.#capacity());
    });
  }

  /** Size and free space of the pool's filesystem; reads no image. Throws `unavailable` as soon as the pool is not served. */
  async capacity(): Promise<Capacity> {
    return this.#pool.whileServed(() => this.#capacity());
  }

  #capacity(): Promise<Capacity> {
    return this.#host.files.capacity(this.#pool.root);
  }

  #factsOf(measured: ImageUsage, capacity: Capacity): MeasuredFacts {
    let promisedBytes = 0n;
    let outstandingBytes = 0n;
    let allocatedBytes = 0n;
    let snapshotBytes = 0n;
    for (const index of [this.#pool.volumes, this.#pool.ephemerals]) {
      for (const { id, sizeBytes } of index.values()) {
        promisedBytes += sizeBytes;
        allocatedBytes += measured.allocated.get(id) ?? 0n;
        const exclusive = measured.exclusive.get(id) ?? 0n;
        if (sizeBytes > exclusive) outstandingBytes += sizeBytes - exclusive;
      }
    }
    for (const { id, copy } of this.#pool.snapshots.values()) {
      const bytes = measured.allocated.get(`snapshot ${id}`) ?? 0n;
      allocatedBytes += bytes;
      // A running copy will allocate as much as its source; the rest is still outstanding.
      const rest = copy !== null && copy.allocatedBytes > bytes ? copy.allocatedBytes - bytes : 0n;
      snapshotBytes += bytes + rest;
      outstandingBytes += rest;
    }
    const canShareBlocks = this.#pool.abilities?.reflink === true;
    const trashBytes = [...this.#trash.values()].reduce((sum, bytes) => sum + bytes, 0n);
    return {
      totalBytes: capacity.totalBytes,
      freeBytes: capacity.freeBytes,
      totalInodes: capacity.totalInodes,
      freeInodes: capacity.freeInodes,
      allocatedById: measured.allocated,
      identityById: measured.identities,
      reserveBytes: larger(
        reserveBytesOf(this.#pool.settings.reserve, capacity.totalBytes),
        capacity.freeBytes - capacity.availableBytes,
      ),
      overcommitPerMille: this.#pool.settings.overcommitPerMille,
      promisedBytes,
      allocatedBytes: allocatedBytes + trashBytes,
      snapshotBytes,
      // A volume may share blocks with the trash. Until these are free, rewriting them needs new blocks.
      outstandingBytes: outstandingBytes + (canShareBlocks ? trashBytes : 0n),
      inFlightBytes: this.#inFlightBytes,
      trashBytes,
      watermarkBytes: isGuarded(this.#pool)
        ? watermarksOf(capacity.totalBytes, this.#pool.volumes.size).trimBytes
        : 0n,
    };
  }

  /** The bytes that the pool may still promise, at least 0. */
  async availableBytes(): Promise<bigint> {
    return atLeastZero(promisableBytesOf(await this.facts()));
  }

  /**
   * Sets `bytes` aside for an operation, or throws `no-space`. Reservations are made one at a time, so that no two operations count
   * the same free bytes. `allocate`: all blocks are allocated at once, so they must be free now, whatever overcommit allows.
   */
  async reserve(
    bytes: bigint,
    subject: string,
    { allocate = false }: { allocate?: boolean } = {},
  ): Promise<Reservation> {
    const work = (): Promise<Reservation> => this.#reserve(bytes, subject, allocate);
    const reservation = this.#lastReservation.then(work, work);
    this.#lastReservation = reservation.catch(() => undefined);
    return reservation;
  }

  async #reserve(bytes: bigint, subject: string, allocate: boolean): Promise<Reservation> {
    let facts = await this.facts();
    if (promisableBytesOf(facts) < bytes) {
      // The measurement may be outdated. Space that was freed since then must count before a call is refused.
      this.invalidate();
      facts = await this.facts();
    }
    const promisable = promisableBytesOf(facts);
    if (bytes > 0n && promisable < bytes) {
      throw new VolumeError(
        'no-space',
        `${subject}: pool '${this.#pool.name}' has a capacity of ${formatBytes(atLeastZero(promisable))}, but ${formatBytes(bytes)} are needed ` +
          `(${describeCapacity(capacityTermsOf(facts))}); delete volumes or snapshots, or enlarge the pool`,
      );
    }
    if (!hasInodes(facts)) {
      throw new VolumeError(
        'no-space',
        `${subject}: pool '${this.#pool.name}' has only ${facts.freeInodes} free inodes; remove files from its filesystem`,
      );
    }
    const left = this.#unallocated(facts);
    if (allocate && left < bytes) {
      throw new VolumeError(
        'no-space',
        `${subject}: pool '${this.#pool.name}' has ${formatBytes(atLeastZero(left))} free, but all ${formatBytes(bytes)} must be allocated at once; delete volumes or snapshots, or enlarge the pool`,
      );
    }
    const allocating = allocate ? bytes : 0n;
    this.#inFlightBytes += bytes;
    this.#allocatingBytes += allocating;
    let released = false;
    return {
      release: () => {
        if (released) return;
        released = true;
        this.#inFlightBytes -= bytes;
        this.#allocatingBytes -= allocating;
      },
    };
  }

  /** A measurement is kept for 4 ms per image, at most 5 s, so that measuring takes a bounded share of the time. */
  async #measure(): Promise<ImageUsage> {
    const images = this.#pool.volumes.size + this.#pool.snapshots.size + this.#pool.ephemerals.size;
    const keepMs = Math.min(5_000, images * 4);
    const current = this.#measured;
    if (current !== undefined && performance.now() - current.atMs <= keepMs) return current;
    if (this.#measuring !== undefined) return this.#measuring;
    const measuring = this.#measureNow().finally(() => {
      if (this.#measuring === measuring) this.#measuring = undefined;
    });
    this.#measuring = measuring;
    return measuring;
  }

  async #measureNow(): Promise<ImageUsage> {
    const invalidations = this.#invalidations;
    const measured = await measureImages(this.#pool, this.#host);
    if (invalidations === this.#invalidations) this.#measured = measured;
    return measured;
  }

  /** The capacity, and the maximum size of a volume that could be created now; 0 if that is less than `minBytes`. */
  async bounds(
    minBytes: bigint,
    { allocate }: { allocate: boolean },
  ): Promise<{ availableBytes: bigint; maximumBytes: bigint }> {
    const facts = await this.facts();
    const promisable = promisableBytesOf(facts);
    const left = this.#unallocated(facts);
    const availableBytes = atLeastZero(allocate && left < promisable ? left : promisable);
    const rounded = (availableBytes / MiB) * MiB;
    const maximum = rounded < maxImageBytes ? rounded : maxImageBytes;
    return { availableBytes, maximumBytes: maximum < minBytes ? 0n : maximum };
  }

  /** The bytes that may be allocated at once. */
  #unallocated({ freeBytes, reserveBytes }: SpaceFacts): bigint {
    return freeBytes - reserveBytes - this.#allocatingBytes;
  }
}

function larger(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}

function atLeastZero(bytes: bigint): bigint {
  return bytes > 0n ? bytes : 0n;
}
