import { join } from 'node:path';
import { messageOf, VolumeError } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import type { Host } from '../../host/host.ts';
import type { EntryId } from '../../ids.ts';
import type { Logger } from '../../observe/log.ts';
import { MiB } from '../../units.ts';
import type { Reached } from '../engine/fault-points.ts';
import { inLane } from '../engine/lanes.ts';
import { entryFiles, imageFile, makeTrashName, type RecordArea } from '../pool/layout.ts';
import type { Pool } from '../pool/pool.ts';
import { requireRemovable } from '../pool/set-aside.ts';

/** Bytes freed by one system call: large enough to be fast, small enough not to delay other I/O. */
const sliceBytes = 256n * MiB;

interface Unsynced {
  readonly pool: Pool;
  readonly area: RecordArea;
  /** Names in `trash/` whose blocks may not be freed yet. */
  readonly names: string[];
}

/** Moves deleted entries to `trash/` at once and frees their blocks later, one entry at a time. Until then they count as trash. */
export class Trash {
  readonly #host: Host;
  readonly #log: Logger;
  readonly #reached: Reached;
  readonly #stop = new AbortController();
  /** The removals of each pool, which run one after the other. */
  readonly #work = new Map<Pool, Promise<void>>();
  /** Areas whose last renames may not be durable. */
  readonly #unsynced = new Map<string, Unsynced>();
  /** Entries that could not be removed, perhaps because of a disk error. */
  readonly #failed = new Map<Pool, Set<string>>();
  /** Entries whose failure was logged. */
  readonly #logged = new Set<string>();

  constructor(deps: { host: Host; log: Logger; reached: Reached }) {
    this.#host = deps.host;
    this.#log = deps.log;
    this.#reached = deps.reached;
  }

  /**
   * Deletes an entry: renames it to `trash/<id>.<uuid>` and syncs both parents. From the rename on it does not exist, in memory and
   * on the disk, even if a later step fails. The blocks are freed later. Throws `wrong-state` for an entry that only an operator may
   * remove, even if the caller has checked that.
   */
  async discard(host: Host, pool: Pool, area: RecordArea, id: EntryId): Promise<void> {
    requireRemovable(pool.indexOf(area).aside.get(id));
    const name = makeTrashName(id);
    const allocatedBytes = await allocatedIn(host, pool.pathOf(area, id), area);
    try {
      await host.files.renameNoReplace(
        pool.pathOf(area, id),
        join(pool.directoryOf('trash'), name),
      );
    } catch (error) {
      // It was removed manually, so only the record in memory is left.
      if (!hasErrno(error, 'ENOENT')) throw error;
      pool.forget(area, id);
      await this.#sync(pool, area);
      return;
    }
    pool.space.addTrash(name, allocatedBytes);
    pool.forget(area, id);
    const { names } = this.#unsyncedOf(pool, area);
    names.push(name);
    await this.#reached('delete:renamed');
    await this.#sync(pool, area);
    await this.#reached('delete:committed');
  }

  /** Called by a delete that finds no entry: an earlier attempt may have failed between its rename and the fsync. */
  async syncDiscarded(): Promise<void> {
    for (const { pool, area } of [...this.#unsynced.values()]) await this.#sync(pool, area);
  }

  #unsyncedOf(pool: Pool, area: RecordArea): Unsynced {
    const key = `${pool.name} ${area}`;
    const unsynced = this.#unsynced.get(key) ?? { pool, area, names: [] };
    this.#unsynced.set(key, unsynced);
    return unsynced;
  }

  /** Blocks are freed only after the sync: without it, a power cut would restore a volume that has lost its blocks. */
  async #sync(pool: Pool, area: RecordArea): Promise<void> {
    const { names } = this.#unsyncedOf(pool, area);
    const renamed = [...names];
    await pool.sync(area, 'trash');
    for (const name of renamed) {
      const index = names.indexOf(name);
      // Another delete in the same area may have synced it already.
      if (index < 0) continue;
      names.splice(index, 1);
      this.#enqueue(pool, name);
    }
    if (names.length === 0) this.#unsynced.delete(`${pool.name} ${area}`);
  }

