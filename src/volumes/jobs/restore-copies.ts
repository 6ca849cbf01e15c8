import { dirname, join } from 'node:path';
import { messageOf } from '../../errors.ts';
import type { Files, Host, ImageStatus } from '../../host/host.ts';
import type { Logger } from '../../observe/log.ts';
import {
  type RestoreProgress,
  readRecord,
  restoreProgress,
  writeRecord,
} from '../../state/records.ts';
import type { Reached } from '../engine/fault-points.ts';
import type { Operation } from '../engine/operations.ts';
import { syncsBeforeRename } from '../pool/btrfs-log.ts';
import { temporaryPathFor } from '../pool/commit.ts';
import { entryFiles, imageFile } from '../pool/layout.ts';
import type { Pool } from '../pool/pool.ts';
import { copyResumably } from './resumable-copy.ts';

/** How long a copy that was cut short waits for the call that began it to be made again. */
const defaultKeptMs = 10 * 60_000;

export type CopySource = RestoreProgress['source'];

/** A copy that an earlier run of the driver began. */
export interface HalfCopy {
  readonly pool: Pool;
  readonly directory: string;
  readonly source: CopySource;
  readonly doneBytes: bigint;
  readonly allocatedBytes: bigint;
}

/**
 * Copies of snapshots for new volumes, where blocks cannot be shared. A snapshot never changes, so what is copied of it holds:
 * a start keeps a copy that was cut short in `tmp/`, and the repeated CreateVolume goes on with it. What nobody comes for is
 * removed after a while.
 */
export class RestoreCopies {
  readonly #deps: { readonly host: Host; readonly log: Logger };
  readonly #kept = new Map<string, HalfCopy & { readonly timer: NodeJS.Timeout }>();
  readonly #keptMs: number;

  constructor(deps: { host: Host; log: Logger }, keptMs: number = defaultKeptMs) {
    this.#deps = deps;
    this.#keptMs = keptMs;
  }

  /** At start, for one entry of `tmp/`: whether it stays. */
  async keep(pool: Pool, entry: string): Promise<boolean> {
    const { host, log } = this.#deps;
    const path = pool.pathOf('tmp', entry);
    const note = await readRecord(
      host.files,
      restoreProgress,
      join(path, entryFiles.restoreProgress),
    ).catch(() => undefined);
    if (note === undefined) return false;
    const { volumeId, source, doneBytes } = note;
    const other = this.#kept.get(volumeId);
    if (pool.volumes.get(volumeId) !== undefined || (other !== undefined && other.pool !== pool)) {
      return false;
    }
    const directory = temporaryPathFor(pool, volumeId);
    if (syncsBeforeRename(pool)) await pool.sync('tmp');
    await host.files.renameNoReplace(path, directory);
    const { allocatedBytes } = await host.files.imageStatus(join(directory, imageFile));
    clearTimeout(other?.timer);
    const timer = setTimeout(() => void this.drop(volumeId), this.#keptMs);
    timer.unref();
    this.#kept.set(volumeId, { pool, directory, source, doneBytes, allocatedBytes, timer });
    log.info({ pool: pool.name, volumeId, doneBytes: doneBytes.toString() }, 'kept a copy');
    return true;
  }

  /** The half copy of that source for that volume; it stays until it is taken. */
  find(volumeId: string, wanted: { pool: Pool; source: CopySource }): HalfCopy | undefined {
    const found = this.#kept.get(volumeId);
    if (found?.pool !== wanted.pool) return undefined;
    const { snapshotId, createdAtMs, inode } = wanted.source;
    const isSame =
      found.source.snapshotId === snapshotId &&
      found.source.createdAtMs === createdAtMs &&
      found.source.inode === inode;
    return isSame ? found : undefined;
  }

  /** From now on its directory is the caller's. */
  take(volumeId: string): void {
    clearTimeout(this.#kept.get(volumeId)?.timer);
    this.#kept.delete(volumeId);
  }

  /** Nobody will come for it. */
  async drop(volumeId: string): Promise<void> {
    const { host, log } = this.#deps;
    const found = this.#kept.get(volumeId);
    if (found === undefined) return;
    this.take(volumeId);
    try {
      await host.files.removeTree(found.directory);
      log.info({ volumeId }, 'removed a copy that nobody goes on with');
    } catch (error) {
      log.warn({ volumeId, problem: messageOf(error) }, 'a half copy could not be removed');
    }
  }

  stop(): void {
    for (const { timer } of this.#kept.values()) clearTimeout(timer);
  }
}

export function copySourceOf(
  snapshot: { readonly id: string; readonly createdAtMs: number },
  image: ImageStatus,
): CopySource {
  const { id: snapshotId, createdAtMs } = snapshot;
  return { snapshotId, createdAtMs, inode: `${image.device}:${image.inode}` };
}

/** Whether the directory holds a copy that can be gone on with. */
export function holdsHalfCopy(files: Files, directory: string): Promise<boolean> {
  return files.exists(join(directory, entryFiles.restoreProgress));
}

/** Copies the data of a snapshot's image to `to`, from `resumeFrom` on, and notes how far it is. */
export async function copyNoted(
  { host, reached }: { readonly host: Host; readonly reached: Reached },
  from: string,
  copy: {
    to: string;
    volumeId: string;
    source: CopySource;
    resumeFrom: bigint;
    operation: Operation;
  },
): Promise<void> {
  const { to, volumeId, source, resumeFrom, operation } = copy;
  const directory = dirname(to);
  const progressFile = join(directory, entryFiles.restoreProgress);
  let isRecorded = resumeFrom > 0n;
  await copyResumably(host, {
    ...{ from, to, resumeFrom, signal: operation.signal },
    onProgress: (doneBytes, totalBytes) => {
      operation.reportProgress({ doneBytes, totalBytes });
    },
    record: async (doneBytes, totalBytes) => {
      if (doneBytes === totalBytes) return;
      isRecorded = true;
      const value = { schemaVersion: 1 as const, volumeId, source, doneBytes };
      await writeRecord(host.files, progressFile, {
        schema: restoreProgress,
        value,
        durable: false,
      });
      await reached('restore:advanced');
    },
  });
  if (!isRecorded) return;
  // The image is changed from here on, by a new UUID for example: nobody may go on with it, not even after a power cut.
  await host.files.removeFile(progressFile);
  await host.files.sync(directory);
}
