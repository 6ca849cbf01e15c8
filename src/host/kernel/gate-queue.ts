import { StuckError } from '../errors.ts';
import type { Lane } from '../lane.ts';

/** Default time limit for waiting and for running. */
const defaultTimeoutMs = 60_000;

export interface GateOptions<T> {
  /** Time limit for waiting, and for running: then the caller gets a StuckError. 60 s by default. */
  readonly timeoutMs?: number | undefined;
  /** How many concurrent calls `work` would make; 1 by default. It gets the number of threads granted, at least one. */
  readonly threads?: number | undefined;
  /** Receives a result that arrives after the time limit, for example to close a descriptor. */
  readonly late?: ((value: T) => void) | undefined;
}

export interface Entry {
  readonly call: string;
  readonly timeoutMs: number;
  readonly disk: string | undefined;
  readonly chain: readonly string[];
  readonly wantedThreads: number;
  /** Threads granted to it while it runs. */
  threads: number;
  /** It still runs after its caller was told that it is stuck. */
  readonly mustRun: boolean;
  readonly begin: (threads: number) => Promise<void>;
  /** Tells the caller that the time limit passed, or that an earlier call of the lane is stuck. */
  readonly giveUp: (error: StuckError) => void;
  timer: NodeJS.Timeout | undefined;
}

/** The calls of one lane, in order of arrival. */
export interface Queue {
  readonly lane: string;
  readonly waiting: Entry[];
  running: { readonly entry: Entry; readonly startedAtMs: number } | undefined;
  stuck: boolean;
  /** Called when a stuck call has returned. */
  readonly returned: (() => void)[];
}

export function entryOf<T>(call: string, { disk, chain }: Lane, options: GateOptions<T>) {
  return {
    call,
    disk,
    chain,
    timeoutMs: options.timeoutMs ?? defaultTimeoutMs,
    wantedThreads: Math.max(1, options.threads ?? 1),
    threads: 0,
    timer: undefined,
  };
}

export function isStuck(queue: Queue): boolean {
  return queue.stuck && queue.running !== undefined;
}

export function stuckError(queue: Queue): StuckError {
  const { entry, startedAtMs } = queue.running ?? {
    entry: { call: 'a call' },
    startedAtMs: performance.now(),
  };
  return new StuckError(entry.call, queue.lane, performance.now() - startedAtMs);
}

/** Milliseconds since the running call of the queue started. */
export function runningMs({ running }: Queue): number {
  return running === undefined ? 0 : performance.now() - running.startedAtMs;
}
