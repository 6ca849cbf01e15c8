import { messageOf, VolumeError } from '../../errors.ts';
import { isStorageFailure } from '../../host/errors.ts';
import type { Directory, Files } from '../../host/host.ts';
import type { OwnedBy } from '../engine/lanes.ts';
import type { PoolArea } from './layout.ts';

/**
 * The places of an open pool, for their fsyncs. One fsync serves every rename that was made before it began, so callers that
 * come while one runs share the next (ADR 0006). Each place is an owner of its own: a hung disk holds one thread for it.
 */
export class Places {
  readonly #places: ReadonlyMap<PoolArea, Place>;
  readonly #pool: string;

  private constructor(pool: string, places: ReadonlyMap<PoolArea, Place>) {
    this.#pool = pool;
    this.#places = places;
  }

  static async open(
    areas: readonly PoolArea[],
    pool: { readonly name: string; pathOf(area: PoolArea): string },
    { host: { files }, ownedBy }: { host: { files: Files }; ownedBy: OwnedBy },
  ): Promise<Places> {
    const places = new Map<PoolArea, Place>();
    const opened = new Places(pool.name, places);
    try {
      for (const area of areas) {
        const directory = await files.openDirectory(pool.pathOf(area));
        const owner = `${area} of pool ${pool.name}`;
        const fsync = () => ownedBy(owner, () => files.syncOpened(directory));
        places.set(area, new Place(fsync, directory));
      }
    } catch (error) {
      await opened.close().catch(() => undefined);
      throw error;
    }
    return opened;
  }

  /**
   * fsync of these places: what was renamed into or out of them before this call is on the disk afterwards. Without any, of those
   * whose last fsync failed, which is due before a repeated call is answered from what is in memory. Throws `unavailable` where
   * the disk fails: what was renamed is there then, and may be gone after a power cut.
   */
  async sync(...areas: readonly PoolArea[]): Promise<void> {
    const due = areas.length > 0 ? areas : this.#unsynced();
    const ends = await Promise.allSettled(due.map((area) => this.#placeOf(area).sync()));
    for (const end of ends) if (end.status === 'rejected') throw this.#uncertain(end.reason);
  }

  /** What was renamed stands: a caller told that the call failed for good would leave it to nobody. */
  #uncertain(error: unknown): unknown {
    if (!isStorageFailure(error)) return error;
    return new VolumeError(
      'unavailable',
      `what the call changed stands in pool '${this.#pool}', and may not be on its disk (${messageOf(error)}): look at the disk and at the kernel's log, then repeat the call`,
      { cause: error },
    );
  }

  #unsynced(): readonly PoolArea[] {
    return [...this.#places].filter(([, place]) => place.hasFailed).map(([area]) => area);
  }

  #placeOf(area: PoolArea): Place {
    const place = this.#places.get(area);
    if (place !== undefined) return place;
    throw new VolumeError('internal', `pool '${this.#pool}' has no place '${area}'`);
  }

  /** Closes all, also when one fails. */
  async close(): Promise<void> {
    const ends = await Promise.allSettled([...this.#places.values()].map((place) => place.close()));
    for (const end of ends) if (end.status === 'rejected') throw end.reason;
  }
}

class Place {
  readonly #fsync: () => Promise<void>;
  readonly #directory: Directory;
  #running: Promise<void> | undefined;
  #next: Promise<void> | undefined;
  #hasFailed = false;

  constructor(fsync: () => Promise<void>, directory: Directory) {
    this.#fsync = fsync;
    this.#directory = directory;
  }

  get hasFailed(): boolean {
    return this.#hasFailed;
  }

  sync(): Promise<void> {
    if (this.#running === undefined) return this.#begin();
    const begin = (): Promise<void> => {
      this.#next = undefined;
      return this.#begin();
    };
    // One that failed says nothing of what was renamed since.
    this.#next ??= this.#running.then(begin, begin);
    return this.#next;
  }

  #begin(): Promise<void> {
    const running = this.#run().finally(() => {
      if (this.#running === running) this.#running = undefined;
    });
    this.#running = running;
    return running;
  }

  async #run(): Promise<void> {
    this.#hasFailed = true;
    await this.#fsync();
    this.#hasFailed = false;
  }

  close(): Promise<void> {
    return this.#directory.close();
  }
}
