import { messageOf } from '../../errors.ts';
import type { InLane } from '../engine/lanes.ts';
import type { Pool } from '../pool/pool.ts';
import {
  guardTrimIntervalMs,
  isGuarded,
  nextCheckMs,
  type Watermarks,
  watermarksOf,
} from '../pool/thresholds.ts';
import { FrozenVolumes, type FrozenVolumesDeps } from './frozen-volumes.ts';
import { findMountedThin, type MountedThin } from './mounted-thin.ts';
import type { Trims } from './trims.ts';

export interface SpaceGuardDeps extends FrozenVolumesDeps {
  readonly trims: Trims;
  readonly inLane: InLane;
}

/** Mounts are looked up at most this often while the mount table stays the same. */
const lookUpEveryMs = 1_000;
/**
 * Keeps an overcommitted pool from breaking its volumes (docs/operations.md, "A pool runs full"): below the second watermark
 * it trims, below the first it freezes the filesystems of thin volumes, so that their writers wait instead of losing data,
 * and thaws them when there is free space again. Each look freezes every thin volume that is mounted then, so a thaw for a call lasts only as
 * long as the call, and an unmount needs none. A freeze ends at its limit, and at SIGTERM; it is held by the freezer's child, so a killed driver thaws
 * too. Raw block volumes cannot be frozen.
 */
export class SpaceGuard {
  readonly #deps: SpaceGuardDeps;
  readonly #frozen: FrozenVolumes;
  readonly #timers = new Map<Pool, NodeJS.Timeout>();
  readonly #mounted = new Map<
    Pool,
    { readonly atMs: number; readonly table: string; readonly all: readonly MountedThin[] }
  >();
  readonly #trimmedAtMs = new Map<Pool, number>();
  #isStopped = false;

  constructor(deps: SpaceGuardDeps) {
    this.#deps = deps;
    this.#frozen = new FrozenVolumes(deps);
  }

  /** Watches the pool from now on, if it is one that promises more than it has. Idempotent. */
  watch(pool: Pool): void {
    if (!isGuarded(pool) || this.#timers.has(pool)) return;
    this.#schedule(pool, 0);
  }

  /** Whether the volume's writers wait for free space now, and since when (milliseconds of performance.now()). */
  frozenSince(volumeId: string): number | undefined {
    return this.#frozen.since(volumeId);
  }

  get frozenCount(): number {
    return this.#frozen.count;
  }

  /** How many volumes of that pool are frozen. */
  frozenIn(pool: Pool): number {
    return this.#frozen.countIn(pool);
  }

  /** Whether a freeze reached its limit and the writers may meet ENOSPC now. */
  isExpired(volumeId: string): boolean {
    return this.#frozen.isExpired(volumeId);
  }

  /**
   * Gives the volume's mounts to a call that holds its lock and unmounts: no trim, freeze or thaw that is under way has them open.
   * Answers whether it is frozen, and so stays: the unmount is to keep that, and `release` follows when nothing is mounted any more.
   */
  async giveWay(volumeId: string): Promise<boolean> {
    await this.#deps.trims.giveWay(volumeId);
    await this.#frozen.settled(volumeId);
    return this.#frozen.since(volumeId) !== undefined;
  }

  /** The same, and thaws. What is mounted when the call has ended is frozen again by the next look. */
  async release(volumeId: string): Promise<void> {
    if (await this.giveWay(volumeId)) await this.#frozen.thaw(volumeId, 'a call needs it');
  }

  /** The volume is mounted nowhere any more: its next mount is guarded like any other. */
  forget(volumeId: string): void {
    this.#frozen.forgetExpired(volumeId);
  }

  /** Ends the watch and thaws everything. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    for (const timer of this.#timers.values()) clearTimeout(timer);
    await this.#frozen.stop();
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
    const { host, inLane } = this.#deps;
    const { freeBytes, totalBytes } = await inLane(
      { kind: 'guard', id: pool.name, pool: pool.name },
      () => host.files.capacity(pool.root),
    );
    const watermarks = watermarksOf(totalBytes, pool.volumes.size + pool.ephemerals.size);
    if (freeBytes > watermarks.thawBytes) {
      this.#frozen.forgetExpiredIn(pool);
      await this.#frozen.thawAll('room has returned', pool);
    }
    if (freeBytes < watermarks.alertBytes) await this.#act(pool, freeBytes, watermarks);
    return nextCheckMs(freeBytes, watermarks);
  }

  async #act(pool: Pool, freeBytes: bigint, watermarks: Watermarks): Promise<void> {
    const volumes = await this.#lookUp(pool);
    const mounted = new Set(volumes.map(({ record }) => record.id));
    this.#frozen.forgetExpiredIn(pool, mounted);
    // Unmounted by somebody else: its filesystem lives on as long as the freeze.
    await this.#frozen.thawAll('it is mounted no more', pool, mounted);
    if (freeBytes < watermarks.freezeBytes) this.#freezeAll(pool, volumes, freeBytes);
    else if (freeBytes < watermarks.trimBytes) this.#trimSoon(pool, volumes);
    for (const one of volumes) this.#frozen.check(one);
  }

  /** Looked up anew whenever the mount table has changed: what has just been mounted may fill the pool within a second. */
  async #lookUp(pool: Pool): Promise<readonly MountedThin[]> {
    const { host, inLane } = this.#deps;
    return inLane({ kind: 'guard', id: pool.name, pool: pool.name }, async () => {
      const mounts = await host.mounts.list();
      const table = mounts
        .map(({ id, majorMinor, target }) => `${id} ${majorMinor} ${target}`)
        .join('\n');
      const known = this.#mounted.get(pool);
      const isRecent = known !== undefined && performance.now() - known.atMs < lookUpEveryMs;
      if (isRecent && known.table === table) return known.all;
      const all = await findMountedThin(host, pool, mounts);
      this.#mounted.set(pool, { atMs: performance.now(), table, all });
      return all;
    });
  }

  /** All at once, each on its own: one that somebody else holds frozen must not keep the others running. */
  #freezeAll(pool: Pool, volumes: readonly MountedThin[], freeBytes: bigint): void {
    const started = volumes.filter((one) => this.#frozen.begin(pool, one));
    if (started.length === 0) return;
    const { log } = this.#deps;
    log.error(
      { pool: pool.name, freeBytes: freeBytes.toString(), volumes: started.length },
      'the pool is nearly full: its thin volumes are frozen until there is free space',
    );
  }

  #trimSoon(pool: Pool, volumes: readonly MountedThin[]): void {
    const last = this.#trimmedAtMs.get(pool) ?? Number.NEGATIVE_INFINITY;
    if (performance.now() - last < guardTrimIntervalMs) return;
    this.#trimmedAtMs.set(pool, performance.now());
    const { log } = this.#deps;
    log.warn({ pool: pool.name }, 'the pool is getting full: trimming its volumes');
    void this.#trim(pool, volumes);
  }

  async #trim(pool: Pool, volumes: readonly MountedThin[]): Promise<void> {
    for (const one of volumes) {
      if (one.record.trim === 'off' || this.#frozen.since(one.record.id) !== undefined) continue;
      await this.#deps.trims.trim(pool, one);
    }
  }
}
