import { join } from 'node:path';
import { makeSemaphore } from '../../async.ts';
import { messageOf } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import type { Files, Host } from '../../host/host.ts';
import type { SnapshotId } from '../../ids.ts';
import type { Logger } from '../../observe/log.ts';
import {
  copyProgress,
  readRecord,
  type SnapshotRecord,
  snapshotRecord,
  writeRecord,
} from '../../state/records.ts';
import { toVolumeError } from '../engine/failures.ts';
import type { Reached } from '../engine/fault-points.ts';
import { inLane } from '../engine/lanes.ts';
import { type Locks, volumeLock } from '../engine/locks.ts';
import type { SnapshotProgress } from '../model.ts';
import { rewriteRecord } from '../pool/commit.ts';
import { entryFiles } from '../pool/layout.ts';
import type { FoundVolume, Pool } from '../pool/pool.ts';
import { copyResumably } from './resumable-copy.ts';
import type { Trash } from './trash.ts';

/** Maximum number of concurrent copies: more would only make the disk seek. */
const maxConcurrentCopies = 2;

/** Maximum number of failed copies whose reasons are remembered. */
const maxFailures = 1_000;

/** The parts of the domain that copies need. */
interface CopyDeps {
  readonly host: Host;
  readonly log: Logger;
  readonly reached: Reached;
  readonly trash: Trash;
  readonly locks: Locks;
}

interface CopyJob {
  readonly pool: Pool;
  readonly record: SnapshotRecord;
  readonly source: FoundVolume;
  readonly resumeFrom: bigint;
}

interface Running {
  readonly abort: AbortController;
  readonly totalBytes: bigint;
  doneBytes: bigint;
  ended: Promise<void>;
}

/**
 * Long copies on pools without reflink, in the background. A shared lock on the source prevents it from being staged or deleted in
 * the meantime. A stop leaves the snapshot in state `copying`; the next start resumes the copy.
 */
export class SnapshotCopies {
  readonly #running = new Map<SnapshotId, Running>();
  readonly #failed = new Map<SnapshotId, string>();
  readonly #semaphore = makeSemaphore(maxConcurrentCopies);
  readonly #listeners = new Set<() => void>();
  readonly #deps: CopyDeps;
  #isStopped = false;
  #progressCount = 0;

  constructor(deps: CopyDeps) {
    this.#deps = deps;
  }

