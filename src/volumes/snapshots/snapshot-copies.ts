import * as v from 'valibot';
import { messageOf } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import type { Files } from '../../host/host.ts';
import { makeSemaphore } from '../../host/programs/semaphore.ts';
import { byteCount } from '../../state/decode.ts';
import {
  readRecord,
  type SnapshotRecord,
  snapshotRecord,
  writeRecord,
} from '../../state/records.ts';
import type { Domain } from '../domain.ts';
import { explain } from '../failures.ts';
import type { SnapshotProgress } from '../model.ts';
import type { Pool } from '../pools/pool.ts';
import type { FoundVolume } from '../pools/pools.ts';
import { partName, progressName } from './snapshot-files.ts';

/** Copies at the same time: more would only make the disk seek. */
const copiesAtOnce = 2;

/** Reasons of failed copies that are kept. */
const mostFailures = 1_000;

const copyProgress = v.object({ schemaVersion: v.literal(1), doneBytes: byteCount });

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
  #isStopped = false;
  #moves = 0;

  /** The source's lock must be free or shared: the caller holds it shared, or nobody does. */
  start(domain: Domain, job: CopyJob): void {
    const { record } = job;
    const release = domain.operations.locks.take(
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
      domain.ownedBy(`copy ${record.id}`, () => this.#run(domain, job, running)),
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

  async #run(domain: Domain, job: CopyJob, running: Running): Promise<void> {
    const { record } = job;
    try {
      if (running.abort.signal.aborted || this.#isStopped) return;
      await this.#copy(domain, job, running);
      await finishCopy(domain, job.pool, record);
      domain.log.info({ snapshotId: record.id, bytes: record.sizeBytes }, 'snapshot copied');
    } catch (error) {
      if (running.abort.signal.aborted) return;
      const { message } = await explain(error, `snapshot '${record.id}'`, job.pool);
      await this.#fail(domain, job, message);
    }
  }

  async #copy(domain: Domain, job: CopyJob, running: Running): Promise<void> {
    const { pool, record, source } = job;
    const directory = pool.pathOf('snapshots', record.id);
    let writing = Promise.resolve();
    await domain.reached('copy:begun');
    await domain.host.copies.copySparse(source.imagePath, `${directory}/${partName}`, {
      signal: running.abort.signal,
      resumeFrom: job.resumeFrom,
      onProgress: (doneBytes) => {
        running.doneBytes = doneBytes;
        this.noteMove();
        // Told after what it tells of is on the disk, so an older text is only a longer way.
        writing = writing
          .then(() =>
            writeRecord(domain.host.files, `${directory}/${progressName}`, {
              schema: copyProgress,
              value: { schemaVersion: 1, doneBytes },
              durable: false,
            }),
          )
          .then(() => domain.reached('copy:advanced'));
        writing.catch(() => undefined);
      },
    });
    await writing;
    await domain.reached('copy:done');
  }

  /** The oldest is forgotten when there are many: whoever waits for a copy asks soon. */
  #rememberFailure(snapshotId: string, why: string): void {
    this.#failed.set(snapshotId, why);
    const [oldest] = this.#failed.keys();
    if (this.#failed.size > mostFailures && oldest !== undefined) this.#failed.delete(oldest);
  }

  async #fail(domain: Domain, job: CopyJob, why: string): Promise<void> {
    const { pool, record } = job;
    domain.log.error({ snapshotId: record.id, problem: why }, 'copy failed; snapshot removed');
    this.#rememberFailure(record.id, why);
    try {
      await domain.trash.discard(pool, 'snapshots', record.id);
    } catch (error) {
      domain.log.error(
        { snapshotId: record.id, problem: messageOf(error) },
        'a failed copy could not be removed; the next start tries again',
      );
    }
  }
}

/** Makes a copied snapshot ready: the rename of its image, then the record. Again after a crash in between is fine. */
export async function finishCopy(
  domain: Domain,
  pool: Pool,
  record: SnapshotRecord,
): Promise<void> {
  const part = pool.pathOf('snapshots', record.id, partName);
  const image = pool.pathOf('snapshots', record.id, 'disk.img');
  try {
    await domain.host.files.makeReadOnly(part);
    await domain.host.files.renameNoReplace(part, image);
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) throw error;
  }
  await domain.host.files.sync(pool.pathOf('snapshots', record.id));
  await domain.reached('copy:renamed');
  const ready: SnapshotRecord = { ...record, state: 'ready', copy: null };
  const path = pool.pathOf('snapshots', record.id, 'snapshot.json');
  await writeRecord(domain.host.files, path, { schema: snapshotRecord, value: ready });
  pool.snapshots.put(ready);
  pool.room.invalidate();
  await domain.reached('copy:recorded');
  await domain.host.files.removeFile(pool.pathOf('snapshots', record.id, progressName));
}

/** How much of an interrupted copy is on the disk. 0 when nothing tells. */
export async function copiedBytes(files: Files, pool: Pool, snapshotId: string): Promise<bigint> {
  try {
    const path = pool.pathOf('snapshots', snapshotId, progressName);
    return (await readRecord(files, copyProgress, path)).doneBytes;
  } catch {
    return 0n;
  }
}
