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
}

/** Number of filesystems that are queried concurrently. */
const maxConcurrentQueries = 16;
/** A filesystem that takes longer is left out of this scrape. */
const queryTimeoutMs = 500;
/** After this number of filesystems that did not answer, a scrape queries no more: their disk probably hangs. */
const maxUnanswered = 4;

/**
 * Queries the mounted filesystems of volumes (statfs). One that hangs is left out, occupies one thread, and is not queried again
 * until it has answered.
 */
export class FilesystemUsage {
  readonly #domain: Domain;
  readonly #running = new Set<string>();

  constructor(domain: Domain) {
    this.#domain = domain;
  }

  /** Returns the usage of each filesystem that answers in time, by volume id. Takes at most about two seconds. */
  async read(mounted: readonly MountedVolume[]): Promise<ReadonlyMap<string, Capacity>> {
    const found = new Map<string, Capacity>();
    let unanswered = 0;
    await mapConcurrently(mounted, maxConcurrentQueries, async (volume) => {
      if (unanswered >= maxUnanswered || !this.#mayQuery(volume.volumeId)) return;
      const answer = await withTimeout(this.#query(volume), queryTimeoutMs);
      if (answer === timedOut) unanswered += 1;
      else if (answer !== undefined) found.set(volume.volumeId, answer);
    });
    return found;
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
