import { setTimeout as delay } from 'node:timers/promises';
import { callPeriodically, makeSemaphore } from '../../async.ts';
import { VolumeError } from '../../errors.ts';
import type { RunningCopy } from '../model.ts';

export interface TransferLimits {
  /** Copies between nodes at a time, in each direction. 0: this node neither sends nor receives. */
  readonly parallel: number;
  /** Bytes per second that all copies together send; 0: not limited. */
  readonly bytesPerSecond: bigint;
}

/** How far a copy is. The job that makes it reports it. */
export interface CopyReport {
  begins(): void;
  advances(doneBytes: bigint, totalBytes: bigint): void;
  ends(): void;
}

/** Limits the copies between this node and others, and knows those that have not ended. */
export class Transfers {
  readonly limits: TransferLimits;
  /** Runs a copy from another node, once one of the slots is free. */
  readonly receive: ReturnType<typeof makeSemaphore>;
  /** The clock of what a running copy does periodically. */
  readonly callPeriodically: typeof callPeriodically;
  readonly #running = new Map<symbol, RunningCopy>();
  readonly #sending: ReturnType<typeof makeSemaphore>;
  /** When the bytes that were sent so far will have taken their time, of the monotonic clock. */
  #sentUntilMs = 0;

  constructor(limits: TransferLimits, periodically: typeof callPeriodically = callPeriodically) {
    this.limits = limits;
    this.callPeriodically = periodically;
    const slots = Math.max(limits.parallel, 1);
    this.receive = makeSemaphore(slots);
    this.#sending = makeSemaphore(slots);
  }

  /** Copies that have not ended, in the order in which they began. */
  get running(): readonly RunningCopy[] {
    return [...this.#running.values()];
  }

  /** Adds a copy, which waits for its turn, to the list of those that have not ended. */
  report(copy: Pick<RunningCopy, 'direction' | 'source' | 'copyName' | 'peer'>): CopyReport {
    const key = Symbol();
    this.#running.set(key, { ...copy, isWaiting: true, doneBytes: 0n, totalBytes: 0n });
    const change = (changed: Partial<RunningCopy>): void => {
      const running = this.#running.get(key);
      if (running !== undefined) this.#running.set(key, { ...running, ...changed });
    };
    return {
      begins: () => change({ isWaiting: false }),
      advances: (doneBytes, totalBytes) => change({ isWaiting: false, doneBytes, totalBytes }),
      ends: () => this.#running.delete(key),
    };
  }

  /** Waits for a slot of those that send. The returned function frees it. Throws `cancelled` if the caller leaves. */
  async beginSending(signal: AbortSignal): Promise<() => void> {
    return new Promise((resolve, reject) => {
      this.#sending(
        async () =>
          new Promise<void>((free) => {
            resolve(free);
          }),
        signal,
      ).catch(() => {
        reject(leftError());
      });
    });
  }

  /** Waits until this number of bytes may be sent. Throws `cancelled` if the caller leaves. */
  async pace(bytes: number, signal: AbortSignal): Promise<void> {
    const { bytesPerSecond } = this.limits;
    if (bytesPerSecond === 0n) return;
    const nowMs = performance.now();
    const waitMs = this.#sentUntilMs - nowMs;
    this.#sentUntilMs =
      Math.max(this.#sentUntilMs, nowMs) + (bytes * 1000) / Number(bytesPerSecond);
    if (waitMs <= 0) return;
    await delay(waitMs, undefined, { signal }).catch(() => {
      throw leftError();
    });
  }
}

function leftError(): VolumeError {
  return new VolumeError('cancelled', 'the caller has disconnected');
}
