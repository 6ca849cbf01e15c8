import { timedOut, withTimeout } from '../../async.ts';
import { messageOf, VolumeError } from '../../errors.ts';
import { hasErrno, KernelError } from '../../host/errors.ts';
import type { Freeze, Host } from '../../host/host.ts';
import type { Logger } from '../../observe/log.ts';
import type { DomainObserver } from '../../observe/metrics/events.ts';
import { inLane, type LaneSpec } from '../engine/lanes.ts';
import { type Locks, volumeLock } from '../engine/locks.ts';
import { callIdOf } from '../pool/contents.ts';
import type { Pool } from '../pool/pool.ts';
import type { MountedThinVolume } from './mounted-thin-volumes.ts';

export interface FrozenVolumesDeps {
  readonly host: Host;
  readonly log: Logger;
  readonly locks: Locks;
  /** Time limit of one freeze, in milliseconds. Afterwards writers may get ENOSPC. */
  readonly freezeLimitMs: number;
  readonly observer: DomainObserver;
}

interface Frozen {
  readonly pool: Pool;
  readonly volume: MountedThinVolume;
  /** More than one if other software thawed the filesystem and it was frozen again. */
  readonly freezes: Freeze[];
  readonly timer: NodeJS.Timeout;
  readonly sinceMs: number;
  checkedAtMs: number;
}

/** Maximum time for which a call waits for a freeze or thaw of its volume. If it takes longer, the disk hangs. */
const changeTimeoutMs = 10_000;
/** The time by which the freezer's own time limit is longer, so that the guard's timer expires first. */
const freezerGraceMs = 5_000;
/** Interval at which frozen filesystems are frozen again, in case other software has thawed them. */
const checkIntervalMs = 500;

/**
 * The volumes that the space guard has frozen. They stay frozen until a time limit, even if other software thaws them in the
 * meantime.
 */
export class FrozenVolumes {
  readonly #deps: FrozenVolumesDeps;
  readonly #frozen = new Map<string, Frozen>();
  /** Freezes that have not taken effect yet. */
  readonly #freezing = new Map<string, Promise<void>>();
  /** Thaws that have not ended. Until then the freezer has the filesystem open, which keeps its mount busy. */
  readonly #thawing = new Map<string, Promise<void>>();
  /** Volumes whose freeze has reached its time limit. */
  readonly #expired = new Map<string, Pool>();
  #isStopped = false;

  constructor(deps: FrozenVolumesDeps) {
    this.#deps = deps;
  }

  /** The time at which the volume was frozen, in milliseconds of performance.now(). */
  since(volumeId: string): number | undefined {
    return this.#frozen.get(volumeId)?.sinceMs;
  }

  get count(): number {
    return this.#frozen.size;
  }

  countIn(pool: Pool): number {
    return [...this.#frozen.values()].filter((one) => one.pool === pool).length;
  }

  /** Whether the freeze of the volume has reached its time limit. Stays true until `forgetExpired`. */
  isExpired(volumeId: string): boolean {
    return this.#expired.has(volumeId);
  }

  forgetExpired(volumeId: string): void {
    this.#expired.delete(volumeId);
  }

  /** Forgets the expired freezes of a pool, except those of the given volumes. */
  forgetExpiredIn(pool: Pool, except: ReadonlySet<string> = new Set()): void {
    for (const [id, expiredPool] of this.#expired) {
      if (expiredPool === pool && !except.has(id)) this.#expired.delete(id);
    }
  }

  /** Starts to freeze a volume that is neither frozen nor expired. Returns whether it did. */
  startFreeze(pool: Pool, volume: MountedThinVolume): boolean {
    const { id } = volume.record;
    if (this.#frozen.has(id) || this.#expired.has(id)) return false;
    return this.#startUnlessLocked(volume, () => this.#freeze(pool, volume));
  }

  /**
   * Starts a freeze, unless a call works on the volume; the next check of the guard then tries again. Returns whether it was
   * started. The freeze locks nothing: a call that starts in the meantime is not refused, but waits for the freeze
   * (`waitForChange`).
   */
  #startUnlessLocked(volume: MountedThinVolume, freeze: () => Promise<void>): boolean {
    const { locks } = this.#deps;
    const { id } = volume.record;
    if (this.#isStopped || this.#freezing.has(id)) return false;
    if (locks.lockedBy(volumeLock(callIdOf(volume))) !== undefined) return false;
    const work = freeze().finally(() => {
      this.#freezing.delete(id);
    });
    this.#freezing.set(id, work);
    return true;
  }

  /** Waits for a running freeze or thaw of the volume. Throws `busy` if it does not end in time. */
  async waitForChange(volumeId: string): Promise<void> {
    const running = [this.#freezing, this.#thawing].flatMap((one) => one.get(volumeId) ?? []);
    if (running.length === 0) return;
    if ((await withTimeout(Promise.all(running), changeTimeoutMs)) !== timedOut) return;
    throw new VolumeError(
      'busy',
      `volume '${volumeId}' is being frozen or thawed because its pool is nearly full; try again later`,
    );
  }

  async #freeze(pool: Pool, volume: MountedThinVolume): Promise<void> {
    const { log, freezeLimitMs } = this.#deps;
    const { id } = volume.record;
    const freeze = await this.#tryFreeze(pool, volume, freezeLimitMs);
    if (freeze === undefined) return;
    if (this.#isStopped) {
      await freeze.thaw();
      return;
    }
    const timer = setTimeout(() => {
      this.#expired.set(id, pool);
      this.#deps.observer.guardActed(pool.name, 'expire');
      log.error(
        { volumeId: id },
        'a freeze reached its time limit with the pool still full; writers may get ENOSPC',
      );
      void this.thaw(id, 'the freeze reached its time limit');
    }, freezeLimitMs);
    timer.unref();
    const nowMs = performance.now();
    this.#frozen.set(id, {
      pool,
      volume,
      freezes: [freeze],
      timer,
      sinceMs: nowMs,
      checkedAtMs: nowMs,
    });
    this.#deps.observer.guardActed(pool.name, 'freeze');
    log.warn({ volumeId: id }, 'a volume was frozen because its pool was nearly full');
  }

