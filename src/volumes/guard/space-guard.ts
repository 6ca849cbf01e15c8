import { messageOf } from '../../errors.ts';
import { hasErrno, KernelError } from '../../host/errors.ts';
import type { Freeze, Host } from '../../host/host.ts';
import type { Logger } from '../../observe/log.ts';
import type { Locks } from '../locks.ts';
import type { Pool } from '../pools/pool.ts';
import { findGuarded, type Guarded } from './space-guarded.ts';
import { isGuarded, nextLookMs, type Watermarks, watermarksOf } from './watermarks.ts';

export interface SpaceGuardDeps {
  readonly host: Host;
  readonly log: Logger;
  readonly locks: Locks;
  readonly ownedBy: <T>(owner: string, work: () => Promise<T>) => Promise<T>;
  /** The longest a filesystem stands still, in milliseconds; afterwards writers may meet ENOSPC. */
  readonly freezeLimitMs: number;
}

interface Frozen {
  readonly pool: Pool;
  readonly freeze: Freeze;
  readonly timer: NodeJS.Timeout;
  readonly sinceMs: number;
}

/** FITRIM of everything at most this often. */
const trimEveryMs = 30_000;
/** Mounts are looked up at most this often while the pool is near its watermark. */
const lookUpEveryMs = 1_000;

/**
 * Keeps an overcommitted pool from breaking its volumes (docs/operations.md, "A pool runs full"): below the second watermark
 * it trims, below the first it freezes the filesystems of thin volumes, so that their writers wait instead of losing data,
 * and thaws them when room has returned. A freeze ends at unpublish, unstage, SIGTERM and after a bound; it is held by the
 * freezer's child, so a killed driver thaws too. Raw block volumes cannot be frozen.
 */
export class SpaceGuard {
  readonly #deps: SpaceGuardDeps;
  readonly #frozen = new Map<string, Frozen>();
  /** Volumes that were thawed at the bound or for a call: they are left alone until room has returned. */
  readonly #exempt = new Map<string, Pool>();
  readonly #timers = new Map<Pool, NodeJS.Timeout>();
  readonly #guarded = new Map<Pool, { readonly atMs: number; readonly all: readonly Guarded[] }>();
  readonly #trimmedAtMs = new Map<Pool, number>();
  #isStopped = false;

  constructor(deps: SpaceGuardDeps) {
    this.#deps = deps;
  }

  /** Watches the pool from now on, if it is one that promises more than it has. Idempotent. */
  watch(pool: Pool): void {
    if (!isGuarded(pool) || this.#timers.has(pool)) return;
    this.#schedule(pool, 0);
  }

  /** Whether the volume's writers wait for room now, and since when (milliseconds of performance.now()). */
  frozenSince(volumeId: string): number | undefined {
    return this.#frozen.get(volumeId)?.sinceMs;
  }

  get frozenCount(): number {
    return this.#frozen.size;
  }

  /** How many volumes of that pool stand still. */
  frozenIn(pool: Pool): number {
    return [...this.#frozen.values()].filter((one) => one.pool === pool).length;
  }

  /** Whether a freeze reached its bound and the writers may meet ENOSPC now. */
  isExempt(volumeId: string): boolean {
    return this.#exempt.has(volumeId);
  }

  /** Thaws a volume for a call that changes its mounts, and leaves it thawed until room has returned. */
  async release(volumeId: string): Promise<void> {
    const frozen = this.#frozen.get(volumeId);
    if (frozen === undefined) return;
    this.#exempt.set(volumeId, frozen.pool);
    await this.#thaw(volumeId, 'a call changes its mounts');
  }

  /** Ends the watch and thaws everything. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    for (const timer of this.#timers.values()) clearTimeout(timer);
    await this.#thawAll('the driver stops');
  }

  #schedule(pool: Pool, afterMs: number): void {
    if (this.#isStopped) return;
    const timer = setTimeout(() => {
      this.#look(pool).then(
        (next) => {
          this.#schedule(pool, next);
        },
        (error: unknown) => {
          const { log } = this.#deps;
          log.warn({ pool: pool.name, problem: messageOf(error) }, 'the space guard cannot look');
          this.#schedule(pool, lookUpEveryMs);
        },
      );
    }, afterMs);
    timer.unref();
    this.#timers.set(pool, timer);
  }

  /** One look at the pool's free space, and what follows from it. Answers when to look again. */
  async #look(pool: Pool): Promise<number> {
    if (!pool.isServed) return lookUpEveryMs;
    const { host, ownedBy } = this.#deps;
    const { freeBytes, totalBytes } = await ownedBy(`guard ${pool.name}`, () =>
      host.files.capacity(pool.root),
    );
    const marks = watermarksOf(totalBytes, pool.volumes.size + pool.ephemerals.size);
    if (freeBytes > marks.thawBytes) {
      for (const [id, of] of this.#exempt) if (of === pool) this.#exempt.delete(id);
      await this.#thawAll('room has returned', pool);
    }
    if (freeBytes < marks.alertBytes) await this.#act(pool, freeBytes, marks);
    return nextLookMs(freeBytes, marks);
  }

  async #act(pool: Pool, freeBytes: bigint, marks: Watermarks): Promise<void> {
    const guarded = await this.#lookUp(pool);
    if (freeBytes < marks.freezeBytes) await this.#freezeAll(pool, guarded, freeBytes);
    else if (freeBytes < marks.trimBytes) this.#trimSoon(pool, guarded);
  }

  async #lookUp(pool: Pool): Promise<readonly Guarded[]> {
    const known = this.#guarded.get(pool);
    if (known !== undefined && performance.now() - known.atMs < lookUpEveryMs) return known.all;
    const { host, ownedBy } = this.#deps;
    const all = await ownedBy(`guard ${pool.name}`, () => findGuarded(host, pool));
    this.#guarded.set(pool, { atMs: performance.now(), all });
    return all;
  }

