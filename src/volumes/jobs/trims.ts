import { setTimeout as delay } from 'node:timers/promises';
import { makeSemaphore } from '../../async.ts';
import { messageOf } from '../../errors.ts';
import type { Host } from '../../host/host.ts';
import type { Logger } from '../../observe/log.ts';
import { inLane } from '../engine/lanes.ts';
import { type Locks, volumeLock } from '../engine/locks.ts';
import { callIdOf } from '../pool/contents.ts';
import type { Pool } from '../pool/pool.ts';
import type { MountedThinVolume } from './mounted-thin-volumes.ts';
import { type TrimmedBytes, trimRanges } from './trim-ranges.ts';

interface TrimDeps {
  readonly host: Host;
  readonly log: Logger;
  readonly locks: Locks;
  /** The maximum rate at which trims return bytes to a pool. The guard's trims are not limited. */
  readonly bytesPerSecond: bigint;
}

/** How a trim ended. `interrupted`: a call on the volume ended it. */
type TrimResult = 'done' | 'failed' | 'interrupted';

/** What started a trim: `trim: periodic`, the space guard, or `loopcsi volume trim`. */
export type TrimCause = 'periodic' | 'guard' | 'command';

export interface TrimOutcome extends TrimmedBytes {
  readonly result: TrimResult;
  /** Why it failed; undefined unless the result is `failed`. */
  readonly error?: unknown;
}

/** A trim that has ended, for metrics. */
export interface TrimEvent extends TrimOutcome {
  readonly pool: string;
  readonly volumeId: string;
  readonly cause: TrimCause;
  readonly durationMs: number;
}

export interface TrimCounts {
  readonly runs: Readonly<Record<TrimResult, number>>;
  /** Reported by the filesystems. */
  readonly bytes: bigint;
}

interface Running {
  /** Aborted for a call on the volume. */
  readonly abort: AbortController;
  /** The trim of the current range; never rejects. */
  range: Promise<unknown>;
  /** Whether the rate limit applies. The guard lifts it from a running trim. */
  isPaced: boolean;
}

/** A pause is bounded, so that a range that returned very much does not stop the trim. */
const maxPauseMs = 60_000;

/**
 * Trims mounted volumes (FITRIM), range by range. FITRIM needs an open directory, which keeps the mount busy. A trim therefore opens
 * it for one range at a time, and stops between two ranges for `interrupt` and for any call that has locked the volume. One volume of
 * a pool is trimmed at a time; the guard's trims do not wait for the others.
 */
export class Trims {
  readonly #deps: TrimDeps;
  readonly #running = new Map<string, { state: Running; outcome: Promise<TrimOutcome> }>();
  readonly #counts = new Map<Pool, { runs: Record<TrimResult, number>; bytes: bigint }>();
  readonly #turns = new Map<Pool, ReturnType<typeof makeSemaphore>>();
  readonly #observers: ((event: TrimEvent) => void)[] = [];
  #isStopped = false;

  constructor(deps: TrimDeps) {
    this.#deps = deps;
  }

  /** The counts since the driver started. */
  countsOf(pool: Pool): TrimCounts {
    return this.#counts.get(pool) ?? { runs: { done: 0, failed: 0, interrupted: 0 }, bytes: 0n };
  }

  /** Calls `observer`, which must not throw, after each trim. */
  observe(observer: (event: TrimEvent) => void): void {
    this.#observers.push(observer);
  }

