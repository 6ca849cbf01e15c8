import { timedOut, withTimeout } from '../../async.ts';
import { messageOf, VolumeError } from '../../errors.ts';
import { hasErrno, KernelError } from '../../host/errors.ts';
import type { Freeze, Host } from '../../host/host.ts';
import type { Logger } from '../../observe/log.ts';
import type { Locks } from '../engine/locks.ts';
import type { Pool } from '../pool/pool.ts';
import type { MountedThin } from './mounted-thin.ts';

export interface FrozenVolumesDeps {
  readonly host: Host;
  readonly log: Logger;
  readonly locks: Locks;
  /** The longest that one freeze of a filesystem lasts, in milliseconds; afterwards writers may meet ENOSPC. */
  readonly freezeLimitMs: number;
}

interface Frozen {
  readonly pool: Pool;
  readonly volume: MountedThin;
  /** More than one when somebody else had thawed it and it was frozen again. */
  readonly freezes: Freeze[];
  readonly timer: NodeJS.Timeout;
  readonly sinceMs: number;
  checkedAtMs: number;
}

/** A freeze that takes longer waits for a disk that hangs. */
const freezeWaitMs = 10_000;
/** A frozen filesystem is looked at again this often: its freeze may have been ended by somebody else. */
const checkEveryMs = 500;

/** The volumes that the space guard has frozen: each for its limit at most, whoever else thaws it meanwhile. */
export class FrozenVolumes {
  readonly #deps: FrozenVolumesDeps;
  readonly #frozen = new Map<string, Frozen>();
  /** Freezes that are being made. */
  readonly #freezing = new Map<string, Promise<void>>();
  /** Thaws that have not ended: until then the freezer has the filesystem open, which keeps its mount busy. */
  readonly #thawing = new Map<string, Promise<void>>();
  /** Volumes whose freeze has reached its limit. */
  readonly #expired = new Map<string, Pool>();
  #isStopped = false;

  constructor(deps: FrozenVolumesDeps) {
    this.#deps = deps;
  }

  /** Since when it is frozen, in milliseconds of performance.now(). */
  since(volumeId: string): number | undefined {
    return this.#frozen.get(volumeId)?.sinceMs;
  }

  get count(): number {
    return this.#frozen.size;
  }

