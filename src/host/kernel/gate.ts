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
import { type Owner, presentOwner } from './owner.ts';

export type { GateOptions } from './gate-lane.ts';
export { onDisk, ownedBy } from './owner.ts';

/**
 * Calls that may block in the kernel occupy threads of libuv's pool, which node:fs and koffi share. The gate keeps a hung
 * one from stopping the rest: fewer calls at once than the pool has threads, one step at a time for each owner (a volume, a
 * pool), and a bound after which the caller gets a StuckError while the call keeps its thread and its owner. What must be done
 * whatever happens, such as closing, waits until the call that is stuck has returned.
 */

/** Threads of libuv's pool that blocking calls may hold; the launcher sets UV_THREADPOOL_SIZE=64, the rest stays free. */
const defaultSlots = 48;

/**
 * Of the slots that no other disk holds, what the owners on one disk may hold together: a disk that hangs leaves the rest
 * to the others, and a second one leaves a third of that again.
 */
const defaultSlotsOfDisk = 32;

/** An owner whose call has passed its bound and has not returned. */
export interface StuckOwner {
  readonly owner: string;
  readonly call: string;
  readonly sinceMs: number;
}

export class Gate {
  #free: number;
  readonly #shareOfDisk: number;
  /** Slots held, by disk. */
  readonly #held = new Map<string, number>();
  readonly #lanes = new Map<string, Lane>();
  /** Lanes whose first call waits for a free slot, in order. */
  readonly #ready = new Set<Lane>();

  constructor(slots: number = defaultSlots, slotsOfDisk: number = defaultSlotsOfDisk) {
    this.#free = slots;
    this.#shareOfDisk = Math.min(1, slotsOfDisk / slots);
  }

  /**
   * Runs `work` when its owner has no other call running and a slot is free. Do not nest: a call inside another's `work`
   * would wait for itself. Throws StuckError when the bound passes, and at once while the owner is stuck.
   */
  run<T>(
    call: string,
    work: (threads: number) => Promise<T>,
    options: GateOptions<T> = {},
  ): Promise<T> {
    const { owner, lane } = this.#present();
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
            // After the bound nobody listens any more: the promise has been rejected already.
            if (!this.#end(lane)) reject(error instanceof Error ? error : new Error(String(error)));
          }
        },
      });
    });
  }

  /**
   * Runs what must be done, such as closing a descriptor: never refused and never dropped. While an earlier call of the owner
   * is stuck the caller goes on at once, and `work` is done when that call has returned: before, a descriptor that it uses
   * could come to stand for another file. Throws what `work` throws, and StuckError when that itself passes the bound.
   */
  finish(
    call: string,
    work: () => Promise<void>,
    options: { readonly boundMs?: number } = {},
  ): Promise<void> {
    const { owner, lane } = this.#present();
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

  /** The owners with a call past its bound; empty when all is well. */
  stuckOwners(): readonly StuckOwner[] {
    const now = performance.now();
    return [...this.#lanes.values()].flatMap(({ owner, running, stuck }) =>
      stuck && running !== undefined
        ? [{ owner, call: running.entry.call, sinceMs: Math.round(now - running.startedAtMs) }]
        : [],
    );
  }

  /** For how many milliseconds the oldest of the calls that wait for that disk has been running; 0 when there is none. */
  oldestCallMs(disk: string): number {
    const lanes = [...this.#lanes.values()].filter(({ running }) => running?.entry.disk === disk);
    return Math.max(0, ...lanes.map(runningMs));
  }

  /** Resolves when every stuck call that was begun in the owner's work has returned; undefined when there is none. */
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

  #present(): { readonly owner: Owner; readonly lane: Lane } {
    const owner = presentOwner();
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
    // One that ran may be over already, when its work threw at once.
    if (lane.waiting.includes(entry)) {
      entry.timer = setTimeout(() => {
        this.#giveUpWaiting(lane, entry);
      }, entry.boundMs);
    }
  }

  #pump(lane: Lane): void {
    if (lane.running !== undefined) return;
    if (lane.waiting.length === 0) {
      this.#ready.delete(lane);
      this.#lanes.delete(lane.owner);
      return;
    }
    // A device may be asked by volumes of several pools: those whose own disk hangs do not keep the others from it.
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
    }, entry.boundMs);
    void entry.begin(entry.threads);
  }

  /** The running call of the lane returned; whether that came too late. */
  #end(lane: Lane): boolean {
    const late = lane.stuck;
    const { entry } = lane.running ?? {};
    if (entry !== undefined) {
      clearTimeout(entry.timer);
      this.#hold(entry, -entry.threads);
    }
    lane.running = undefined;
    lane.stuck = false;
    for (const tell of lane.returned.splice(0)) tell();
    this.#pump(lane);
    for (const next of this.#ready) {
      if (this.#free === 0) break;
      this.#pump(next);
    }
    return late;
  }

  /** Slots that a call on that disk may take now. */
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
    entry.giveUp(new StuckError(`${entry.call} (waiting for its turn)`, lane.owner, entry.boundMs));
    this.#pump(lane);
  }
}

/** The one gate of the process: the pool of threads that it guards is the process's too. */
export const gate = new Gate();
