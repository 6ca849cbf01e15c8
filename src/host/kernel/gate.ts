import { StuckError } from '../errors.ts';
import type { Lane } from '../lane.ts';
import {
  type Entry,
  entryOf,
  type GateOptions,
  isStuck,
  type Queue,
  runningMs,
  stuckError,
} from './gate-queue.ts';

export type { GateOptions } from './gate-queue.ts';

/**
 * Blocking kernel calls occupy threads of the pool of libuv, which node:fs and koffi share. The gate keeps a hung call
 * from blocking everything: it runs fewer calls than the pool has threads, one step at a time for each lane
 * (../lane.ts), and after a time limit the caller gets a StuckError, while the call keeps its thread and its lane. Steps
 * that must happen, such as closing a descriptor, wait until the stuck call has returned.
 */

/** Threads of libuv that blocking calls may use; the launcher sets UV_THREADPOOL_SIZE=64, so the rest stays free. */
const defaultSlots = 48;

/**
 * The share of one disk in the slots that no other disk uses: a disk that hangs leaves a third to the others, and a
 * second one leaves a third of that.
 */
const defaultSlotsOfDisk = 32;

/** A call that exceeded its time limit and has not returned; no other call of its lane runs. */
export interface StuckCall {
  readonly lane: string;
  readonly call: string;
  readonly sinceMs: number;
}

export class Gate {
  #free: number;
  readonly #shareOfDisk: number;
  /** Slots in use, by disk. */
  readonly #held = new Map<string, number>();
  /** By lane. */
  readonly #queues = new Map<string, Queue>();
  /** Queues whose first call waits for a free slot, in order. */
  readonly #ready = new Set<Queue>();

  constructor(slots: number = defaultSlots, slotsOfDisk: number = defaultSlotsOfDisk) {
    this.#free = slots;
    this.#shareOfDisk = Math.min(1, slotsOfDisk / slots);
  }

  /**
   * Runs `work` once no other call of the lane is running and a slot is free. Do not nest: a call inside the `work` of
   * another would wait for itself. Throws StuckError after the time limit, and at once while a call of the lane is stuck.
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
      this.#enter(queue, {
        ...entryOf(call, lane, options),
        mustRun: false,
        giveUp: reject,
        begin: async (threads) => {
          try {
            const value = await work(threads);
            if (this.#end(queue)) options.late?.(value);
            else resolve(value);
          } catch (error) {
            // The promise has already been rejected at the time limit.
            if (!this.#end(queue))
              reject(error instanceof Error ? error : new Error(String(error)));
          }
        },
      });
    });
  }

  /**
   * Runs `work` that must happen, such as closing a descriptor: it is never refused or dropped. While an earlier call
   * of the lane is stuck, this resolves at once and `work` runs after that call has returned; before, the number of a
   * descriptor that the call uses could be given to another file. Throws errors of `work`, and StuckError when `work`
   * exceeds its time limit.
   */
  runEventually(
    lane: Lane,
    call: string,
    work: () => Promise<void>,
    options: { readonly timeoutMs?: number } = {},
  ): Promise<void> {
    const queue = this.#queueOf(lane);
    return new Promise<void>((resolve, reject) => {
      const entry: Entry = {
        ...entryOf(call, lane, options),
        mustRun: true,
        giveUp: (error) => {
          if (queue.running?.entry === entry) reject(error);
          else resolve();
        },
        begin: async () => {
          try {
            await work();
            this.#end(queue);
            resolve();
          } catch (error) {
            this.#end(queue);
            reject(error instanceof Error ? error : new Error(String(error)));
          }
        },
      };
      if (isStuck(queue)) {
        queue.waiting.push(entry);
        resolve();
      } else this.#enter(queue, entry);
    });
  }

  /** The calls that exceeded their time limit; normally none. */
  stuckCalls(): readonly StuckCall[] {
    const now = performance.now();
    return [...this.#queues.values()].flatMap(({ lane, running, stuck }) =>
      stuck && running !== undefined
        ? [{ lane, call: running.entry.call, sinceMs: Math.round(now - running.startedAtMs) }]
        : [],
    );
  }