  /** Trims the volume's filesystem. Never throws. If the volume is being trimmed already, returns the outcome of that trim. */
  async trim(pool: Pool, volume: MountedThinVolume, cause: TrimCause): Promise<TrimOutcome> {
    const current = this.#running.get(volume.record.id);
    if (current !== undefined) {
      if (cause === 'guard') current.state.isPaced = false;
      return current.outcome;
    }
    if (cause === 'guard') return this.#start(pool, volume, cause);
    const turn = this.#turns.get(pool) ?? makeSemaphore(1);
    this.#turns.set(pool, turn);
    return turn(() => this.#start(pool, volume, cause));
  }

  /** Stops a trim of the volume. Resolves when it no longer keeps the mount busy. */
  async interrupt(volumeId: string): Promise<void> {
    const state = this.#running.get(volumeId)?.state;
    if (state === undefined) return;
    state.abort.abort();
    await state.range;
  }

  /** Stops all trims, also those that wait for their turn. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    await Promise.all([...this.#running.keys()].map((id) => this.interrupt(id)));
  }

  #start(pool: Pool, volume: MountedThinVolume, cause: TrimCause): Promise<TrimOutcome> {
    const { id } = volume.record;
    // Another trim may have started while this one waited for its turn.
    const current = this.#running.get(id);
    if (current !== undefined) return current.outcome;
    const state: Running = {
      abort: new AbortController(),
      range: Promise.resolve(),
      isPaced: cause !== 'guard',
    };
    const outcome = this.#run(pool, volume, state).then(({ durationMs, ...ended }) => {
      this.#running.delete(id);
      this.report(pool, { pool: pool.name, volumeId: id, cause, durationMs, ...ended });
      return ended;
    });
    this.#running.set(id, { state, outcome });
    return outcome;
  }

  /** Never rejects. */
  async #run(
    pool: Pool,
    volume: MountedThinVolume,
    running: Running,
  ): Promise<TrimOutcome & { readonly durationMs: number }> {
    const { locks } = this.#deps;
    const { id } = volume.record;
    const { host } = inLane(this.#deps, { kind: 'trim', id, pool: pool.name });
    const startedAtMs = performance.now();
    const bytes = { discardedBytes: 0n, allocatedBeforeBytes: 0n, allocatedAfterBytes: 0n };
    const isStopped = (): boolean =>
      this.#isStopped ||
      running.abort.signal.aborted ||
      locks.lockedBy(volumeLock(callIdOf(volume))) !== undefined;
    let ended: Pick<TrimOutcome, 'result' | 'error'>;
    try {
      const result = await trimRanges(host, volume, bytes, {
        isStopped,
        onRange: (range) => {
          running.range = range;
        },
        pace: (returnedBytes) => this.#pause(running, returnedBytes),
      });
      ended = { result };
    } catch (error) {
      ended = { result: 'failed', error };
    }
    return { ...bytes, ...ended, durationMs: Math.round(performance.now() - startedAtMs) };
  }

  /** Waits as long as the bytes take at the maximum rate, or until the trim is interrupted. */
  async #pause({ isPaced, abort: { signal } }: Running, returnedBytes: bigint): Promise<void> {
    if (!isPaced || returnedBytes <= 0n) return;
    const ms = Number((returnedBytes * 1000n) / this.#deps.bytesPerSecond);
    if (ms === 0) return;
    await delay(Math.min(ms, maxPauseMs), undefined, { signal, ref: false }).catch(() => undefined);
  }

  /** Logs and counts a trim that has ended, and calls the observers. */
  report(pool: Pool, event: TrimEvent): void {
    const { pool: name, volumeId, cause, result, error, durationMs } = event;
    const { discardedBytes: bytes, allocatedBeforeBytes, allocatedAfterBytes } = event;
    const { log } = this.#deps;
    if (result === 'failed') {
      const problem = messageOf(error);
      log.warn({ pool: name, volumeId, cause, problem }, 'a volume could not be trimmed');
    } else {
      log.info(
        {
          pool: name,
          volumeId,
          cause,
          bytes,
          allocatedBeforeBytes,
          allocatedAfterBytes,
          durationMs,
          result,
        },
        'a volume was trimmed',
      );
    }
    // Blocks were freed.
    pool.space.invalidate();
    const { runs, bytes: before } = this.countsOf(pool);
    const counts = { runs: { ...runs, [result]: runs[result] + 1 }, bytes: before + bytes };
    this.#counts.set(pool, counts);
    for (const observer of this.#observers) observer(event);
  }
}
