import { AsyncLocalStorage } from 'node:async_hooks';
import { StuckError } from './errors.ts';

/**
 * Calls that may block in the kernel occupy threads of libuv's pool, which node:fs and koffi share. The gate keeps a hung
 * one from stopping the rest: fewer calls at once than the pool has threads, one step at a time for each owner (a volume, a
 * pool), and a bound after which the caller gets a StuckError while the call keeps its thread and its owner.
 */

/** Threads of libuv's pool that blocking calls may hold; the launcher sets UV_THREADPOOL_SIZE=64, the rest stays free. */
const defaultSlots = 48;
const defaultBoundMs = 60_000;

/** Of these slots, what the owners on one ground may hold together: a disk that hangs leaves the rest to the others. */
const defaultSlotsOfGround = 32;

interface Owner {
  readonly name: string;
  /** What its calls wait for, the disk of a pool for example; undefined where that is not known. */
  readonly ground: string | undefined;
}

/** The owner of calls made outside `ownedBy`. */
const nobody: Owner = { name: 'driver', ground: undefined };

const owners = new AsyncLocalStorage<Owner>();

/**
 * Runs `work`, whose blocking calls, also the later asynchronous ones, count as the owner's: `volume:ID`, `pool:NAME`. Without
 * a ground of its own it stands on that of whoever called.
 */
export function ownedBy<T>(name: string, work: () => T, ground?: string): T {
  return owners.run({ name, ground: ground ?? owners.getStore()?.ground }, work);
}

export interface GateOptions<T> {
  /** After so many milliseconds of waiting or running the caller gets a StuckError; 60 s if not given. */
  readonly boundMs?: number | undefined;
  /** How many threads `work` holds at a time, one if not given: it may make as many calls side by side. */
  readonly threads?: number | undefined;
  /** What to do with a result that arrives after the bound, for example to close a descriptor. */
  readonly late?: ((value: T) => void) | undefined;
}

/** An owner whose call has passed its bound and has not returned. */
export interface StuckOwner {
  readonly owner: string;
  readonly call: string;
  readonly sinceMs: number;
}

interface Entry {
  readonly call: string;
  readonly boundMs: number;
  readonly threads: number;
  readonly begin: () => Promise<void>;
  readonly reject: (error: Error) => void;
  timer: NodeJS.Timeout | undefined;
}

/** One owner's calls, first come, first served. */
interface Lane {
  readonly owner: string;
  readonly ground: string | undefined;
  readonly waiting: Entry[];
  running: { readonly entry: Entry; readonly startedAtMs: number } | undefined;
  stuck: boolean;
}

export class Gate {
  /** The most that one step may hold. */
  readonly #slots: number;
  #free: number;
  readonly #slotsOfGround: number;
  /** Slots held, by ground. */
  readonly #held = new Map<string, number>();
  readonly #lanes = new Map<string, Lane>();
  /** Lanes whose first call waits for a free slot, in order. */
  readonly #ready = new Set<Lane>();

  constructor(slots: number = defaultSlots, slotsOfGround: number = defaultSlotsOfGround) {
    this.#slots = Math.min(slots, slotsOfGround);
    this.#free = slots;
    this.#slotsOfGround = slotsOfGround;
  }

  /**
   * Runs `work` when its owner has no other call running and a slot is free. Do not nest: a call inside another's `work`
   * would wait for itself. Throws StuckError when the bound passes, and at once while the owner is stuck.
   */
  run<T>(call: string, work: () => Promise<T>, options: GateOptions<T> = {}): Promise<T> {
    const lane = this.#laneOf(owners.getStore() ?? nobody);
    if (lane.stuck && lane.running !== undefined) return Promise.reject(stuckError(lane));
    return new Promise<T>((resolve, reject) => {
      const entry: Entry = {
        call,
        boundMs: options.boundMs ?? defaultBoundMs,
        threads: Math.min(options.threads ?? 1, this.#slots),
        reject,
        timer: undefined,
        begin: async () => {
          try {
            const value = await work();
            if (this.#end(lane)) options.late?.(value);
            else resolve(value);
          } catch (error) {
            // After the bound nobody listens any more: the promise has been rejected already.
            if (!this.#end(lane)) reject(error instanceof Error ? error : new Error(String(error)));
          }
        },
      };
      lane.waiting.push(entry);
      this.#pump(lane);
      // One that ran may be over already, when its work threw at once.
      if (lane.waiting.includes(entry)) {
        entry.timer = this.#startTimer(entry, () => this.#giveUpWaiting(lane, entry));
      }
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

  #laneOf({ name: owner, ground }: Owner): Lane {
    let lane = this.#lanes.get(owner);
    if (lane === undefined) {
      lane = { owner, ground, waiting: [], running: undefined, stuck: false };
      this.#lanes.set(owner, lane);
    }
    return lane;
  }

  #pump(lane: Lane): void {
    if (lane.running !== undefined) return;
    const entry = lane.waiting[0];
    if (entry === undefined) {
      this.#ready.delete(lane);
      this.#lanes.delete(lane.owner);
      return;
    }
    const isFull = this.#heldBy(lane) + entry.threads > this.#slotsOfGround;
    if (this.#free < entry.threads || isFull) {
      this.#ready.add(lane);
      return;
    }
    this.#hold(lane, entry.threads);
    this.#ready.delete(lane);
    lane.waiting.shift();
    lane.running = { entry, startedAtMs: performance.now() };
    clearTimeout(entry.timer);
    entry.timer = this.#startTimer(entry, () => this.#markStuck(lane, entry));
    void entry.begin();
  }

  /** The running call of the lane returned; whether that came too late. */
  #end(lane: Lane): boolean {
    const late = lane.stuck;
    clearTimeout(lane.running?.entry.timer);
    this.#hold(lane, -(lane.running?.entry.threads ?? 0));
    lane.running = undefined;
    lane.stuck = false;
    this.#pump(lane);
    for (const next of this.#ready) {
      // Those that need more threads are not passed by those that came later.
      if (this.#free < (next.waiting[0]?.threads ?? 0)) break;
      this.#pump(next);
    }
    return late;
  }

  #heldBy({ ground }: Lane): number {
    return ground === undefined ? 0 : (this.#held.get(ground) ?? 0);
  }

  #hold(lane: Lane, slots: number): void {
    this.#free -= slots;
    if (lane.ground === undefined) return;
    const held = this.#heldBy(lane) + slots;
    if (held === 0) this.#held.delete(lane.ground);
    else this.#held.set(lane.ground, held);
  }

  #markStuck(lane: Lane, entry: Entry): void {
    lane.stuck = true;
    entry.reject(stuckError(lane));
    for (const waiting of lane.waiting.splice(0)) {
      clearTimeout(waiting.timer);
      waiting.reject(stuckError(lane));
    }
  }

  #giveUpWaiting(lane: Lane, entry: Entry): void {
    const index = lane.waiting.indexOf(entry);
    if (index >= 0) lane.waiting.splice(index, 1);
    entry.reject(new StuckError(`${entry.call} (waiting for its turn)`, lane.owner, entry.boundMs));
    this.#pump(lane);
  }

  #startTimer(entry: Entry, onBound: () => void): NodeJS.Timeout {
    return setTimeout(onBound, entry.boundMs);
  }
}

function stuckError(lane: Lane): StuckError {
  const { entry, startedAtMs } = lane.running ?? {
    entry: { call: 'a call' },
    startedAtMs: performance.now(),
  };
  return new StuckError(entry.call, lane.owner, performance.now() - startedAtMs);
}

/** The one gate of the process: the pool of threads that it guards is the process's too. */
export const gate = new Gate();
