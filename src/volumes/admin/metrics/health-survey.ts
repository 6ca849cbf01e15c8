import { messageOf } from '../../../errors.ts';
import type { Domain } from '../../domain.ts';
import { storageConditions } from '../../volume/health.ts';
import { listKnownVolumeHealth } from '../../volume/list.ts';

/** The conditions of all volumes and pools at one time. */
export interface HealthSurveyResult {
  /** Milliseconds since the epoch. */
  readonly atMs: number;
  /** Reasons by volume id; only unhealthy volumes. */
  readonly ofVolumes: ReadonlyMap<string, readonly string[]>;
  /** Reasons by name of the pool. */
  readonly ofPools: ReadonlyMap<string, readonly string[]>;
}

/** Minimum pause between two surveys: the check of a volume that is not in use reads its disk. */
const minPauseMs = 60_000;
/** The pause is also this many times as long as the survey, so that surveys take a bounded share of the time. */
const pausePerDuration = 20;

/**
 * Surveys the health of all volumes in the background, because that takes longer than a scrape may take. A survey starts only when
 * a scrape requests the result and the last one is old, so a driver that is not scraped makes none.
 */
export class HealthSurvey {
  readonly #domain: Domain;
  readonly #minPauseMs: number;
  #latest: HealthSurveyResult | undefined;
  #isRunning = false;
  /** Milliseconds of performance.now(). */
  #nextAtMs = Number.NEGATIVE_INFINITY;

  constructor(domain: Domain, options: { readonly minPauseMs?: number } = {}) {
    this.#domain = domain;
    this.#minPauseMs = options.minPauseMs ?? minPauseMs;
  }

  /** Returns the result of the last survey, undefined before the end of the first one, and starts another if that is due. */
  latest(): HealthSurveyResult | undefined {
    if (!this.#isRunning && performance.now() >= this.#nextAtMs) void this.#run();
    return this.#latest;
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    const startedAtMs = performance.now();
    try {
      this.#latest = await this.#survey();
    } catch (error) {
      const problem = messageOf(error);
      this.#domain.log.warn({ problem }, 'the health of the volumes could not be determined');
    } finally {
      const durationMs = performance.now() - startedAtMs;
      this.#nextAtMs =
        performance.now() + Math.max(this.#minPauseMs, durationMs * pausePerDuration);
      this.#isRunning = false;
    }
  }

  async #survey(): Promise<HealthSurveyResult> {
    const domain = this.#domain;
    const [volumes, pools] = await Promise.all([
      listKnownVolumeHealth(domain, { maxEntries: 0, startingToken: '' }),
      storageConditions(domain),
    ]);
    const ofPools = new Map<string, string[]>();
    for (const { pool, reason } of pools) {
      ofPools.set(pool, [...(ofPools.get(pool) ?? []), reason]);
    }
    const ofVolumes = volumes.entries.map(
      ({ volumeId, conditions }) => [volumeId, conditions.map(({ reason }) => reason)] as const,
    );
    return { atMs: domain.now(), ofVolumes: new Map(ofVolumes), ofPools };
  }
}