  /** Starts a copy. The source must be unlocked, or locked with a shared lock by the caller. */
  start(job: CopyJob): void {
    const { record } = job;
    const release = this.#deps.locks.acquire(
      { shared: [volumeLock(record.sourceVolumeId)] },
      `the copy of snapshot '${record.id}'`,
    );
    this.#failed.delete(record.id);
    const running: Running = {
      abort: new AbortController(),
      totalBytes: record.sizeBytes,
      doneBytes: job.resumeFrom,
      ended: Promise.resolve(),
    };
    this.#running.set(record.id, running);
    running.ended = this.#semaphore(() =>
      this.#run(
        inLane(this.#deps, { kind: 'copy', id: record.id, pool: job.pool.name }),
        job,
        running,
      ),
    ).finally(() => {
      this.#running.delete(record.id);
      release();
      this.notifyProgress();
    });
  }

  progressOf(record: SnapshotRecord): SnapshotProgress {
    const running = this.#running.get(record.id);
    const totalBytes = record.sizeBytes;
    if (record.state === 'ready') {
      return { doneBytes: totalBytes, totalBytes, ready: true, error: '' };
    }
    return { doneBytes: running?.doneBytes ?? 0n, totalBytes, ready: false, error: '' };
  }

  isRunning(snapshotId: SnapshotId): boolean {
    return this.#running.has(snapshotId);
  }

  /** Why the copy of that snapshot failed in this process; undefined if it did not fail. */
  failureOf(snapshotId: SnapshotId): string | undefined {
    return this.#failed.get(snapshotId);
  }

  /** Increases whenever a copy progresses or ends. */
  get progressCount(): number {
    return this.#progressCount;
  }

  /** Resolves when a copy has progressed or ended since `progressCount` was read, or when the signal is aborted. */
  progressSince(count: number, signal: AbortSignal): Promise<void> {
    if (this.#progressCount !== count || signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const done = (): void => {
        this.#listeners.delete(done);
        signal.removeEventListener('abort', done);
        resolve();
      };
      this.#listeners.add(done);
      signal.addEventListener('abort', done);
    });
  }

  /** Aborts the copy of that snapshot, if one runs. The caller discards its files. */
  async abort(snapshotId: SnapshotId): Promise<void> {
    const running = this.#running.get(snapshotId);
    running?.abort.abort();
    await running?.ended;
  }

  /** Aborts all copies. The next start resumes them. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    await Promise.all([...this.#running.keys()].map((id) => this.abort(id)));
  }

  /** Resolves when no copy runs. */
  async whenIdle(): Promise<void> {
    await Promise.all([...this.#running.values()].map(({ ended }) => ended));
  }

  /** Wakes the callers of `progressSince`. */
  notifyProgress(): void {
    this.#progressCount += 1;
    for (const listener of [...this.#listeners]) listener();
  }

  async #run(deps: CopyDeps, job: CopyJob, running: Running): Promise<void> {
    const { record } = job;
    try {
      if (running.abort.signal.aborted || this.#isStopped) return;
      await this.#copy(deps, job, running);
      await finishCopy(deps, job.pool, record);
      deps.log.info({ snapshotId: record.id, bytes: record.sizeBytes }, 'a snapshot was copied');
    } catch (error) {
      if (running.abort.signal.aborted) return;
      const { message } = await toVolumeError(error, `snapshot '${record.id}'`, job.pool);
      await this.#fail(deps, job, message);
    }
  }

  async #copy({ host, reached }: CopyDeps, job: CopyJob, running: Running): Promise<void> {
    const { pool, record, source } = job;
    const directory = pool.pathOf('snapshots', record.id);
    await reached('copy:begun');
    await copyResumably(host, {
      from: source.imagePath,
      to: join(directory, entryFiles.partialImage),
      resumeFrom: job.resumeFrom,
      signal: running.abort.signal,
      onProgress: (doneBytes) => {
        running.doneBytes = doneBytes;
        this.notifyProgress();
      },
      record: async (doneBytes) => {
        await writeRecord(host.files, join(directory, entryFiles.copyProgress), {
          schema: copyProgress,
          value: { schemaVersion: 1, doneBytes },
          durable: false,
        });
        await reached('copy:advanced');
      },
    });
    await reached('copy:done');
  }

  /** Forgets the oldest reason above the limit: callers that wait for a copy ask soon after it has failed. */
  #rememberFailure(snapshotId: SnapshotId, why: string): void {
    this.#failed.set(snapshotId, why);
    const [oldest] = this.#failed.keys();
    if (this.#failed.size > maxFailures && oldest !== undefined) this.#failed.delete(oldest);
  }

  async #fail({ host, log, trash }: CopyDeps, job: CopyJob, why: string): Promise<void> {
    const { pool, record } = job;
    log.error({ snapshotId: record.id, problem: why }, 'a copy failed; its snapshot was removed');
    this.#rememberFailure(record.id, why);
    try {
      await trash.discard(host, pool, 'snapshots', record.id);
    } catch (error) {
      log.error(
        { snapshotId: record.id, problem: messageOf(error) },
        'a failed copy could not be removed; the next start tries again',
      );
    }
  }
}

/** Makes a copied snapshot ready: renames its image, then writes the record. Repeating it after a crash in between is safe. */
export async function finishCopy(
  { host, reached }: Pick<CopyDeps, 'host' | 'reached'>,
  pool: Pool,
  record: SnapshotRecord,
): Promise<void> {
  const part = pool.pathOf('snapshots', record.id, entryFiles.partialImage);
  const image = pool.imagePathOf('snapshots', record.id);
  try {
    await host.files.makeReadOnly(part);
    await host.files.renameNoReplace(part, image);
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) throw error;
  }
  await host.files.sync(pool.pathOf('snapshots', record.id));
  await reached('copy:renamed');
  const ready: SnapshotRecord = { ...record, state: 'ready', copy: null };
  const entry = { pool, area: 'snapshots', schema: snapshotRecord } as const;
  await rewriteRecord(host.files, entry, ready);
  pool.space.invalidate();
  await reached('copy:recorded');
  await host.files.removeFile(pool.pathOf('snapshots', record.id, entryFiles.copyProgress));
}

/** st_mtime of the source's image in nanoseconds. It changes with every write, including writes through a loop device. */
export async function sourceModifiedNs(files: Files, source: FoundVolume): Promise<string> {
  return (await files.status(source.imagePath)).modifiedNs.toString();
}

/** The bytes that an interrupted copy has copied; 0 if its progress cannot be read. */
export async function copiedBytes(
  files: Files,
  pool: Pool,
  snapshotId: SnapshotId,
): Promise<bigint> {
  try {
    const path = pool.pathOf('snapshots', snapshotId, entryFiles.copyProgress);
    return (await readRecord(files, copyProgress, path)).doneBytes;
  } catch {
    return 0n;
  }
}
