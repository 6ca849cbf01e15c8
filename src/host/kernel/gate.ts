import { StuckError } from '../errors.ts';
import {
  type Entry,
  entryOf,
  type GateOptions,
  isStuck,
  type Lane,
  runningMs,
  stuckError,
} from './gate-lane.ts';
import { currentOwner, type Owner } from './owner.ts';

export type { GateOptions } from './gate-lane.ts';
export { onDisk, ownedBy } from './owner.ts';

/**
 * Blocking kernel calls occupy threads of the pool of libuv, which node:fs and koffi share. The gate keeps a hung call
 * from blocking everything: it runs fewer calls than the pool has threads, one step at a time for each owner (a volume,
 * a pool), and after a time limit the caller gets a StuckError, while the call keeps its thread and its owner. Steps
 * that must happen, such as closing a descriptor, wait until the stuck call has returned.
 */

/** Threads of libuv that blocking calls may use; the launcher sets UV_THREADPOOL_SIZE=64, so the rest stays free. */
const defaultSlots = 48;

/**
 * The share of one disk in the slots that no other disk uses: a disk that hangs leaves a third to the others, and a
 * second one leaves a third of that.
 */
const defaultSlotsOfDisk = 32;

/** An owner with a call that exceeded its time limit and has not returned. */
export interface StuckOwner {
  readonly owner: string;
  readonly call: string;
  readonly sinceMs: number;
}

export class Gate {
  #free: number;
  readonly #shareOfDisk: number;
  /** Slots in use, by disk. */
  readonly #held = new Map<string, number>();
  readonly #lanes = new Map<string, Lane>();
  /** Lanes whose first call waits for a free slot, in order. */
  readonly #ready = new Set<Lane>();

  constructor(slots: number = defaultSlots, slotsOfDisk: number = defaultSlotsOfDisk) {
    this.#free = slots;
    this.#shareOfDisk = Math.min(1, slotsOfDisk / slots);
  }

  /**
   * Runs `work` once its owner has no other call running and a slot is free. Do not nest: a call inside the `work` of
   * another would wait for itself. Throws StuckError after the time limit, and at once while the owner is stuck.
   */
  run<T>(
    call: string,
    work: (threads: number) => Promise<T>,
    options: GateOptions<T> = {},
  ): Promise<T> {
    const { owner, lane } = this.#current();
    if (isStuck(lane)) return Promise.reject(stuckError(lane));
    return new Promise<T>((resolve, reject) => {
      this.#enter(lane, {
        ...entryOf(call, owner, options),
        mustRun: false,
        giveUp: reject,
        begin: async (threads) => {
          try {
            const value = await work(threads);
            if (this.#end(lane)) options.late?.(value);
            else resolve(value);
          } catch (error) {
            // The promise has already been rejected at the time limit.
            if (!this.#end(lane)) reject(error instanceof Error ? error : new Error(String(error)));
          }
        },
      });
    });
  }

  /**
   * Runs `work` that must happen, such as closing a descriptor: it is never refused or dropped. While an earlier call
   * of the owner is stuck, this resolves at once and `work` runs after that call has returned; before, the number of a
   * descriptor that the call uses could be given to another file. Throws errors of `work`, and StuckError when `work`
   * exceeds its time limit.
   */
  runEventually(
    call: string,
    work: () => Promise<void>,
    options: { readonly timeoutMs?: number } = {},
  ): Promise<void> {
    const { owner, lane } = this.#current();
    return new Promise<void>((resolve, reject) => {
      const entry: Entry = {
        ...entryOf(call, owner, options),
        mustRun: true,
        giveUp: (error) => {
          if (lane.running?.entry === entry) reject(error);
          else resolve();
        },
        begin: async () => {
          try {
            await work();
            this.#end(lane);
            resolve();
          } catch (error) {
            this.#end(lane);
            reject(error instanceof Error ? error : new Error(String(error)));
          }
        },
      };
      if (isStuck(lane)) {
        lane.waiting.push(entry);
        resolve();
      } else this.#enter(lane, entry);
    });
  }

