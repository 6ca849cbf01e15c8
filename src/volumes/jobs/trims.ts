import { messageOf } from '../../errors.ts';
import type { Host } from '../../host/host.ts';
import type { Logger } from '../../observe/log.ts';
import { GiB, MiB } from '../../units.ts';
import { inLane } from '../engine/lanes.ts';
import { type Locks, volumeLock } from '../engine/locks.ts';
import { callIdOf } from '../pool/contents.ts';
import type { Pool } from '../pool/pool.ts';
import type { MountedThinVolume } from './mounted-thin-volumes.ts';

interface TrimDeps {
  readonly host: Host;
  readonly log: Logger;
  readonly locks: Locks;
}

/** How a trim ended. `interrupted`: a call on the volume ended it. */
type TrimResult = 'done' | 'failed' | 'interrupted';

export interface TrimCounts {
  readonly runs: Readonly<Record<TrimResult, number>>;
  readonly bytes: bigint;
}

interface Running {
  isCancelled: boolean;
  /** The trim of the current range; never rejects. */
  range: Promise<unknown>;
}

/** A multiple of ext4's block groups, because ext4 remembers only complete groups as trimmed. */
const minRangeBytes = 128n * MiB;
const maxRangeBytes = 64n * GiB;
const firstRangeBytes = GiB;
/** Intended duration of the trim of one range: calls on the volume wait for it. */
const rangeTargetMs = 250;
/** btrfs trims by logical addresses, which exceed the size of its device. */
const maxAddress = 0xffff_ffff_ffff_ffffn;

/**
 * Trims mounted volumes (FITRIM), range by range. FITRIM needs an open directory, which keeps the mount busy. A trim therefore opens
 * it for one range at a time, and stops between two ranges for `interrupt` and for any call that has locked the volume.
 */
export class Trims {
  readonly #deps: TrimDeps;
  readonly #running = new Map<string, Running>();
  readonly #counts = new Map<Pool, { runs: Record<TrimResult, number>; bytes: bigint }>();

  constructor(deps: TrimDeps) {
    this.#deps = deps;
  }

  /** The counts since the driver started. */
  countsOf(pool: Pool): TrimCounts {
    return this.#counts.get(pool) ?? { runs: { done: 0, failed: 0, interrupted: 0 }, bytes: 0n };
  }

  /** Trims the volume's filesystem. Never throws. If a trim of the volume is already running, returns `interrupted`. */
  async trim(pool: Pool, volume: MountedThinVolume): Promise<TrimResult> {
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
      log.info({ volumeId: record.id, bytes, durationMs, result }, 'a volume was trimmed');
    } catch (error) {
      result = 'failed';
      log.warn({ volumeId: record.id, problem: messageOf(error) }, 'a volume could not be trimmed');
    } finally {
      this.#running.delete(record.id);
    }
    this.#count(pool, result, bytes);
    return result;
  }

  /** Stops a trim of the volume. Resolves when it no longer keeps the mount busy. */
  async interrupt(volumeId: string): Promise<void> {
    const running = this.#running.get(volumeId);
    if (running === undefined) return;
    running.isCancelled = true;
    await running.range;
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#running.keys()].map((id) => this.interrupt(id)));
  }

  async #trimRanges(
    pool: Pool,
    volume: MountedThinVolume,
    running: Running,
    onTrimmed: (bytes: bigint) => void,
  ): Promise<'done' | 'interrupted'> {
    const { record, target, device } = volume;
    const { locks } = this.#deps;
    const { host } = inLane(this.#deps, { kind: 'trim', id: record.id, pool: pool.name });
    let length = firstRangeBytes;
    let offset = 0n;
    while (offset < maxAddress) {
      if (running.isCancelled || locks.lockedBy(volumeLock(callIdOf(volume))) !== undefined) {
        return 'interrupted';
      }
      const range = {
        offset,
        length: offset < device.sizeBytes ? length : maxAddress - offset,
      };
      const startedAtMs = performance.now();
      const trimmed = host.mounts.trim(target, device, range);
      running.range = trimmed.catch(() => undefined);
      const bytes = await trimmed;
      // The range begins beyond the end of the filesystem.
      if (bytes === undefined) break;
      onTrimmed(bytes);
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

/** Doubles or halves the length, so that a range takes about the intended time. */
function nextLength(length: bigint, tookMs: number): bigint {
  if (tookMs > rangeTargetMs && length > minRangeBytes) return length / 2n;
  if (tookMs < rangeTargetMs / 4 && length < maxRangeBytes) return length * 2n;
  return length;
}
