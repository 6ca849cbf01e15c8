import { setTimeout as delay } from 'node:timers/promises';
import { makeSemaphore } from '../../async.ts';
import { messageOf, VolumeError } from '../../errors.ts';
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

/** A trim that runs or waits for its turn. */
interface Trim {
  /** Aborted for a call on the volume, and when no caller waits any more. */
  readonly abort: AbortController;
  /** Aborted by the guard, which lifts the rate limit from the trim. */
  readonly unpaced: AbortController;
  /** The trim of the current range; never rejects. */
  range: Promise<unknown>;
  /** The number of callers that wait for the outcome. */
  callers: number;
  isBegun: boolean;
  outcome: Promise<TrimOutcome>;
}

/** The longest delay of a timer. */
const maxDelayMs = 2 ** 31 - 1;

const notTrimmed = {
  result: 'interrupted',
  discardedBytes: 0n,
  allocatedBeforeBytes: 0n,
  allocatedAfterBytes: 0n,
} as const satisfies TrimOutcome;

/**
 * Trims mounted volumes (FITRIM), range by range. FITRIM needs an open directory, which keeps the mount busy. A trim therefore opens
 * it for one range at a time, and stops between two ranges for `interrupt` and for any call that has locked the volume. One volume of
 * a pool is trimmed at a time; the guard's trims do not wait for the others. A trim for which no caller waits any more ends.
 */
export class Trims {
  readonly #deps: TrimDeps;
  /** By the id of the volume. */
  readonly #trims = new Map<string, Trim>();
  readonly #counts = new Map<Pool, { runs: Record<TrimResult, number>; bytes: bigint }>();
  readonly #turns = new Map<Pool, ReturnType<typeof makeSemaphore>>();
  readonly #observers: ((event: TrimEvent) => void)[] = [];
  readonly #stop = new AbortController();

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

  /**
   * Trims the volume's filesystem. Never throws. If the volume is being trimmed already, or waits for that, returns the outcome of that
   * trim; a trim that was aborted ends first, and another one follows. `signal`: the caller has given up; it then gets `interrupted` at once.
   */
  async trim(
    pool: Pool,
    volume: MountedThinVolume,
    cause: TrimCause,
    signal?: AbortSignal,
  ): Promise<TrimOutcome> {
    if (signal?.aborted === true) return notTrimmed;
    const { id } = volume.record;
    for (let ending = this.#trims.get(id); ending?.abort.signal.aborted === true; ) {
      if ((await untilAborted(ending.outcome, signal)) === undefined) return notTrimmed;
      this.#forget(id, ending);
      ending = this.#trims.get(id);
    }
    const trim = this.#trims.get(id) ?? this.#add(pool, volume, cause);
    if (cause === 'guard') {
      trim.unpaced.abort();
      // It may be waiting for its turn.
      if (!trim.isBegun) trim.outcome = this.#start(pool, volume, cause, trim);
    }
    trim.callers += 1;
    const ended = await untilAborted(trim.outcome, signal);
    trim.callers -= 1;
    if (trim.callers === 0) {
      trim.abort.abort();
      // A later call must not join a trim that will not begin.
      if (!trim.isBegun) this.#forget(id, trim);
    }
    return ended?.value ?? notTrimmed;
  }

  /**
   * Runs `work` when no other trim of the pool runs, except those of the guard. Throws `cancelled` when the caller gives up, or if the
   * driver is being stopped before; `work` is then not begun any more. `work` is passed a signal that is aborted in both cases.
   */
  async inTurn<T>(
    pool: Pool,
    callSignal: AbortSignal,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const signal = AbortSignal.any([callSignal, this.#stop.signal]);
    const cancelled = new VolumeError(
      'cancelled',
      'the trim was cancelled: its caller gave up waiting, or the driver is shutting down',
    );
    const turn = this.#turnOf(pool)(async () => {
      if (signal.aborted) throw cancelled;
      return work(signal);
    });
    const ended = await untilAborted(turn, callSignal);
    if (ended === undefined) throw cancelled;
    return ended.value;
  }