  /** Returns undefined if the volume cannot be frozen, or is frozen already, for example by a snapshot. */
  async #tryFreeze(
    pool: Pool,
    { record, target, device }: MountedThinVolume,
    limitMs: number,
  ): Promise<Freeze | undefined> {
    const { host, log } = inLane(this.#deps, laneOf(record.id, pool));
    try {
      return await host.freezer.freeze([{ target, device }], {
        timeoutMs: limitMs + freezerGraceMs,
      });
    } catch (error) {
      if (error instanceof KernelError && hasErrno(error, 'EBUSY')) return undefined;
      log.warn({ volumeId: record.id, problem: messageOf(error) }, 'a volume could not be frozen');
      return undefined;
    }
  }

  /**
   * Freezes a volume again if other software has thawed it, for example `fsfreeze -u`, the start of another driver, or the end of
   * the process that holds the freeze.
   */
  check(volume: MountedThinVolume): void {
    const { id } = volume.record;
    const frozen = this.#frozen.get(id);
    if (frozen === undefined) return;
    if (performance.now() - frozen.checkedAtMs < checkIntervalMs) return;
    frozen.checkedAtMs = performance.now();
    this.#startUnlessLocked(volume, async () => {
      const { log, freezeLimitMs } = this.#deps;
      const leftMs = Math.max(0, frozen.sinceMs + freezeLimitMs - performance.now());
      const freeze = await this.#tryFreeze(frozen.pool, volume, leftMs);
      if (freeze === undefined) return;
      if (this.#frozen.get(id) !== frozen) {
        await freeze.thaw();
        return;
      }
      frozen.freezes.push(freeze);
      log.warn({ volumeId: id }, 'a volume was frozen again after other software had thawed it');
    });
  }

  /** Thaws the volumes of `pool`, or of all pools, except the given ones. */
  async thawAll(why: string, pool?: Pool, except: ReadonlySet<string> = new Set()): Promise<void> {
    const wanted = [...this.#frozen].filter(
      ([id, frozen]) => (pool === undefined || frozen.pool === pool) && !except.has(id),
    );
    await Promise.all(wanted.map(([id]) => this.thaw(id, why)));
  }

  /** Does nothing if the volume is not frozen. */
  async thaw(volumeId: string, why: string): Promise<void> {
    const frozen = this.#frozen.get(volumeId);
    if (frozen === undefined) return;
    this.#frozen.delete(volumeId);
    clearTimeout(frozen.timer);
    const work = this.#thaw(volumeId, frozen, why).finally(() => {
      if (this.#thawing.get(volumeId) === work) this.#thawing.delete(volumeId);
    });
    this.#thawing.set(volumeId, work);
    await work;
  }

  async #thaw(volumeId: string, frozen: Frozen, why: string): Promise<void> {
    const { host, log, observer } = inLane(this.#deps, laneOf(volumeId, frozen.pool));
    // Only the last freeze counts: other software has ended the earlier ones.
    const ends = await Promise.allSettled(frozen.freezes.map((freeze) => freeze.thaw()));
    const durationMs = performance.now() - frozen.sinceMs;
    observer.guardActed(frozen.pool.name, 'thaw');
    observer.freezeEnded({ cause: 'guard', durationMs });
    const last = ends.at(-1);
    if (last?.status === 'rejected') {
      const { record, device } = frozen.volume;
      // The filesystem is no longer mounted, and the child process that could thaw it has died.
      if (record.fsType !== null) {
        await host.mounts.thawWithoutMount(device, record.fsType).catch(() => undefined);
      }
      log.error({ volumeId, why, problem: messageOf(last.reason) }, 'a thaw was not confirmed');
      return;
    }
    log.warn({ volumeId, frozenMs: Math.round(durationMs), why }, 'a volume was thawed');
  }

  /** Thaws all volumes. No volume is frozen afterwards. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    const running = [...this.#freezing.keys(), ...this.#thawing.keys()];
    await Promise.allSettled(running.map((id) => this.waitForChange(id)));
    await this.thawAll('the driver stops');
  }
}

/** The guard's calls for one volume have their own lane. */
function laneOf(volumeId: string, { name }: Pool): LaneSpec {
  return { kind: 'guard', id: volumeId, pool: name };
}
