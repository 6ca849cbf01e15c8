import { mapConcurrently, timedOut, withTimeout } from '../../../async.ts';
import type { Capacity } from '../../../host/host.ts';
import type { Domain } from '../../domain.ts';
import { inLane } from '../../engine/lanes.ts';
import { volumeLock } from '../../engine/locks.ts';

/** A volume whose filesystem is mounted. */
export interface MountedVolume {
  readonly volumeId: string;
  /** The pool's name. */
  readonly pool: string;
  readonly target: string;
  /** Writes to its device since it was attached. */
  readonly writes: number;
}

/** Number of filesystems that are queried concurrently. */
const maxConcurrentQueries = 16;
/** Without writes, the usage cannot change, except by writes that the kernel delays for up to half a minute. */
const maxAgeMs = 60_000;
/** For this time, the last answer of a filesystem that cannot be queried is returned again. */
const maxKeptMs = 300_000;
/** After this number of filesystems of a pool that did not answer, the others of the pool are not queried: its disk probably hangs. */
const maxUnanswered = 4;

interface TimeLimits {
  /** A filesystem that takes longer is left out of this scrape. */
  readonly queryTimeoutMs: number;
  /** After this time, a scrape starts no more queries. */
  readonly queryingMs: number;
}

interface Answer {
  readonly atMs: number;
  readonly target: string;
  readonly writes: number;
  readonly capacity: Capacity;
}

/**
 * Queries the mounted filesystems of volumes (statfs). One that nothing has written to since the last query is not queried again.
 * One that hangs is left out, occupies one thread, and is not queried again until it has answered. One that is not queried, for
 * example because a call has locked its volume, keeps its last answer for five minutes.
 */
export class FilesystemUsage {
  readonly #domain: Domain;
  readonly #limits: TimeLimits;
  readonly #running = new Set<string>();
  readonly #answers = new Map<string, Answer>();

  constructor(domain: Domain, limits: Partial<TimeLimits> = {}) {
    this.#domain = domain;
    this.#limits = { queryTimeoutMs: 500, queryingMs: 1_500, ...limits };
  }

  /** Returns the usage of each filesystem that answers in time, by volume id. Takes at most about two seconds. */
  async read(mounted: readonly MountedVolume[]): Promise<ReadonlyMap<string, Capacity>> {
    const answers = this.#answers;
    const endMs = performance.now() + this.#limits.queryingMs;
    for (const [id, answer] of answers) if (!isRecent(answer, maxKeptMs)) answers.delete(id);
    const outdated = mounted.filter((volume) => {
      const answer = answers.get(volume.volumeId);
      return answer === undefined || !isCurrent(answer, volume);
    });
    // The oldest answer first: otherwise the end of the time would always leave out the same filesystems.
    const atMsOf = ({ volumeId }: MountedVolume): number => answers.get(volumeId)?.atMs ?? 0;
    outdated.sort((a, b) => atMsOf(a) - atMsOf(b));
    const unanswered = new Map<string, number>();
    await mapConcurrently(outdated, maxConcurrentQueries, async (volume) => {
      const { volumeId, pool, target, writes } = volume;
      const doesPoolAnswer = (unanswered.get(pool) ?? 0) < maxUnanswered;
      if (!doesPoolAnswer || performance.now() >= endMs || !this.#mayQuery(volumeId)) return;
      const atMs = performance.now();
      const capacity = await withTimeout(this.#query(volume), this.#limits.queryTimeoutMs);
      if (capacity === timedOut) unanswered.set(pool, (unanswered.get(pool) ?? 0) + 1);
      if (capacity === timedOut || capacity === undefined) answers.delete(volumeId);
      else answers.set(volumeId, { atMs, target, writes, capacity });
    });
    return new Map(
      mounted.flatMap(({ volumeId }) => {
        const answer = answers.get(volumeId);
        return answer === undefined ? [] : [[volumeId, answer.capacity]];
      }),
    );
  }

  /** A query keeps the mount busy for a moment, so a volume that a call has locked, perhaps to unmount it, is not queried. */
  #mayQuery(volumeId: string): boolean {
    const { locks } = this.#domain.operations;
    return !this.#running.has(volumeId) && locks.lockedBy(volumeLock(volumeId)) === undefined;
  }

  /** Returns undefined if the filesystem fails, which health reports. */
  async #query({ volumeId, pool, target }: MountedVolume): Promise<Capacity | undefined> {
    this.#running.add(volumeId);
    const { host } = inLane(this.#domain, { kind: 'usage', id: volumeId, pool });
    try {
      return await host.files.capacity(target);
    } catch {
      return undefined;
    } finally {
      this.#running.delete(volumeId);
    }
  }
}

function isRecent({ atMs }: Answer, maxMs: number): boolean {
  return performance.now() - atMs < maxMs;
}

function isCurrent(answer: Answer, { target, writes }: MountedVolume): boolean {
  return isRecent(answer, maxAgeMs) && answer.target === target && answer.writes === writes;
}
