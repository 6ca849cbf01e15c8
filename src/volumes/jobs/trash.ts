import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { messageOf, VolumeError } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import type { Host } from '../../host/host.ts';
import type { Logger } from '../../observe/log.ts';
import { MiB } from '../../units.ts';
import type { Reached } from '../engine/fault-points.ts';
import type { InLane } from '../engine/lanes.ts';
import { entryFiles, imageFile, type RecordArea } from '../pool/layout.ts';
import type { Pool } from '../pool/pool.ts';
import { requireRemovable } from '../pool/set-aside.ts';

/** Blocks freed in one go: large enough to be quick, small enough that others get their turn. */
const sliceBytes = 256n * MiB;

interface Unsynced {
  readonly pool: Pool;
  readonly area: RecordArea;
  /** Entries of the trash whose blocks may not be freed yet. */
  readonly names: string[];
}

/** What was deleted leaves its place at once; its blocks are freed here, one entry at a time, and count as trash until then. */
export class Trash {
  readonly #host: Host;
  readonly #log: Logger;
  readonly #reached: Reached;
  readonly #inLane: InLane;
  readonly #stop = new AbortController();
  /** One entry at a time for each pool. */
  readonly #work = new Map<Pool, Promise<void>>();
  /** Places whose last renames are not known to be on the disk. */
  readonly #unsynced = new Map<string, Unsynced>();
  /** Entries that could not be removed, for an error of the disk perhaps. */
  readonly #failed = new Map<Pool, Set<string>>();
  /** Of these, the ones that were logged. */
  readonly #told = new Set<string>();

  constructor(deps: { host: Host; log: Logger; reached: Reached; inLane: InLane }) {
    this.#host = deps.host;
    this.#log = deps.log;
    this.#reached = deps.reached;
    this.#inLane = deps.inLane;
  }

  /**
   * Takes an entry out of its place: rename to `trash/<id>.<random>`, fsync of both parents. From the rename on it does not
   * exist any more, here as on the disk, also when a later step fails. The blocks are freed later. Throws `wrong-state` for
   * what only a person may remove, whatever the caller has looked at.
   */
  async discard(pool: Pool, area: RecordArea, id: string): Promise<void> {
    requireRemovable(pool.indexOf(area).aside.get(id));
    const name = `${id}.${randomUUID()}`;
    const allocatedBytes = await this.#allocatedIn(pool.pathOf(area, id), area);
    try {
      await this.#host.files.renameNoReplace(pool.pathOf(area, id), pool.pathOf('trash', name));
    } catch (error) {
      // Taken away by hand: what is left to remove is that we know of it.
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

  /** What a delete must do that finds nothing: an earlier one may have failed between its rename and the fsync. */
  async syncDiscarded(): Promise<void> {
    for (const { pool, area } of [...this.#unsynced.values()]) await this.#sync(pool, area);
  }

  #unsyncedOf(pool: Pool, area: RecordArea): Unsynced {
    const key = `${pool.name} ${area}`;
    const place = this.#unsynced.get(key) ?? { pool, area, names: [] };
    this.#unsynced.set(key, place);
    return place;
  }

  /** Blocks are freed only now: a power cut before would bring back a volume that has lost them. */
  async #sync(pool: Pool, area: RecordArea): Promise<void> {
    const { names } = this.#unsyncedOf(pool, area);
    const renamed = [...names];
    await pool.sync(area, 'trash');
    for (const name of renamed) {
      const index = names.indexOf(name);
      // Another delete of the same area may have synced it as well.
      if (index < 0) continue;
      names.splice(index, 1);
      this.#enqueue(pool, name);
    }
    if (names.length === 0) this.#unsynced.delete(`${pool.name} ${area}`);
  }

  /** Queues everything an earlier run left in the pool's trash. */
  async sweep(pool: Pool): Promise<void> {
    this.#failed.delete(pool);
    for (const name of await this.#host.files.list(pool.pathOf('trash'))) {
      pool.space.addTrash(name, await this.#allocatedIn(pool.pathOf('trash', name)));
      this.#enqueue(pool, name);
    }
  }

  /** Queues again what could not be removed. */
  retryFailed(pool: Pool): void {
    const names = this.#failed.get(pool) ?? [];
    this.#failed.delete(pool);
    for (const name of names) this.#enqueue(pool, name);
  }

  /** What the images in a directory occupy: a whole one, or the part of one that was being copied. */
  async #allocatedIn(directory: string, area?: RecordArea): Promise<bigint> {
    let bytes = 0n;
    const files =
      area === undefined || area === 'snapshots'
        ? [imageFile, entryFiles.partialImage]
        : [imageFile];
    for (const file of files) {
      const status = await this.#host.files
        .imageStatus(join(directory, file))
        .catch(() => undefined);
      bytes += status?.allocatedBytes ?? 0n;
    }
    return bytes;
  }

  /** Resolves when everything queued so far is gone. */
  async settled(): Promise<void> {
    await Promise.all(this.#work.values());
  }

  /** Ends the work after the slice under way; the rest is swept at the next start. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.settled();
  }

  #enqueue(pool: Pool, name: string): void {
    const before = this.#work.get(pool) ?? Promise.resolve();
    const work = before.then(async () => {
      if (this.#stop.signal.aborted) return;
      try {
        await this.#inLane({ kind: 'trash', id: pool.name, pool: pool.name }, () =>
          this.#remove(pool, name),
        );
        this.#told.delete(name);
      } catch (error) {
        if (!this.#stop.signal.aborted) this.#noteFailure(pool, name, error);
      }
    });
    this.#work.set(pool, work);
  }

  #noteFailure(pool: Pool, name: string, error: unknown): void {
    const failed = this.#failed.get(pool) ?? new Set();
    this.#failed.set(pool, failed.add(name));
    if (this.#told.has(name)) return;
    this.#told.add(name);
    this.#log.warn(
      { pool: pool.name, entry: name, problem: messageOf(error) },
      'trash could not be removed; that is tried again and again',
    );
  }

  async #remove(pool: Pool, name: string): Promise<void> {
    const directory = pool.pathOf('trash', name);
    // A symbolic link goes itself: what it leads to was never in the pool.
    const { kind, isMountPoint } = await this.#host.files.status(directory);
    if (isMountPoint) {
      throw new VolumeError('wrong-state', `something is mounted at ${directory}; unmount it`);
    }
    if (kind === 'directory') await this.#freeImages(directory);
    await this.#host.files.removeTree(directory);
    await this.#reached('trash:removed');
    pool.space.removeTrash(name);
    pool.space.invalidate();
  }

  /** Large ones take long; what else stands there goes with the directory. */
  async #freeImages(directory: string): Promise<void> {
    const { files } = this.#host;
    for (const { name, kind } of await files.listWithKinds(directory)) {
      if (kind !== 'file' || !name.startsWith(imageFile)) continue;
      await files.removeInSlices(join(directory, name), { sliceBytes, signal: this.#stop.signal });
    }
  }
}
