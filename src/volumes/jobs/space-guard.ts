import { callPeriodically } from '../../async.ts';
import { messageOf } from '../../errors.ts';
import type { Host } from '../../host/host.ts';
import { inLane } from '../engine/lanes.ts';
import type { Pool } from '../pool/pool.ts';
import {
  guardTrimIntervalMs,
  isGuarded,
  nextCheckMs,
  type Watermarks,
  watermarksOf,
} from '../pool/thresholds.ts';
import { FrozenVolumes, type FrozenVolumesDeps } from './frozen-volumes.ts';
import { findMountedThinVolumes, type MountedThinVolume } from './mounted-thin-volumes.ts';
import type { Trims } from './trims.ts';

interface SpaceGuardDeps extends FrozenVolumesDeps {
  readonly trims: Trims;
}

/** Interval at which mounts are looked up while the mount table does not change. */
const lookUpIntervalMs = 1_000;

/**
 * Protects the volumes of an overcommitted pool when it runs full (docs/operations.md, "A pool runs full"). Below the trim
 * watermark it trims. Below the freeze watermark it freezes the filesystems of thin volumes, so that their writers wait instead of
 * losing data, and thaws them when there is free space again. Each check freezes all thin volumes mounted at that time, so a thaw
 * for a call lasts only as long as the call, and an unmount needs none. A freeze ends at its time limit and at SIGTERM. The
 * freezer's child process holds the freezes, so they also end if the driver is killed. Raw block volumes cannot be frozen.
 */
export class SpaceGuard {
  readonly #deps: SpaceGuardDeps;
  readonly #frozen: FrozenVolumes;
  /** Ends the checks of a pool. */
  readonly #ends = new Map<Pool, () => void>();
  readonly #mounted = new Map<
    Pool,
    { readonly atMs: number; readonly table: string; readonly all: readonly MountedThinVolume[] }
  >();
  readonly #trimmedAtMs = new Map<Pool, number>();
  #isStopped = false;

  constructor(deps: SpaceGuardDeps) {
    this.#deps = deps;
    this.#frozen = new FrozenVolumes(deps);
  }

  /** Watches the pool from now on, if it is guarded. Idempotent. */
  watch(pool: Pool): void {
    if (this.#isStopped || !isGuarded(pool) || this.#ends.has(pool)) return;
    this.#ends.set(
      pool,
      callPeriodically(() => this.#checkOrLog(pool), 0),
    );
  }

  /**
   * The time at which the volume was frozen, in milliseconds of performance.now(); undefined if it is not frozen. Since then its
   * writers have been waiting for free space.
   */
  frozenSince(volumeId: string): number | undefined {
    return this.#frozen.since(volumeId);
  }

  get frozenCount(): number {
    return this.#frozen.count;
  }

  /** Number of frozen volumes of that pool. */
  frozenIn(pool: Pool): number {
    return this.#frozen.countIn(pool);
  }

  /** Whether a freeze reached its time limit, so that writers may get ENOSPC now. */
  isExpired(volumeId: string): boolean {
    return this.#frozen.isExpired(volumeId);
  }

  /**
   * Called before an unmount, with the volume's lock: afterwards no running trim, freeze or thaw has the mounts open. Returns whether
   * the volume is frozen. It stays frozen during the unmount; call `thaw` when nothing is mounted any more.
   */
  async prepareUnmount(volumeId: string): Promise<boolean> {
    await this.#deps.trims.interrupt(volumeId);
    await this.#frozen.waitForChange(volumeId);
    return this.#frozen.since(volumeId) !== undefined;
  }

  /**
   * Ends a running trim or freeze of the volume and thaws it, for a call that needs it. If the volume is mounted after the call,
   * the next check freezes it again.
   */
  async thaw(volumeId: string): Promise<void> {
    if (await this.prepareUnmount(volumeId)) await this.#frozen.thaw(volumeId, 'a call needs it');
  }

  /**
   * Forgets that a freeze reached its time limit, because the volume is no longer mounted. The guard protects its next mount again.
   */
  forgetExpired(volumeId: string): void {
    this.#frozen.forgetExpired(volumeId);
  }

  /** Stops watching and thaws everything. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    for (const end of this.#ends.values()) end();
    await this.#frozen.stop();
  }

  async #checkOrLog(pool: Pool): Promise<number> {
    try {
      return await this.#check(pool);
    } catch (error) {
      this.#deps.log.warn(
        { pool: pool.name, problem: messageOf(error) },
        'the space guard could not check the pool',
      );
      return lookUpIntervalMs;
    }
  }

  /** Checks the free space of a pool and acts on it. Returns the milliseconds until the next check. */
  async #check(pool: Pool): Promise<number> {
    if (!pool.isServed) return lookUpIntervalMs;
    const { freeBytes, totalBytes } = await this.#hostFor(pool).files.capacity(pool.root);
    const watermarks = watermarksOf(totalBytes, pool.volumes.size + pool.ephemerals.size);
    if (freeBytes > watermarks.thawBytes) {
      this.#frozen.forgetExpiredIn(pool);
      await this.#frozen.thawAll('there is free space again', pool);
    }
    if (freeBytes < watermarks.alertBytes) await this.#act(pool, freeBytes, watermarks);
    return nextCheckMs(freeBytes, watermarks);
  }