  /** Queues everything that an earlier run of the driver left in the pool's trash. */
  async sweep(host: Host, pool: Pool): Promise<void> {
    this.#failed.delete(pool);
    for (const name of await host.files.list(pool.directoryOf('trash'))) {
      pool.space.addTrash(name, await allocatedIn(host, join(pool.directoryOf('trash'), name)));
      this.#enqueue(pool, name);
    }
  }

  /** Whether the removal of the entry has failed. It is retried regularly. */
  hasFailed(pool: Pool, name: string): boolean {
    return this.#failed.get(pool)?.has(name) === true;
  }

  /** Removes an entry of the trash now, after the removals that are queued. Throws the error of its removal. */
  async removeNow(pool: Pool, name: string): Promise<void> {
    this.#failed.get(pool)?.delete(name);
    this.#enqueue(pool, name);
    await this.#work.get(pool);
    if (!this.hasFailed(pool, name)) return;
    throw new VolumeError(
      'unavailable',
      `${join(pool.directoryOf('trash'), name)} could not be removed; see the log of the driver`,
    );
  }

  /** Queues the entries again that could not be removed. */
  retryFailed(pool: Pool): void {
    const names = this.#failed.get(pool) ?? [];
    this.#failed.delete(pool);
    for (const name of names) this.#enqueue(pool, name);
  }

  /** Resolves when the removals queued so far have ended. */
  async whenIdle(): Promise<void> {
    await Promise.all(this.#work.values());
  }

  /** Stops after the current slice. The next start continues. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.whenIdle();
  }

  #enqueue(pool: Pool, name: string): void {
    const before = this.#work.get(pool) ?? Promise.resolve();
    const work = before.then(async () => {
      if (this.#stop.signal.aborted) return;
      try {
        const lane = { kind: 'trash', id: pool.name, pool: pool.name } as const;
        await this.#remove(inLane({ host: this.#host }, lane).host, pool, name);
        this.#logged.delete(name);
      } catch (error) {
        if (!this.#stop.signal.aborted) this.#recordFailure(pool, name, error);
      }
    });
    this.#work.set(pool, work);
  }

  #recordFailure(pool: Pool, name: string, error: unknown): void {
    const failed = this.#failed.get(pool) ?? new Set();
    this.#failed.set(pool, failed.add(name));
    if (this.#logged.has(name)) return;
    this.#logged.add(name);
    this.#log.warn(
      { pool: pool.name, entry: name, problem: messageOf(error) },
      'an entry of the trash could not be removed; the removal is retried regularly',
    );
  }

  async #remove(host: Host, pool: Pool, name: string): Promise<void> {
    const directory = join(pool.directoryOf('trash'), name);
    // If the entry is a symbolic link, only the link is removed: its target was never in the pool.
    const { kind, isMountPoint } = await host.files.status(directory);
    if (isMountPoint) {
      throw new VolumeError('wrong-state', `something is mounted at ${directory}; unmount it`);
    }
    if (kind === 'directory') await this.#freeImages(host, directory);
    await host.files.removeTree(directory);
    await this.#reached('trash:removed');
    pool.space.removeTrash(name);
    pool.space.invalidate();
  }

  /** Frees images slice by slice, since a large one takes long. Other files are removed with the directory. */
  async #freeImages({ files }: Host, directory: string): Promise<void> {
    for (const { name, kind } of await files.listWithKinds(directory)) {
      if (kind !== 'file' || !name.startsWith(imageFile)) continue;
      await files.removeInSlices(join(directory, name), { sliceBytes, signal: this.#stop.signal });
    }
  }
}

/** Allocated bytes of the images in an entry: a complete one, or one that was being copied. */
async function allocatedIn(host: Host, directory: string, area?: RecordArea): Promise<bigint> {
  let bytes = 0n;
  const files =
    area === undefined || area === 'snapshots' ? [imageFile, entryFiles.partialImage] : [imageFile];
  for (const file of files) {
    const status = await host.files.imageStatus(join(directory, file)).catch(() => undefined);
    bytes += status?.allocatedBytes ?? 0n;
  }
  return bytes;
}