  countIn(pool: Pool): number {
    return [...this.#frozen.values()].filter((one) => one.pool === pool).length;
  }

  /** Whether its freeze reached the limit; so it stays until it is forgotten. */
  isExpired(volumeId: string): boolean {
    return this.#expired.has(volumeId);
  }

  forgetExpired(volumeId: string): void {
    this.#expired.delete(volumeId);
  }

  /** Those of a pool but these. */
  forgetExpiredIn(pool: Pool, except: ReadonlySet<string> = new Set()): void {
    for (const [id, of] of this.#expired) {
      if (of === pool && !except.has(id)) this.#expired.delete(id);
    }
  }

  /** Begins to freeze what neither is frozen nor has reached its limit; whether it did. */
  begin(pool: Pool, volume: MountedThin): boolean {
    const { id } = volume.record;
    if (this.#frozen.has(id) || this.#expired.has(id)) return false;
    return this.#startFreeze(id, () => this.#freeze(pool, volume));
  }

  /**
   * Whether the freeze was begun. Not while a call works on the volume, which must not meet one half-way; the next look tries
   * again. A call that begins meanwhile is not refused: it waits for the freeze (`settled`).
   */
  #startFreeze(id: string, freeze: () => Promise<void>): boolean {
    const { locks } = this.#deps;
    if (this.#isStopped || this.#freezing.has(id)) return false;
    if (locks.holderOf(`volume:${id}`) !== undefined) return false;
    const work = freeze().finally(() => {
      this.#freezing.delete(id);
    });
    this.#freezing.set(id, work);
    return true;
  }

  /** Waits for a freeze or thaw of the volume that is under way. Throws `busy` when that does not end soon. */
  async settled(volumeId: string): Promise<void> {
    const underWay = [this.#freezing, this.#thawing].flatMap((one) => one.get(volumeId) ?? []);
    if (underWay.length === 0) return;
    if ((await withTimeout(Promise.all(underWay), freezeWaitMs)) !== timedOut) return;
    throw new VolumeError(
      'busy',
      `volume '${volumeId}' is being frozen or thawed, since its pool is nearly full; try again when it is`,
    );
  }

  async #freeze(pool: Pool, volume: MountedThin): Promise<void> {
    const { log, freezeLimitMs } = this.#deps;
    const { id } = volume.record;
    const freeze = await this.#tryFreeze(volume, freezeLimitMs);
    if (freeze === undefined) return;
    if (this.#isStopped) {
      await freeze.thaw();
      return;
    }
    const timer = setTimeout(() => {
      this.#expired.set(id, pool);
      log.error({ volumeId: id }, 'the pool is still full: writers go on and may meet ENOSPC');
      void this.thaw(id, 'the bound of a freeze has passed');
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
    log.warn({ volumeId: id }, 'frozen for lack of room');
  }

  /** undefined when it is frozen already, for example by a snapshot for a moment, or cannot be. */
  async #tryFreeze(
    { record, target, device }: MountedThin,
    limitMs: number,
  ): Promise<Freeze | undefined> {
    const { host, log } = this.#deps;
    try {
      return await host.freezer.freeze([{ target, device }], { timeoutMs: limitMs + 5_000 });
    } catch (error) {
      if (error instanceof KernelError && hasErrno(error, 'EBUSY')) return undefined;
      log.warn({ volumeId: record.id, problem: messageOf(error) }, 'could not be frozen');
      return undefined;
    }
  }

  /** Freezes a frozen one again that somebody else has thawed (fsfreeze -u, another driver's start, the death of the process that holds it). */
  check(volume: MountedThin): void {
    const { id } = volume.record;
    const frozen = this.#frozen.get(id);
    if (frozen === undefined) return;
    if (performance.now() - frozen.checkedAtMs < checkEveryMs) return;
    frozen.checkedAtMs = performance.now();
    this.#startFreeze(id, async () => {
      const { log, freezeLimitMs } = this.#deps;
      const leftMs = Math.max(0, frozen.sinceMs + freezeLimitMs - performance.now());
      const freeze = await this.#tryFreeze(volume, leftMs);
      if (freeze === undefined) return;
      if (this.#frozen.get(id) !== frozen) {
        await freeze.thaw();
        return;
      }
      frozen.freezes.push(freeze);
      log.warn({ volumeId: id }, 'somebody else had thawed it; frozen again');
    });
  }

  /** All of one pool but these, or of every pool. */
  async thawAll(why: string, of?: Pool, except: ReadonlySet<string> = new Set()): Promise<void> {
    const wanted = [...this.#frozen].filter(
      ([id, { pool }]) => (of === undefined || pool === of) && !except.has(id),
    );
    await Promise.all(wanted.map(([id]) => this.thaw(id, why)));
  }

  /** Nothing to do when it is not frozen. */
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
    const { host, log } = this.#deps;
    // An earlier one of several was ended by somebody else, which is known.
    const ends = await Promise.allSettled(frozen.freezes.map((freeze) => freeze.thaw()));
    const last = ends.at(-1);
    if (last?.status === 'rejected') {
      const { record, device } = frozen.volume;
      // The child died, and what it had frozen is mounted no more.
      if (record.fsType !== null) {
        await host.mounts.thawWithoutMount(device, record.fsType).catch(() => undefined);
      }
      log.error({ volumeId, why, problem: messageOf(last.reason) }, 'a thaw was not confirmed');
      return;
    }
    const frozenMs = Math.round(performance.now() - frozen.sinceMs);
    log.warn({ volumeId, frozenMs, why }, 'thawed');
  }

  /** Freezes nothing any more, and thaws all. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    const underWay = [...this.#freezing.keys(), ...this.#thawing.keys()];
    await Promise.allSettled(underWay.map((id) => this.settled(id)));
    await this.thawAll('the driver stops');
  }
}