  /** All at once, each on its own: one that somebody else holds frozen must not keep the others running. */
  async #freezeAll(pool: Pool, guarded: readonly Guarded[], freeBytes: bigint): Promise<void> {
    const wanted = guarded.filter(({ record }) => {
      return !this.#frozen.has(record.id) && !this.#exempt.has(record.id);
    });
    if (wanted.length === 0) return;
    const { log } = this.#deps;
    log.error(
      { pool: pool.name, freeBytes: freeBytes.toString(), volumes: wanted.length },
      'the pool is nearly full: its thin volumes stand still until there is room',
    );
    await Promise.all(wanted.map((one) => this.#freeze(pool, one)));
  }

  async #freeze(pool: Pool, { record, target, device }: Guarded): Promise<void> {
    const { host, locks, log, freezeLimitMs } = this.#deps;
    const { id } = record;
    let unlock: () => void;
    try {
      // A call that mounts or unmounts it now must not meet a freeze half-way; the next look tries again.
      unlock = locks.take({ exclusive: [`volume:${id}`] }, 'SpaceGuard');
    } catch {
      return;
    }
    try {
      const freeze = await host.freezer.freeze([{ target, device }], {
        boundMs: freezeLimitMs + 5_000,
      });
      const timer = setTimeout(() => {
        this.#exempt.set(id, pool);
        log.error({ volumeId: id }, 'the pool is still full: writers go on and may meet ENOSPC');
        void this.#thaw(id, 'the bound of a freeze has passed');
      }, freezeLimitMs);
      timer.unref();
      this.#frozen.set(id, { pool, freeze, timer, sinceMs: performance.now() });
      log.warn({ volumeId: id }, 'frozen for lack of room');
    } catch (error) {
      // EBUSY: a snapshot holds it frozen for the moment.
      if (error instanceof KernelError && hasErrno(error, 'EBUSY')) return;
      log.warn({ volumeId: id, problem: messageOf(error) }, 'could not be frozen');
    } finally {
      unlock();
    }
  }

  /** All of one pool, or of every pool. */
  async #thawAll(why: string, of?: Pool): Promise<void> {
    const wanted = [...this.#frozen].filter(([, { pool }]) => of === undefined || pool === of);
    await Promise.all(wanted.map(([id]) => this.#thaw(id, why)));
  }

  async #thaw(volumeId: string, why: string): Promise<void> {
    const frozen = this.#frozen.get(volumeId);
    if (frozen === undefined) return;
    this.#frozen.delete(volumeId);
    clearTimeout(frozen.timer);
    const { log } = this.#deps;
    try {
      const frozenMs = await frozen.freeze.thaw();
      log.warn({ volumeId, frozenMs, why }, 'thawed');
    } catch (error) {
      log.error({ volumeId, why, problem: messageOf(error) }, 'a thaw was not confirmed');
    }
  }

  #trimSoon(pool: Pool, guarded: readonly Guarded[]): void {
    const last = this.#trimmedAtMs.get(pool) ?? Number.NEGATIVE_INFINITY;
    if (performance.now() - last < trimEveryMs) return;
    this.#trimmedAtMs.set(pool, performance.now());
    const { log } = this.#deps;
    log.warn({ pool: pool.name }, 'the pool is getting full: trimming its volumes');
    void this.#trim(guarded);
  }

  async #trim(guarded: readonly Guarded[]): Promise<void> {
    const { host, log, ownedBy } = this.#deps;
    for (const { record, target, device } of guarded) {
      if (record.trim === 'off' || this.#frozen.has(record.id)) continue;
      try {
        await ownedBy(`trim ${record.id}`, () => host.mounts.trim(target, device));
      } catch (error) {
        log.warn({ volumeId: record.id, problem: messageOf(error) }, 'could not be trimmed');
      }
    }
  }
}