  /** Age in milliseconds of the oldest running call that waits for this disk; 0 if there is none. */
  oldestCallMs(disk: string): number {
    const queues = [...this.#queues.values()].filter(({ running }) => running?.entry.disk === disk);
    return Math.max(0, ...queues.map(runningMs));
  }

  /** Resolves when every stuck call started by the work of this lane has returned; undefined if there is none. */
  whenReturned(lane: string): Promise<void> | undefined {
    const stuck = [...this.#queues.values()].filter(
      (queue) => isStuck(queue) && queue.running?.entry.chain.includes(lane) === true,
    );
    if (stuck.length === 0) return undefined;
    const ends = stuck.map(
      ({ returned }) =>
        new Promise<void>((resolve) => {
          returned.push(resolve);
        }),
    );
    return Promise.all(ends).then(() => undefined);
  }

  #queueOf({ name }: Lane): Queue {
    let queue = this.#queues.get(name);
    if (queue === undefined) {
      queue = { lane: name, waiting: [], running: undefined, stuck: false, returned: [] };
      this.#queues.set(name, queue);
    }
    return queue;
  }

  #enter(queue: Queue, entry: Entry): void {
    queue.waiting.push(entry);
    this.#pump(queue);
    // An entry that started is done already if its work threw at once.
    if (queue.waiting.includes(entry)) {
      entry.timer = setTimeout(() => {
        this.#giveUpWaiting(queue, entry);
      }, entry.timeoutMs);
    }
  }

  #pump(queue: Queue): void {
    if (queue.running !== undefined) return;
    if (queue.waiting.length === 0) {
      this.#ready.delete(queue);
      this.#queues.delete(queue.lane);
      return;
    }
    // Volumes of several pools may query one device: entries whose own disk hangs must not delay the others.
    const at = queue.waiting.findIndex(({ disk }) => this.#availableTo(disk) > 0);
    const [entry] = at < 0 ? [] : queue.waiting.splice(at, 1);
    if (entry === undefined) {
      this.#ready.add(queue);
      return;
    }
    entry.threads = Math.min(entry.wantedThreads, this.#availableTo(entry.disk));
    this.#hold(entry, entry.threads);
    this.#ready.delete(queue);
    queue.running = { entry, startedAtMs: performance.now() };
    clearTimeout(entry.timer);
    entry.timer = setTimeout(() => {
      this.#markStuck(queue, entry);
    }, entry.timeoutMs);
    void entry.begin(entry.threads);
  }

  /** Ends the running call of the queue; returns whether it exceeded its time limit. */
  #end(queue: Queue): boolean {
    const late = queue.stuck;
    const { entry } = queue.running ?? {};
    if (entry !== undefined) {
      clearTimeout(entry.timer);
      this.#hold(entry, -entry.threads);
    }
    queue.running = undefined;
    queue.stuck = false;
    for (const notify of queue.returned.splice(0)) notify();
    this.#pump(queue);
    for (const next of this.#ready) {
      if (this.#free === 0) break;
      this.#pump(next);
    }
    return late;
  }

  /** Slots that a call on this disk may use now. */
  #availableTo(disk: string | undefined): number {
    if (disk === undefined) return this.#free;
    const held = this.#held.get(disk) ?? 0;
    const share = Math.max(1, Math.floor((this.#free + held) * this.#shareOfDisk));
    return Math.min(this.#free, share - held);
  }

  #hold({ disk }: Entry, slots: number): void {
    this.#free -= slots;
    if (disk === undefined) return;
    const held = (this.#held.get(disk) ?? 0) + slots;
    if (held === 0) this.#held.delete(disk);
    else this.#held.set(disk, held);
  }

  #markStuck(queue: Queue, entry: Entry): void {
    queue.stuck = true;
    entry.giveUp(stuckError(queue));
    const waiting = queue.waiting.splice(0);
    queue.waiting.push(...waiting.filter(({ mustRun }) => mustRun));
    for (const next of waiting) {
      clearTimeout(next.timer);
      next.giveUp(stuckError(queue));
    }
  }

  #giveUpWaiting(queue: Queue, entry: Entry): void {
    const index = queue.waiting.indexOf(entry);
    if (index >= 0 && !entry.mustRun) queue.waiting.splice(index, 1);
    entry.giveUp(
      new StuckError(`${entry.call} (waiting for its turn)`, queue.lane, entry.timeoutMs),
    );
    this.#pump(queue);
  }
}

/** One gate for the process, since the thread pool it protects belongs to the process. */
export const gate = new Gate();
