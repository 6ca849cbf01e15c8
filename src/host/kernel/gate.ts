import { StuckError } from '../errors.ts';
import type { Lane } from '../lane.ts';
import {
  type GateOptions,
  isStuck,
  newPendingCall,
  type PendingCall,
  type Queue,
  runningMs,
  stuckError,
} from './gate-queue.ts';

export type { GateOptions } from './gate-queue.ts';

/**
 * Blocking kernel calls occupy threads of the libuv pool, which node:fs and koffi share. The gate prevents a hung call
 * from blocking everything: it runs fewer calls than the pool has threads, and one at a time for each lane
 * (../lane.ts). After a time limit the caller gets a StuckError, while the call keeps its thread and its lane. Calls
 * that must not be dropped, such as closing a descriptor, wait until the stuck call has returned.
 */

/**
 * libuv threads that blocking calls may use. The launcher sets UV_THREADPOOL_SIZE=64; the remaining threads stay free.
 */
const defaultSlots = 48;

/**
 * Slots that one disk may use if no other disk uses any. In general, a disk may use this fraction of the slots that the
 * others leave free: a disk that hangs leaves a third to the others, and a second one leaves a third of that.
 */
const defaultSlotsPerDisk = 32;

/** A call that exceeded its time limit and has not returned; no other call of its lane runs. */
export interface StuckCall {
  readonly lane: string;
  readonly call: string;
  readonly sinceMs: number;
}

export class Gate {
  #freeSlots: number;
  readonly #diskShare: number;
  /** Slots in use, by disk. */
  readonly #slotsInUse = new Map<string, number>();
  /** Queues by name of the lane. */
  readonly #queues = new Map<string, Queue>();
  /** Queues that wait for a free slot, in order of arrival. */
  readonly #ready = new Set<Queue>();

  constructor(slots: number = defaultSlots, slotsPerDisk: number = defaultSlotsPerDisk) {
    this.#freeSlots = slots;
    this.#diskShare = Math.min(1, slotsPerDisk / slots);
  }

  /**
   * Runs `work` once no other call of the lane is running and a slot is free. Must not be nested: a call inside the
   * `work` of another call of its lane would wait for itself. Throws StuckError after the time limit, and immediately
   * while a call of the lane is stuck.
   */
  run<T>(
    lane: Lane,
    call: string,
    work: (threads: number) => Promise<T>,
    options: GateOptions<T> = {},
  ): Promise<T> {
    const queue = this.#queueOf(lane);
    if (isStuck(queue)) return Promise.reject(stuckError(queue));
    return new Promise<T>((resolve, reject) => {
      this.#enqueue(queue, {
        ...newPendingCall(call, lane, options),
        mustRun: false,
        giveUp: reject,
        start: async (threads) => {
          try {
            const value = await work(threads);
            if (this.#finish(queue)) options.onLate?.(value);
            else resolve(value);
          } catch (error) {
            // If the call was late, the promise was rejected at the time limit.
            if (!this.#finish(queue))
              reject(error instanceof Error ? error : new Error(String(error)));
          }
        },
      });
    });
  }

  /**
   * Runs `work` that must not be skipped, such as closing a descriptor: it is never refused or dropped. If an earlier
   * call of the lane is stuck, this resolves at once and `work` runs after that call has returned; if it ran earlier,
   * the number of a descriptor that the stuck call uses could be given to another file. Throws the errors of `work`,
   * and StuckError if `work` exceeds its time limit.
   */
  runEventually(
    lane: Lane,
    call: string,
    work: () => Promise<void>,
    options: { readonly timeoutMs?: number } = {},
  ): Promise<void> {
    const queue = this.#queueOf(lane);
    return new Promise<void>((resolve, reject) => {
      const pending: PendingCall = {
        ...newPendingCall(call, lane, options),
        mustRun: true,
        giveUp: (error) => {
          if (queue.running?.pending === pending) reject(error);
          else resolve();
        },
        start: async () => {
          try {
            await work();
            this.#finish(queue);
            resolve();
          } catch (error) {
            this.#finish(queue);
            reject(error instanceof Error ? error : new Error(String(error)));
          }
        },
      };
      if (isStuck(queue)) {
        queue.waiting.push(pending);
        resolve();
      } else this.#enqueue(queue, pending);
    });
  }

  /** The calls that exceeded their time limit and have not returned. */
  stuckCalls(): readonly StuckCall[] {
    const now = performance.now();
    return [...this.#queues.values()].flatMap(({ lane, running, stuck }) =>
      stuck && running !== undefined
        ? [{ lane, call: running.pending.call, sinceMs: Math.round(now - running.startedAtMs) }]
        : [],
    );
  }

  /** Numbers of running calls and of calls that wait for their lane or for a slot. */
  get load(): { readonly running: number; readonly waiting: number } {
    let [running, waiting] = [0, 0];
    for (const queue of this.#queues.values()) {
      if (queue.running !== undefined) running += 1;
      waiting += queue.waiting.length;
    }
    return { running, waiting };
  }

