import { VolumeError } from '../../errors.ts';
import type { Capacity, Host } from '../../host/host.ts';
import { formatBytes, MiB } from '../../units.ts';
import { largestImageBytes } from '../capacity.ts';
import type { OwnedBy } from '../engine/lanes.ts';
import type { PoolContents } from './contents.ts';
import { type Measured, measureImages } from './image-usage.ts';
import type { PoolSettings } from './settings.ts';
import { isGuarded, minFreeInodes, watermarksOf } from './thresholds.ts';

/** Bytes that belong to one operation under way, until its record carries the promise. */
export interface Reservation {
  release(): void;
}

/** What a pool's room follows from; all in bytes. */
export interface SpaceFacts {
  readonly totalBytes: bigint;
  readonly freeBytes: bigint;
  readonly reserveBytes: bigint;
  readonly overcommitPerMille: number;
  /** Sizes promised to volumes, ephemeral ones included. */
  readonly promisedBytes: bigint;
  /** Allocated by volumes, snapshots and trash of ours, as st_blocks counts. */
  readonly allocatedBytes: bigint;
  /** Allocated by snapshots: their source may be rewritten whole. */
  readonly snapshotBytes: bigint;
  /** What volumes may still have to allocate: size less what is theirs alone. */
  readonly outstandingBytes: bigint;
  readonly inFlightBytes: bigint;
  readonly trashBytes: bigint;
  /** Free bytes below which a guarded pool makes no new volume; 0: none. */
  readonly watermarkBytes: bigint;
}

/** Whether it has inodes for what a call makes. */
export function hasInodes({ totalInodes, freeInodes }: MeasuredFacts): boolean {
  return totalInodes === 0n || freeInodes >= minFreeInodes;
}

/**
 * Room for promises: overcommit × (total − reserve − what others use) − promised − snapshots − in flight − trash; without
 * overcommit also never more than free − reserve − outstanding − in flight, which holds however blocks are shared. May be negative.
 */
export function promisableBytesOf(facts: SpaceFacts): bigint {
  const used = facts.totalBytes - facts.freeBytes;
  const others = used > facts.allocatedBytes ? used - facts.allocatedBytes : 0n;
  const share =
    ((facts.totalBytes - facts.reserveBytes - others) * BigInt(facts.overcommitPerMille)) / 1000n;
  // An overcommitted pool that is nearly full promises nothing more, whatever the factor says.
  if (facts.overcommitPerMille > 1000 && facts.freeBytes < facts.watermarkBytes) return 0n;
  const byPromise =
    share - facts.promisedBytes - facts.snapshotBytes - facts.inFlightBytes - facts.trashBytes;
  if (facts.overcommitPerMille > 1000) return byPromise;
  const byBlocks =
    facts.freeBytes - facts.reserveBytes - facts.outstandingBytes - facts.inFlightBytes;
  return byPromise < byBlocks ? byPromise : byBlocks;
}

/** The configured reserve in bytes of a filesystem of that size. */
export function reserveBytesOf(reserve: PoolSettings['reserve'], totalBytes: bigint): bigint {
  return 'bytes' in reserve ? reserve.bytes : (totalBytes * BigInt(reserve.perMille)) / 1000n;
}

/** With what else limits a pool. Filesystems that make inodes as they need them say 0 of both. */
export interface MeasuredFacts extends SpaceFacts {
  readonly totalInodes: bigint;
  readonly freeInodes: bigint;
  /** What each image takes, as `Measured` has it. */
  readonly allocatedById: ReadonlyMap<string, bigint>;
}

/** The room of one pool: asked of its filesystem, less what is promised. Nothing is promised twice. */
export class PoolSpace {
  readonly #pool: PoolContents;
  readonly #host: Host;
  readonly #ownedBy: OwnedBy;
  #inFlightBytes = 0n;
  /** Of these, what is allocated block by block right now. */
  #allocatingBytes = 0n;
  readonly #trash = new Map<string, bigint>();
  #measured: Measured | undefined;
  #measuring: Promise<Measured> | undefined;
  #turn: Promise<unknown> = Promise.resolve();
  /** Counts what makes a measurement worthless, also one that is under way. */
  #changes = 0;

  constructor(pool: PoolContents, { host, ownedBy }: { host: Host; ownedBy: OwnedBy }) {
    this.#pool = pool;
    this.#host = host;
    this.#ownedBy = ownedBy;
  }

  /** What was renamed to trash stays counted until its blocks are free. */
  noteTrash(entry: string, allocatedBytes: bigint): void {
    this.#trash.set(entry, allocatedBytes);
  }

  forgetTrash(entry: string): void {
    this.#trash.delete(entry);
  }

  /** Makes the next question measure anew, after something was freed, or shared. */
  invalidate(): void {
    this.#changes += 1;
    this.#measured = undefined;
    this.#measuring = undefined;
  }