  async #act(pool: Pool, freeBytes: bigint, watermarks: Watermarks): Promise<void> {
    const volumes = await this.#lookUp(pool);
    const mounted = new Set(volumes.map(({ record }) => record.id));
    this.#frozen.forgetExpiredIn(pool, mounted);
    // Other software has unmounted them, but their filesystems stay active as long as they are frozen.
    await this.#frozen.thawAll('it is no longer mounted', pool, mounted);
    if (freeBytes < watermarks.freezeBytes) this.#freezeAll(pool, volumes, freeBytes);
    else if (freeBytes < watermarks.trimBytes) this.#startTrim(pool, volumes);
    for (const one of volumes) this.#frozen.check(one);
  }

  /** Looks up the mounted thin volumes again when the mount table has changed: a new mount may fill the pool within a second. */
  async #lookUp(pool: Pool): Promise<readonly MountedThinVolume[]> {
    const host = this.#hostFor(pool);
    const mounts = await host.mounts.list();
    const table = mounts
      .map(({ id, majorMinor, target }) => `${id} ${majorMinor} ${target}`)
      .join('\n');
    const known = this.#mounted.get(pool);
    const isRecent = known !== undefined && performance.now() - known.atMs < lookUpIntervalMs;
    if (isRecent && known.table === table) return known.all;
    const all = await findMountedThinVolumes(host, pool, mounts);
    this.#mounted.set(pool, { atMs: performance.now(), table, all });
    return all;
  }

  /** The guard has its own lane in each pool. */
  #hostFor({ name }: Pool): Host {
    return inLane(this.#deps, { kind: 'guard', id: name, pool: name }).host;
  }

  /** Starts all freezes at once and independently, so that a volume frozen by other software does not prevent the others. */
  #freezeAll(pool: Pool, volumes: readonly MountedThinVolume[], freeBytes: bigint): void {
    const started = volumes.filter((one) => this.#frozen.startFreeze(pool, one));
    if (started.length === 0) return;
    const { log } = this.#deps;
    log.error(
      { pool: pool.name, freeBytes, volumes: started.length },
      'the freeze of thin volumes was started because their pool was nearly full',
    );
  }

  #startTrim(pool: Pool, volumes: readonly MountedThinVolume[]): void {
    const last = this.#trimmedAtMs.get(pool) ?? Number.NEGATIVE_INFINITY;
    if (performance.now() - last < guardTrimIntervalMs) return;
    this.#trimmedAtMs.set(pool, performance.now());
    const { log, observer } = this.#deps;
    observer.guardActed(pool.name, 'trim');
    log.warn(
      { pool: pool.name },
      'a trim of volumes was started because their pool fell below the trim watermark',
    );
    void this.#trim(pool, volumes);
  }

  async #trim(pool: Pool, volumes: readonly MountedThinVolume[]): Promise<void> {
    for (const one of volumes) {
      if (one.record.trim === 'off' || this.#frozen.since(one.record.id) !== undefined) continue;
      await this.#deps.trims.trim(pool, one, 'guard');
    }
  }
}
