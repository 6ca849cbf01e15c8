import { join } from 'node:path';
import { messageOf } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import type { Files, Host } from '../../host/host.ts';
import { makeSemaphore } from '../../host/programs/semaphore.ts';
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
import type { InLane } from '../engine/lanes.ts';
import type { Locks } from '../engine/locks.ts';
import type { SnapshotProgress } from '../model.ts';
import { entryFiles } from '../pool/layout.ts';
import type { FoundVolume, Pool } from '../pool/pool.ts';
import { copyResumably } from './resumable-copy.ts';
import type { Trash } from './trash.ts';

/** Copies at the same time: more would only make the disk seek. */
const copiesAtOnce = 2;

/** Reasons of failed copies that are kept. */
const mostFailures = 1_000;

/** What the copies need of the domain. */
export interface CopyDeps {
  readonly host: Host;
  readonly log: Logger;
  readonly reached: Reached;
  readonly trash: Trash;
  readonly locks: Locks;
  readonly inLane: InLane;
}

export interface CopyJob {
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
 * Long copies without reflink, in the background. Each holds its source with a shared lock, so that it can neither be staged
 * nor deleted meanwhile. A stop leaves the snapshot `copying`; the next start goes on.
 */
export class SnapshotCopies {
  readonly #running = new Map<string, Running>();
  readonly #failed = new Map<string, string>();
  readonly #slots = makeSemaphore(copiesAtOnce);
  readonly #listeners = new Set<() => void>();
  readonly #deps: CopyDeps;
  #isStopped = false;
  #moves = 0;

  constructor(deps: CopyDeps) {
    this.#deps = deps;
  }

  /** The source's lock must be free or shared: the caller holds it shared, or nobody does. */
  start(job: CopyJob): void {
    const { record } = job;
    const release = this.#deps.locks.take(
      { shared: [`volume:${record.sourceVolumeId}`] },
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
    running.ended = this.#slots(() =>
      this.#deps.inLane({ kind: 'copy', id: record.id, pool: job.pool.name }, () =>
        this.#run(job, running),
      ),
    ).finally(() => {
      this.#running.delete(record.id);
      release();
      this.noteMove();
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

  isRunning(snapshotId: string): boolean {
    return this.#running.has(snapshotId);
  }

  /** Why the copy of that snapshot failed, since this process began; undefined when it did not. */
  failureOf(snapshotId: string): string | undefined {
    return this.#failed.get(snapshotId);
  }

  /** Counts every move and end of any copy. */
  get moves(): number {
    return this.#moves;
  }

  /** Resolves when any copy has moved or ended since `moves` was read, or the signal says so. */
  movedSince(moves: number, signal: AbortSignal): Promise<void> {
    if (this.#moves !== moves || signal.aborted) return Promise.resolve();
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

  /** Ends the copy of that snapshot, if one runs; its files stay for the caller to discard. */
  async abort(snapshotId: string): Promise<void> {
    const running = this.#running.get(snapshotId);
    running?.abort.abort();
    await running?.ended;
  }

  /** Ends all; they go on at the next start. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    await Promise.all([...this.#running.keys()].map((id) => this.abort(id)));
  }

  /** Resolves when no copy runs. */
  async settled(): Promise<void> {
    await Promise.all([...this.#running.values()].map(({ ended }) => ended));
  }

  /** Something changed that those who watch a copy want to look at. */
  noteMove(): void {
    this.#moves += 1;
    for (const listener of [...this.#listeners]) listener();
  }

  async #run(job: CopyJob, running: Running): Promise<void> {
    const { record } = job;
    try {
      if (running.abort.signal.aborted || this.#isStopped) return;
      await this.#copy(job, running);
      await finishCopy(this.#deps, job.pool, record);
      this.#deps.log.info({ snapshotId: record.id, bytes: record.sizeBytes }, 'snapshot copied');
    } catch (error) {
      if (running.abort.signal.aborted) return;
      const { message } = await toVolumeError(error, `snapshot '${record.id}'`, job.pool);
      await this.#fail(job, message);
    }
  }

  async #copy(job: CopyJob, running: Running): Promise<void> {
    const { host, reached } = this.#deps;
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
        this.noteMove();
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

  /** The oldest is forgotten when there are many: whoever waits for a copy asks soon. */
  #rememberFailure(snapshotId: string, why: string): void {
    this.#failed.set(snapshotId, why);
    const [oldest] = this.#failed.keys();
    if (this.#failed.size > mostFailures && oldest !== undefined) this.#failed.delete(oldest);
  }

  async #fail(job: CopyJob, why: string): Promise<void> {
    const { log, trash } = this.#deps;
    const { pool, record } = job;
    log.error({ snapshotId: record.id, problem: why }, 'copy failed; snapshot removed');
    this.#rememberFailure(record.id, why);
    try {
      await trash.discard(pool, 'snapshots', record.id);
    } catch (error) {
      log.error(
        { snapshotId: record.id, problem: messageOf(error) },
        'a failed copy could not be removed; the next start tries again',
      );
    }
  }
}

/** Makes a copied snapshot ready: the rename of its image, then the record. Again after a crash in between is fine. */
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
  const path = pool.recordPathOf('snapshots', record.id);
  await writeRecord(host.files, path, { schema: snapshotRecord, value: ready });
  pool.snapshots.put(ready);
  pool.space.invalidate();
  await reached('copy:recorded');
  await host.files.removeFile(pool.pathOf('snapshots', record.id, entryFiles.copyProgress));
}

/** st_mtime of the source's image in nanoseconds: moves with every write, through a loop device too. */
export async function sourceModifiedNs(files: Files, source: FoundVolume): Promise<string> {
  return (await files.status(source.imagePath)).modifiedNs.toString();
}

/** How much of an interrupted copy is on the disk. 0 when nothing tells. */
export async function copiedBytes(files: Files, pool: Pool, snapshotId: string): Promise<bigint> {
  try {
    const path = pool.pathOf('snapshots', snapshotId, entryFiles.copyProgress);
    return (await readRecord(files, copyProgress, path)).doneBytes;
  } catch {
    return 0n;
  }
}
