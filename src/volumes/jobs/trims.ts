import { messageOf } from '../../errors.ts';
import type { Host } from '../../host/host.ts';
import type { Logger } from '../../observe/log.ts';
import { GiB, MiB } from '../../units.ts';
import type { InLane, Lane } from '../engine/lanes.ts';
import type { Locks } from '../engine/locks.ts';
import type { Pool } from '../pool/pool.ts';
import type { MountedThin } from './mounted-thin.ts';

export interface TrimDeps {
  readonly host: Host;
  readonly log: Logger;
  readonly locks: Locks;
  readonly inLane: InLane;
}

/** How a trim ended; `interrupted`: a call on the volume came, and the trim gave way to it. */
export type TrimResult = 'done' | 'failed' | 'interrupted';

export interface TrimCounts {
  readonly runs: Readonly<Record<TrimResult, number>>;
  readonly bytes: bigint;
}

interface Running {
  isCancelled: boolean;
  /** The range that is being trimmed; never rejects. */
  range: Promise<unknown>;
}

/** A whole number of ext4's block groups, which it remembers as trimmed only when they are trimmed whole. */
const leastRangeBytes = 128n * MiB;
const largestRangeBytes = 64n * GiB;
const firstRangeBytes = GiB;
/** What a range may take: a call on the volume waits for no longer. */
const rangeTargetMs = 250;
/** btrfs trims by logical addresses, which go beyond the end of its device. */
const endOfAddresses = 0xffff_ffff_ffff_ffffn;

/**
 * FITRIM of mounted volumes, range by range. The kernel wants an open directory for it, which keeps the mount busy, so a trim holds
 * it for one range only and gives way between two: to `giveWay`, and to any call that holds the volume's lock.
 */
export class Trims {
  readonly #deps: TrimDeps;
  readonly #running = new Map<string, Running>();
  readonly #counts = new Map<Pool, { runs: Record<TrimResult, number>; bytes: bigint }>();

  constructor(deps: TrimDeps) {
    this.#deps = deps;
  }

  /** Since the driver started. */
  countsOf(pool: Pool): TrimCounts {
    return this.#counts.get(pool) ?? { runs: { done: 0, failed: 0, interrupted: 0 }, bytes: 0n };
  }

  /** Trims the volume's filesystem; never throws. One that is being trimmed is `interrupted`. */
  async trim(pool: Pool, volume: MountedThin): Promise<TrimResult> {
    const { log } = this.#deps;
    const { record } = volume;
    if (this.#running.has(record.id)) return 'interrupted';
    const running: Running = { isCancelled: false, range: Promise.resolve() };
    this.#running.set(record.id, running);
    const startedAtMs = performance.now();
    let bytes = 0n;
    let result: TrimResult;
    try {
      result = await this.#trimRanges(pool, volume, running, (more) => {
        bytes += more;
      });
      const durationMs = Math.round(performance.now() - startedAtMs);
      log.info({ volumeId: record.id, bytes: bytes.toString(), durationMs, result }, 'trimmed');
    } catch (error) {
      result = 'failed';
      log.warn({ volumeId: record.id, problem: messageOf(error) }, 'could not be trimmed');
    } finally {
      this.#running.delete(record.id);
    }
    this.#count(pool, result, bytes);
    return result;
  }

  /** Ends the volume's trim, if one runs; answers when the mount is free of it. */
  async giveWay(volumeId: string): Promise<void> {
    const running = this.#running.get(volumeId);
    if (running === undefined) return;
    running.isCancelled = true;
    await running.range;
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#running.keys()].map((id) => this.giveWay(id)));
  }

  async #trimRanges(
    pool: Pool,
    { record, target, device }: MountedThin,
    running: Running,
    told: (bytes: bigint) => void,
  ): Promise<'done' | 'interrupted'> {
    const { host, locks, inLane } = this.#deps;
    const lane: Lane = { kind: 'trim', id: record.id, pool: pool.name };
    let length = firstRangeBytes;
    let offset = 0n;
    while (offset < endOfAddresses) {
      if (running.isCancelled || locks.holderOf(`volume:${record.id}`) !== undefined) {
        return 'interrupted';
      }
      const range = {
        offset,
        length: offset < device.sizeBytes ? length : endOfAddresses - offset,
      };
      const startedAtMs = performance.now();
      const trimmed = inLane(lane, () => host.mounts.trim(target, device, range));
      running.range = trimmed.catch(() => undefined);
      const bytes = await trimmed;
      // The filesystem ends before the range.
      if (bytes === undefined) break;
      told(bytes);
      offset += range.length;
      length = nextLength(length, performance.now() - startedAtMs);
    }
    return 'done';
  }

  #count(pool: Pool, result: TrimResult, bytes: bigint): void {
    const { runs, bytes: before } = this.countsOf(pool);
    const counts = { runs: { ...runs, [result]: runs[result] + 1 }, bytes: before + bytes };
    this.#counts.set(pool, counts);
  }
}

/** Twice or half as much as before, so that a range takes about as long as it may. */
function nextLength(length: bigint, tookMs: number): bigint {
  if (tookMs > rangeTargetMs && length > leastRangeBytes) return length / 2n;
  if (tookMs < rangeTargetMs / 4 && length < largestRangeBytes) return length * 2n;
  return length;
}