  /** Age in milliseconds of the oldest running call on this disk; 0 if there is none. */
  oldestCallMs(disk: string): number {
    const queues = [...this.#queues.values()].filter(
      ({ running }) => running?.pending.disk === disk,
    );
    return Math.max(0, ...queues.map(runningMs));
  }

  /**
   * Resolves when every stuck call of this lane, or of a lane started from it, has returned; undefined if there is
   * none.
   */
  whenReturned(lane: string): Promise<void> | undefined {
    const stuck = [...this.#queues.values()].filter(
      (queue) => isStuck(queue) && queue.running?.pending.chain.includes(lane) === true,
    );
    if (stuck.length === 0) return undefined;
    const ends = stuck.map(
      ({ onReturn }) =>
        new Promise<void>((resolve) => {
          onReturn.push(resolve);
        }),
    );
    return Promise.all(ends).then(() => undefined);
  }

  #queueOf({ name }: Lane): Queue {
    let queue = this.#queues.get(name);
    if (queue === undefined) {
      queue = { lane: name, waiting: [], running: undefined, stuck: false, onReturn: [] };
      this.#queues.set(name, queue);
    }
    return queue;
  }

  #enqueue(queue: Queue, pending: PendingCall): void {
    queue.waiting.push(pending);
    this.#startNext(queue);
    // The call may have started, and even ended, in `#startNext`.
    if (queue.waiting.includes(pending)) {
      pending.timer = setTimeout(() => {
        this.#giveUpWaiting(queue, pending);
      }, pending.timeoutMs);
    }
  }

  #startNext(queue: Queue): void {
    if (queue.running !== undefined) return;
    if (queue.waiting.length === 0) {
      this.#ready.delete(queue);
      this.#queues.delete(queue.lane);
      return;
    }
    // One lane can have calls for several disks. A call whose own disk hangs must not delay the others.
    const at = queue.waiting.findIndex(({ disk }) => this.#availableTo(disk) > 0);
    const [pending] = at < 0 ? [] : queue.waiting.splice(at, 1);
    if (pending === undefined) {
      this.#ready.add(queue);
      return;
    }
    pending.threads = Math.min(pending.wantedThreads, this.#availableTo(pending.disk));
    this.#adjustSlots(pending, pending.threads);
    this.#ready.delete(queue);
    queue.running = { pending, startedAtMs: performance.now() };
    clearTimeout(pending.timer);
    pending.timer = setTimeout(() => {
      this.#markStuck(queue, pending);
    }, pending.timeoutMs);
    void pending.start(pending.threads);
  }

  /** Ends the running call of the queue. Returns whether it exceeded its time limit. */
  #finish(queue: Queue): boolean {
    const isLate = queue.stuck;
    const { pending } = queue.running ?? {};
    if (pending !== undefined) {
      clearTimeout(pending.timer);
      this.#adjustSlots(pending, -pending.threads);
    }
    queue.running = undefined;
    queue.stuck = false;
    for (const notify of queue.onReturn.splice(0)) notify();
    this.#startNext(queue);
    for (const next of this.#ready) {
      if (this.#freeSlots === 0) break;
      this.#startNext(next);
    }
    return isLate;
  }

  /** Number of slots that a call on this disk may use now. */
  #availableTo(disk: string | undefined): number {
    if (disk === undefined) return this.#freeSlots;
    const inUse = this.#slotsInUse.get(disk) ?? 0;
    const share = Math.max(1, Math.floor((this.#freeSlots + inUse) * this.#diskShare));
    return Math.min(this.#freeSlots, share - inUse);
  }

  #adjustSlots({ disk }: PendingCall, slots: number): void {
    this.#freeSlots -= slots;
    if (disk === undefined) return;
    const inUse = (this.#slotsInUse.get(disk) ?? 0) + slots;
    if (inUse === 0) this.#slotsInUse.delete(disk);
    else this.#slotsInUse.set(disk, inUse);
  }

  #markStuck(queue: Queue, pending: PendingCall): void {
    queue.stuck = true;
    pending.giveUp(stuckError(queue));
    const waiting = queue.waiting.splice(0);
    queue.waiting.push(...waiting.filter(({ mustRun }) => mustRun));
    for (const next of waiting) {
      clearTimeout(next.timer);
      next.giveUp(stuckError(queue));
    }
  }

  #giveUpWaiting(queue: Queue, pending: PendingCall): void {
    const index = queue.waiting.indexOf(pending);
    if (index >= 0 && !pending.mustRun) queue.waiting.splice(index, 1);
    pending.giveUp(
      new StuckError(`${pending.call} (waiting for its turn)`, queue.lane, pending.timeoutMs),
    );
    this.#startNext(queue);
  }
}

/** The gate of this process. There is only one, since the process has only one thread pool. */
export const gate = new Gate();