  /** The owners with a call that exceeded its time limit; normally empty. */
  stuckOwners(): readonly StuckOwner[] {
    const now = performance.now();
    return [...this.#lanes.values()].flatMap(({ owner, running, stuck }) =>
      stuck && running !== undefined
        ? [{ owner, call: running.entry.call, sinceMs: Math.round(now - running.startedAtMs) }]
        : [],
    );
  }

  /** Age in milliseconds of the oldest running call that waits for this disk; 0 if there is none. */
  oldestCallMs(disk: string): number {
    const lanes = [...this.#lanes.values()].filter(({ running }) => running?.entry.disk === disk);
    return Math.max(0, ...lanes.map(runningMs));
  }

  /** Resolves when every stuck call started by the work of this owner has returned; undefined if there is none. */
  whenReturned(owner: string): Promise<void> | undefined {
    const stuck = [...this.#lanes.values()].filter(
      (lane) => isStuck(lane) && lane.running?.entry.chain.includes(owner) === true,
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

  #current(): { readonly owner: Owner; readonly lane: Lane } {
    const owner = currentOwner();
    let lane = this.#lanes.get(owner.name);
    if (lane === undefined) {
      lane = { owner: owner.name, waiting: [], running: undefined, stuck: false, returned: [] };
      this.#lanes.set(owner.name, lane);
    }
    return { owner, lane };
  }

  #enter(lane: Lane, entry: Entry): void {
    lane.waiting.push(entry);
    this.#pump(lane);
    // An entry that started is done already if its work threw at once.
    if (lane.waiting.includes(entry)) {
      entry.timer = setTimeout(() => {
        this.#giveUpWaiting(lane, entry);
      }, entry.timeoutMs);
    }
  }

  #pump(lane: Lane): void {
    if (lane.running !== undefined) return;
    if (lane.waiting.length === 0) {
      this.#ready.delete(lane);
      this.#lanes.delete(lane.owner);
      return;
    }
    // Volumes of several pools may query one device: entries whose own disk hangs must not delay the others.
    const at = lane.waiting.findIndex(({ disk }) => this.#availableTo(disk) > 0);
    const [entry] = at < 0 ? [] : lane.waiting.splice(at, 1);
    if (entry === undefined) {
      this.#ready.add(lane);
      return;
    }
    entry.threads = Math.min(entry.wantedThreads, this.#availableTo(entry.disk));
    this.#hold(entry, entry.threads);
    this.#ready.delete(lane);
    lane.running = { entry, startedAtMs: performance.now() };
    clearTimeout(entry.timer);
    entry.timer = setTimeout(() => {
      this.#markStuck(lane, entry);
    }, entry.timeoutMs);
    void entry.begin(entry.threads);
  }

  /** Ends the running call of the lane; returns whether it exceeded its time limit. */
  #end(lane: Lane): boolean {
    const late = lane.stuck;
    const { entry } = lane.running ?? {};
    if (entry !== undefined) {
      clearTimeout(entry.timer);
      this.#hold(entry, -entry.threads);
    }
    lane.running = undefined;
    lane.stuck = false;
    for (const notify of lane.returned.splice(0)) notify();
    this.#pump(lane);
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

  #markStuck(lane: Lane, entry: Entry): void {
    lane.stuck = true;
    entry.giveUp(stuckError(lane));
    const waiting = lane.waiting.splice(0);
    lane.waiting.push(...waiting.filter(({ mustRun }) => mustRun));
    for (const next of waiting) {
      clearTimeout(next.timer);
      next.giveUp(stuckError(lane));
    }
  }

  #giveUpWaiting(lane: Lane, entry: Entry): void {
    const index = lane.waiting.indexOf(entry);
    if (index >= 0 && !entry.mustRun) lane.waiting.splice(index, 1);
    entry.giveUp(
      new StuckError(`${entry.call} (waiting for its turn)`, lane.owner, entry.timeoutMs),
    );
    this.#pump(lane);
  }
}

/** One gate for the process, since the thread pool it protects belongs to the process. */
export const gate = new Gate();
