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
/** A filesystem that takes longer is left out of this scrape. */
const queryTimeoutMs = 500;
/** Without writes, the usage cannot change, except by writes that the kernel delays for up to half a minute. */
const maxAgeMs = 60_000;
/** After this number of filesystems that did not answer, a scrape queries no more: their disk probably hangs. */
const maxUnanswered = 4;

interface Answer {
  readonly atMs: number;
  readonly target: string;
  readonly writes: number;
  readonly capacity: Capacity;
}

/**
 * Queries the mounted filesystems of volumes (statfs). One that nothing has written to since the last query is not queried again.
 * One that hangs is left out, occupies one thread, and is not queried again until it has answered.
 */
export class FilesystemUsage {
  readonly #domain: Domain;
  readonly #running = new Set<string>();
  #answers: ReadonlyMap<string, Answer> = new Map();

  constructor(domain: Domain) {
    this.#domain = domain;
  }

  /** Returns the usage of each filesystem that answers in time, by volume id. Takes at most about two seconds. */
  async read(mounted: readonly MountedVolume[]): Promise<ReadonlyMap<string, Capacity>> {
    const answers = new Map<string, Answer>();
    let unanswered = 0;
    const queried = mounted.filter((volume) => {
      const known = this.#answers.get(volume.volumeId);
      if (known === undefined || !isCurrent(known, volume)) return true;
      answers.set(volume.volumeId, known);
      return false;
    });
    await mapConcurrently(queried, maxConcurrentQueries, async (volume) => {
      const { volumeId, target, writes } = volume;
      if (unanswered >= maxUnanswered || !this.#mayQuery(volumeId)) return;
      const atMs = performance.now();
      const capacity = await withTimeout(this.#query(volume), queryTimeoutMs);
      if (capacity === timedOut) unanswered += 1;
      else if (capacity !== undefined) answers.set(volumeId, { atMs, target, writes, capacity });
    });
    this.#answers = answers;
    return new Map([...answers].map(([id, { capacity }]) => [id, capacity]));
  }

  /** A query keeps the mount busy for a moment, so a volume that a call has locked, perhaps to unmount it, is left out. */
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

function isCurrent(answer: Answer, { target, writes }: MountedVolume): boolean {
  const isRecent = performance.now() - answer.atMs < maxAgeMs;
  return isRecent && answer.target === target && answer.writes === writes;
}
