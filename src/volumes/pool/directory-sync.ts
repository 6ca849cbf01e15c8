import { settleAll } from '../../async.ts';
import { messageOf, VolumeError } from '../../errors.ts';
import { isStorageFailure } from '../../host/errors.ts';
import type { Directory, Host } from '../../host/host.ts';
import { inLane } from '../engine/lanes.ts';
import type { PoolArea } from './layout.ts';

interface OpenedArea {
  readonly directory: Directory;
  readonly sync: () => Promise<void>;
}

/**
 * Keeps the directories of a pool open and syncs them. One fsync covers every rename made before it began, so callers that arrive
 * while one runs share the next (ADR 0006). Each directory has its own lane: a disk that hangs blocks one thread per directory.
 */
export class DirectorySync {
  readonly #pool: string;
  readonly #areas = new Map<PoolArea, OpenedArea>();
  /** Areas whose last fsync failed or has not ended. */
  readonly #unsynced = new Set<PoolArea>();

  private constructor(pool: string) {
    this.#pool = pool;
  }

  static async open(
    areas: readonly PoolArea[],
    pool: { readonly name: string; directoryOf(area: PoolArea): string },
    deps: { readonly host: Host },
  ): Promise<DirectorySync> {
    const opened = new DirectorySync(pool.name);
    try {
      for (const area of areas) {
        const id = `${pool.name}/${area}`;
        const { files } = inLane(deps, { kind: 'directory', id, pool: pool.name }).host;
        const directory = await files.openDirectory(pool.directoryOf(area));
        opened.#areas.set(area, {
          directory,
          sync: coalesced(async () => {
            opened.#unsynced.add(area);
            await files.syncOpenDirectory(directory);
            opened.#unsynced.delete(area);
          }),
        });
      }
    } catch (error) {
      await opened.close().catch(() => undefined);
      throw error;
    }
    return opened;
  }

  /**
   * Syncs the directories of these areas: renames into or out of them that were made before this call are then durable. Without
   * arguments, syncs the areas whose last fsync failed, which must happen before a repeated call is answered from memory. Throws
   * `unavailable` if the disk fails: the renames are then visible, but a power cut may undo them.
   */
  async sync(...areas: readonly PoolArea[]): Promise<void> {
    const due = areas.length > 0 ? areas : [...this.#unsynced];
    try {
      await settleAll(due.map((area) => this.#area(area).sync()));
    } catch (error) {
      throw this.#uncertainError(error);
    }
  }

  /**
   * Converts the error of a failed disk to `unavailable`, so that the caller retries. After a final error it would give up,
   * although the renamed entry exists.
   */
  #uncertainError(error: unknown): unknown {
    if (!isStorageFailure(error)) return error;
    return new VolumeError(
      'unavailable',
      `pool '${this.#pool}': the change was made, but may not be on the disk (${messageOf(error)}); check the disk and the kernel's log, then repeat the call`,
      { cause: error },
    );
  }

  #area(area: PoolArea): OpenedArea {
    const opened = this.#areas.get(area);
    if (opened !== undefined) return opened;
    throw new VolumeError('internal', `pool '${this.#pool}' has no open directory '${area}'`);
  }

  /** Closes all directories, even if one of them fails to close. */
  async close(): Promise<void> {
    await settleAll([...this.#areas.values()].map(({ directory }) => directory.close()));
  }
}

/** Returns a function that runs `work` without overlap. Calls made during a run share the next run, which starts after them. */
function coalesced(work: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> | undefined;
  let next: Promise<void> | undefined;
  const start = (): Promise<void> => {
    next = undefined;
    const run = work().finally(() => {
      if (running === run) running = undefined;
    });
    running = run;
    return run;
  };
  return () => {
    if (running === undefined) return next ?? start();
    // A failure of the running fsync says nothing about later renames, so the next one runs even then.
    next ??= running.then(start, start);
    return next;
  };
}
