import { StuckError } from '../errors.ts';
import type { Owner } from './owner.ts';

/** A call may wait or run for so long, unless it says otherwise. */
const defaultBoundMs = 60_000;

export interface GateOptions<T> {
  /** After so many milliseconds of waiting or running the caller gets a StuckError; 60 s if not given. */
  readonly boundMs?: number | undefined;
  /** How many calls `work` would make side by side, one if not given. It is told how many threads it got, one at least. */
  readonly threads?: number | undefined;
  /** What to do with a result that arrives after the bound, for example to close a descriptor. */
  readonly late?: ((value: T) => void) | undefined;
}

export interface Entry {
  readonly call: string;
  readonly boundMs: number;
  readonly disk: string | undefined;
  readonly chain: readonly string[];
  readonly wantedThreads: number;
  /** Threads that it holds while it runs. */
  threads: number;
  /** It is made in the end although its caller was told otherwise. */
  readonly mustRun: boolean;
  readonly begin: (threads: number) => Promise<void>;
  /** Tells the caller that the bound has passed, or that an earlier call of the owner is stuck. */
  readonly giveUp: (error: StuckError) => void;
  timer: NodeJS.Timeout | undefined;
}

/** One owner's calls, first come, first served. */
export interface Lane {
  readonly owner: string;
  readonly waiting: Entry[];
  running: { readonly entry: Entry; readonly startedAtMs: number } | undefined;
  stuck: boolean;
  /** Called when a stuck call has returned. */
  readonly returned: (() => void)[];
}

export function entryOf<T>(call: string, { disk, chain }: Owner, options: GateOptions<T>) {
  return {
    call,
    disk,
    chain,
    boundMs: options.boundMs ?? defaultBoundMs,
    wantedThreads: Math.max(1, options.threads ?? 1),
    threads: 0,
    timer: undefined,
  };
}

export function isStuck(lane: Lane): boolean {
  return lane.stuck && lane.running !== undefined;
}

export function stuckError(lane: Lane): StuckError {
  const { entry, startedAtMs } = lane.running ?? {
    entry: { call: 'a call' },
    startedAtMs: performance.now(),
  };
  return new StuckError(entry.call, lane.owner, performance.now() - startedAtMs);
}

/** How long the running call of the lane has been running. */
export function runningMs({ running }: Lane): number {
  return running === undefined ? 0 : performance.now() - running.startedAtMs;
}