  /** Adds a trim of a volume that is not being trimmed. It begins at its turn. */
  #add(pool: Pool, volume: MountedThinVolume, cause: TrimCause): Trim {
    const trim: Trim = {
      abort: new AbortController(),
      unpaced: new AbortController(),
      range: Promise.resolve(),
      callers: 0,
      isBegun: false,
      outcome: Promise.resolve(notTrimmed),
    };
    this.#trims.set(volume.record.id, trim);
    if (cause !== 'guard') {
      trim.outcome = this.#turnOf(pool)(async () => {
        if (trim.isBegun) return trim.outcome;
        return trim.abort.signal.aborted ? notTrimmed : this.#start(pool, volume, cause, trim);
      });
    }
    return trim;
  }

  #forget(id: string, trim: Trim): void {
    if (this.#trims.get(id) === trim) this.#trims.delete(id);
  }

  #turnOf(pool: Pool): ReturnType<typeof makeSemaphore> {
    const turn = this.#turns.get(pool) ?? makeSemaphore(1);
    this.#turns.set(pool, turn);
    return turn;
  }

  /** Stops a trim of the volume. Resolves when it no longer keeps the mount busy. */
  async interrupt(volumeId: string): Promise<void> {
    const trim = this.#trims.get(volumeId);
    // A trim that waits for its turn does not keep the mount busy.
    if (trim?.isBegun !== true) return;
    trim.abort.abort();
    await trim.range;
  }

  /** Stops all trims, also those that wait for their turn. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await Promise.all([...this.#trims.keys()].map((id) => this.interrupt(id)));
  }

  /** Never rejects. */
  async #start(
    pool: Pool,
    volume: MountedThinVolume,
    cause: TrimCause,
    trim: Trim,
  ): Promise<TrimOutcome> {
    trim.isBegun = true;
    const { id } = volume.record;
    const { durationMs, ...ended } = await this.#run(pool, volume, trim);
    this.#forget(id, trim);
    this.report(pool, { pool: pool.name, volumeId: id, cause, durationMs, ...ended });
    return ended;
  }

  /** Never rejects. */
  async #run(
    pool: Pool,
    volume: MountedThinVolume,
    running: Trim,
  ): Promise<TrimOutcome & { readonly durationMs: number }> {
    const { locks } = this.#deps;
    const { id } = volume.record;
    const { host } = inLane(this.#deps, { kind: 'trim', id, pool: pool.name });
    const startedAtMs = performance.now();
    const bytes = { discardedBytes: 0n, allocatedBeforeBytes: 0n, allocatedAfterBytes: 0n };
    const isStopped = (): boolean =>
      this.#stop.signal.aborted ||
      running.abort.signal.aborted ||
      locks.lockedBy(volumeLock(callIdOf(volume))) !== undefined;
    let ended: Pick<TrimOutcome, 'result' | 'error'>;
    try {
      const result = await trimRanges(host, volume, bytes, {
        isStopped,
        onRange: (range) => {
          running.range = range;
        },
        pace: (returnedBytes) =>
          this.#pause(
            returnedBytes,
            AbortSignal.any([running.abort.signal, running.unpaced.signal]),
          ),
      });
      ended = { result };
    } catch (error) {
      ended = { result: 'failed', error };
    }
    return { ...bytes, ...ended, durationMs: Math.round(performance.now() - startedAtMs) };
  }

  /** Waits as long as the bytes take at the maximum rate, or until the signal is aborted. */
  async #pause(returnedBytes: bigint, signal: AbortSignal): Promise<void> {
    const ms = pauseMsAfter(returnedBytes, this.#deps.bytesPerSecond);
    if (ms > 0) await delay(ms, undefined, { signal, ref: false }).catch(() => undefined);
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

/** For how many milliseconds a trim pauses after it has returned that many bytes. */
export function pauseMsAfter(returnedBytes: bigint, bytesPerSecond: bigint): number {
  if (returnedBytes <= 0n) return 0;
  return Math.min(Number((returnedBytes * 1000n) / bytesPerSecond), maxDelayMs);
}

/** The result of `work`, or undefined as soon as the signal is aborted. A later failure of `work` is then ignored. */
async function untilAborted<T>(
  work: Promise<T>,
  signal: AbortSignal | undefined,
): Promise<{ readonly value: T } | undefined> {
  const ended = work.then((value) => ({ value }));
  if (signal === undefined) return ended;
  let onAbort = (): void => undefined;
  const aborted = new Promise<undefined>((resolve) => {
    onAbort = () => resolve(undefined);
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
  });
  try {
    return await Promise.race([ended, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