  /** Throws `unavailable` once the pool is not served. */
  async facts(): Promise<MeasuredFacts> {
    return this.#ask(async () => {
      const measured = await this.#measure();
      return this.#factsOf(measured, await this.#capacity());
    });
  }

  /** What its filesystem says without a look at any image. Throws `unavailable` once the pool is not served. */
  async capacity(): Promise<Capacity> {
    return this.#ask(() => this.#capacity());
  }

  #capacity(): Promise<Capacity> {
    return this.#host.files.capacity(this.#pool.root);
  }

  /** Owned by the room whoever asks: on a disk that hangs the question waits, and nothing else of the caller's does. */
  #ask<T>(question: () => Promise<T>): Promise<T> {
    return this.#pool.whileServed(() => this.#ownedBy(`room ${this.#pool.name}`, question));
  }

  #factsOf(measured: Measured, capacity: Capacity): MeasuredFacts {
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
      // A copy under way will allocate what its source has; the rest of that is still to come.
      const rest = copy !== null && copy.allocatedBytes > bytes ? copy.allocatedBytes - bytes : 0n;
      snapshotBytes += bytes + rest;
      outstandingBytes += rest;
    }
    const sharesBlocks = this.#pool.abilities?.reflink === true;
    const trashBytes = [...this.#trash.values()].reduce((sum, bytes) => sum + bytes, 0n);
    return {
      totalBytes: capacity.totalBytes,
      freeBytes: capacity.freeBytes,
      totalInodes: capacity.totalInodes,
      freeInodes: capacity.freeInodes,
      allocatedById: measured.allocated,
      reserveBytes: reserveBytesOf(this.#pool.settings.reserve, capacity.totalBytes),
      overcommitPerMille: this.#pool.settings.overcommitPerMille,
      promisedBytes,
      allocatedBytes: allocatedBytes + trashBytes,
      snapshotBytes,
      // Blocks in the trash may be shared with a volume, which then needs others for a rewrite until they are free.
      outstandingBytes: outstandingBytes + (sharesBlocks ? trashBytes : 0n),
      inFlightBytes: this.#inFlightBytes,
      trashBytes,
      watermarkBytes: isGuarded(this.#pool)
        ? watermarksOf(capacity.totalBytes, this.#pool.volumes.size).trimBytes
        : 0n,
    };
  }

  /** Room for new promises now, never below 0. */
  async availableBytes(): Promise<bigint> {
    const room = promisableBytesOf(await this.facts());
    return room > 0n ? room : 0n;
  }

  /**
   * Sets `bytes` aside for an operation, or throws `no-space` naming pool and both sizes. One question at a time, so two
   * operations never count the same room. `allocate`: they are taken from the disk at once, so promises are not enough.
   */
  async reserve(
    bytes: bigint,
    what: string,
    { allocate = false }: { allocate?: boolean } = {},
  ): Promise<Reservation> {
    const work = (): Promise<Reservation> => this.#reserve(bytes, what, allocate);
    const turn = this.#turn.then(work, work);
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  async #reserve(bytes: bigint, what: string, allocate: boolean): Promise<Reservation> {
    let facts = await this.facts();
    if (promisableBytesOf(facts) < bytes) {
      // A measurement may be some milliseconds old; what was freed since counts too before anyone is refused.
      this.invalidate();
      facts = await this.facts();
    }
    const room = promisableBytesOf(facts);
    if (bytes > 0n && room < bytes) {
      throw new VolumeError(
        'no-space',
        `${what}: pool '${this.#pool.name}' has room for ${formatBytes(room > 0n ? room : 0n)}, ${formatBytes(bytes)} are needed ` +
          `(${formatBytes(facts.freeBytes)} of ${formatBytes(facts.totalBytes)} free, ${formatBytes(facts.promisedBytes)} promised, ` +
          `${formatBytes(facts.reserveBytes)} reserved); delete volumes or snapshots, or enlarge the pool`,
      );
    }
    if (!hasInodes(facts)) {
      throw new VolumeError(
        'no-space',
        `${what}: pool '${this.#pool.name}' has only ${facts.freeInodes} free inodes; remove files from its filesystem`,
      );
    }
    const left = this.#unallocated(facts);
    if (allocate && left < bytes) {
      throw new VolumeError(
        'no-space',
        `${what}: pool '${this.#pool.name}' has ${formatBytes(left > 0n ? left : 0n)} free, and all ${formatBytes(bytes)} are allocated at once; delete volumes or snapshots, or enlarge the pool`,
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

  /** One measurement serves for about as many milliseconds as there are images, so that its cost stays bounded. */
  async #measure(): Promise<Measured> {
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

  async #measureNow(): Promise<Measured> {
    const changes = this.#changes;
    const measured = await measureImages(this.#pool, this.#host);
    if (changes === this.#changes) this.#measured = measured;
    return measured;
  }

  /** The largest and the smallest volume it would make now. */
  async bounds(
    minBytes: bigint,
    { allocate }: { allocate: boolean },
  ): Promise<{ availableBytes: bigint; maximumBytes: bigint }> {
    const facts = await this.facts();
    const room = promisableBytesOf(facts);
    const left = this.#unallocated(facts);
    const most = allocate && left < room ? left : room;
    const availableBytes = most > 0n ? most : 0n;
    const whole = (availableBytes / MiB) * MiB;
    const largest = whole < largestImageBytes ? whole : largestImageBytes;
    return { availableBytes, maximumBytes: largest < minBytes ? 0n : largest };
  }

  /** What may be allocated at once, block by block. */
  #unallocated({ freeBytes, reserveBytes }: SpaceFacts): bigint {
    return freeBytes - reserveBytes - this.#allocatingBytes;
  }
}
