import { StuckError } from '../errors.ts';
import type { Lane } from '../lane.ts';
import { defaultTimeoutMs } from './time-limits.ts';

export interface GateOptions<T> {
  /**
   * Time limit, applied separately to waiting and to running. When it passes, the caller gets a StuckError. 60 s by
   * default.
   */
  readonly timeoutMs?: number | undefined;
  /**
   * Maximum number of concurrent calls that `work` can make; 1 by default. `work` receives the number of threads
   * granted, at least one.
   */
  readonly threads?: number | undefined;
  /** Receives a result that arrives after the time limit, for example to close a descriptor. */
  readonly onLate?: ((value: T) => void) | undefined;
}

export interface PendingCall {
  readonly call: string;
  readonly timeoutMs: number;
  readonly disk: string | undefined;
  readonly chain: readonly string[];
  readonly wantedThreads: number;
  /** Threads granted while it runs. */
  threads: number;
  /** It must run even after its caller got a StuckError. */
  readonly mustRun: boolean;
  readonly start: (threads: number) => Promise<void>;
  /** Reports to the caller that the time limit passed, or that an earlier call of the lane is stuck. */
  readonly giveUp: (error: StuckError) => void;
  timer: NodeJS.Timeout | undefined;
}

/** The calls of one lane, in order of arrival. */
export interface Queue {
  readonly lane: string;
  readonly waiting: PendingCall[];
  running: { readonly pending: PendingCall; readonly startedAtMs: number } | undefined;
  stuck: boolean;
  /** Called once the stuck call has returned. */
  readonly onReturn: (() => void)[];
}

export function newPendingCall<T>(call: string, { disk, chain }: Lane, options: GateOptions<T>) {
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
  const { pending, startedAtMs } = queue.running ?? {
    pending: { call: 'a call' },
    startedAtMs: performance.now(),
  };
  return new StuckError(pending.call, queue.lane, performance.now() - startedAtMs);
}

/** Milliseconds since the running call of the queue started. */
export function runningMs({ running }: Queue): number {
  return running === undefined ? 0 : performance.now() - running.startedAtMs;
}
