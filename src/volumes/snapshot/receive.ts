/** The side of a copy between nodes that makes the volume. */
import { dirname, join } from 'node:path';
import { settleAll } from '../../async.ts';
import { VolumeError } from '../../errors.ts';
import type { Files } from '../../host/host.ts';
import type { VolumeId } from '../../ids.ts';
import { restoreProgress, writeRecord } from '../../state/records.ts';
import { MiB } from '../../units.ts';
import type { Domain } from '../domain.ts';
import { inLane } from '../engine/lanes.ts';
import type { Operation } from '../engine/operations.ts';
import type { CopyPosition, CopySource } from '../jobs/interrupted-restores.ts';
import type { CopyReport } from '../jobs/transfers.ts';
import {
  type End,
  type Piece,
  type ReadPosition,
  type RemoteSource,
  SourceLostError,
} from '../model.ts';
import { entryFiles } from '../pool/layout.ts';
import { digestWith, noPieces } from './pieces.ts';
import { forgetProgress } from './restore-copy.ts';

/** Bytes between syncs and records of the progress. Bounds the dirty pages and how much a resumed copy repeats. */
const syncEveryBytes = 64n * MiB;

/** Milliseconds after which new data is recorded, however little it is: a slow link would take hours to send it again. */
const syncEveryMs = 5_000;

interface Reception {
  readonly remote: RemoteSource;
  /** For messages. */
  readonly subject: string;
  readonly to: string;
  readonly sizeBytes: bigint;
  readonly state: string;
  readonly volumeId: VolumeId;
  readonly source: Extract<CopySource, { kind: 'remote' }>;
  readonly from: CopyPosition;
  readonly operation: Operation;
  readonly report: CopyReport;
}

/**
 * Receives the image of a snapshot of another node into the new file `to`, or into an unfinished one, and records the progress. Data
 * that does not have its digest is asked for once more. Throws SourceLostError, after which the copy can be resumed, and `internal` for
 * data that is wrong twice.
 */
export async function receiveImage(domain: Domain, reception: Reception): Promise<void> {
  const { to, sizeBytes, from, operation, remote } = reception;
  const { files } = domain.host;
  if (from.doneBytes === 0n) {
    await files.createImage(to, { sizeBytes, allocate: false });
    await domain.reached('receive:image-made');
  } else {
    await requireUnchanged(files, reception);
  }
  const receiver = new Receiver(domain, reception);
  const startMs = performance.now();
  try {
    await receiver.receive();
  } catch (error) {
    if (!(error instanceof WrongDataError)) throw error;
    operation.log.warn({ problem: error.message }, 'data of another node is read once more');
    await receiver.receive();
  }
  await files.sync(to);
  await domain.reached('receive:ended');
  if (from.doneBytes > 0n || receiver.hasRecorded) await forgetProgress(files, dirname(to));
  const { volumeId, source } = reception;
  const fields = { volumeId, source: source.source, node: remote.nodeId };
  const durationMs = Math.round(performance.now() - startMs);
  operation.log.info({ ...fields, durationMs, resumedAt: from.doneBytes }, 'a copy was received');
}

/** The record of the progress says that its first part is on the disk, so without the image, that part would be zeros. */
async function requireUnchanged(
  files: Files,
  { to, sizeBytes, subject, from }: Reception,
): Promise<void> {
  const image = await files.imageStatus(to);
  if (image.sizeBytes === sizeBytes) return;
  throw new VolumeError(
    'internal',
    `${subject}: ${to} has ${image.sizeBytes} instead of ${sizeBytes} bytes, although ${from.doneBytes} of them were received; the copy was removed: repeat the call, which begins anew`,
  );
}

class WrongDataError extends VolumeError {
  constructor(message: string) {
    super('internal', message);
    this.name = 'WrongDataError';
  }
}

class Receiver {
  readonly #domain: Domain;
  readonly #reception: Reception;
  /** What is known to be on the disk: where a reading begins. */
  #kept: ReadPosition;
  /** What was received and is right. */
  #at: ReadPosition;
  /** The last write, which runs while the next data arrives. */
  #writing: Promise<void> = Promise.resolve();
  /** The last sync and record, which run while more data is written. */
  #keeping: Promise<void> = Promise.resolve();
  /** Bytes that were received since the last sync began. */
  #unsynced = 0n;
  hasRecorded = false;
  #isKeeping = false;
  #keepFailure: Error | undefined;

  constructor(domain: Domain, reception: Reception) {
    this.#domain = domain;
    this.#reception = reception;
    const { doneBytes, digest } = reception.from;
    this.#kept = {
      offset: doneBytes,
      digest: digest === undefined ? noPieces : Buffer.from(digest, 'hex'),
    };
    this.#at = this.#kept;
  }

  /** Reads from the last position that was kept to the end. If the source is lost, all that was received is kept. */
  async receive(): Promise<void> {
    this.#at = this.#kept;
    this.#unsynced = 0n;
    try {
      await this.#readAndKeep();
    } catch (error) {
      await this.#settle();
      if (error instanceof SourceLostError && this.#at !== this.#kept) await this.#keep(this.#at);
      throw error;
    }
    await this.#settle();
  }

  async #readAndKeep(): Promise<void> {
    const stop = this.#domain.transfers.callPeriodically(async () => {
      if (this.#unsynced > 0n && !this.#isKeeping) this.#beginKeeping();
      return syncEveryMs;
    }, syncEveryMs);
    try {
      await this.#read();
    } finally {
      stop();
    }
  }

  /** Waits for what runs beside the reading. Throws its failure. */
  async #settle(): Promise<void> {
    const running = [this.#writing, this.#keeping];
    this.#writing = Promise.resolve();
    this.#keeping = Promise.resolve();
    await settleAll(running);
  }

  async #read(): Promise<void> {
    const { remote, state, sizeBytes, operation, report } = this.#reception;
    for await (const step of remote.read(state, this.#at, operation.signal)) {
      operation.signal.throwIfAborted();
      if (this.#keepFailure !== undefined) throw this.#keepFailure;
      if ('sizeBytes' in step) return this.#requireEnd(step);
      this.#requireRight(step);
      await this.#writing;
      this.#writing = this.#write(step);
      this.#writing.catch(() => undefined);
      const length = BigInt(step.data.length);
      this.#at = { offset: step.offset + length, digest: step.digest };
      this.#unsynced += length;
      this.#domain.observer.transferred('received', step.data.length);
      operation.reportProgress(this.#at.offset, sizeBytes);
      report.advances(this.#at.offset, sizeBytes);
      if (this.#unsynced < syncEveryBytes) continue;
      await this.#keeping;
      this.#beginKeeping();
    }
    operation.signal.throwIfAborted();
    throw new SourceLostError(
      `${this.#reception.subject}: the data ended at ${this.#at.offset} of ${sizeBytes} bytes; repeat the call, which goes on there`,
    );
  }

  /** Begins to keep what was received, once what was begun before is kept. A failure is thrown before the next piece, or by `#settle`. */
  #beginKeeping(): void {
    const [at, writing, before] = [this.#at, this.#writing, this.#keeping];
    this.#isKeeping = true;
    this.#unsynced = 0n;
    this.#keeping = settleAll([before, writing])
      .then(() => this.#keep(at))
      .finally(() => {
        this.#isKeeping = false;
      });
    // On a slow link nothing waits for it soon.
    this.#keeping.catch((error: unknown) => {
      this.#keepFailure ??= error instanceof Error ? error : new Error(String(error));
    });
  }

  async #write({ offset, data }: Piece): Promise<void> {
    await this.#domain.host.files.writeRange(this.#reception.to, offset, data);
  }

  /** Before anything of it is written: a piece at another place would overwrite what the next reading does not send again. */
  #requireRight({ offset, data, digest }: Piece): void {
    const { sizeBytes } = this.#reception;
    const at = this.#at;
    const isWithin = offset >= at.offset && offset + BigInt(data.length) <= sizeBytes;
    if (isWithin && digestWith(at.digest, { offset, data }).equals(digest)) return;
    throw this.#wrong(`the data at offset ${offset} is damaged, or some before it is missing`);
  }

  #requireEnd({ sizeBytes, digest }: End): void {
    if (sizeBytes === this.#reception.sizeBytes && digest.equals(this.#at.digest)) return;
    throw this.#wrong('some of the data is missing at the end');
  }

  #wrong(what: string): WrongDataError {
    const { subject, remote } = this.#reception;
    return new WrongDataError(
      `${subject}: ${what} after its way from node '${remote.nodeId}'; nothing was kept: check the memory and the network of both nodes, then repeat the call`,
    );
  }

  /** The data is durable before the record of it, so a record that is too old merely repeats some copying. */
  async #keep(at: ReadPosition): Promise<void> {
    const { to, volumeId, source } = this.#reception;
    // In a lane of its own, so that writes do not wait for it.
    const lane = { kind: 'copy', id: volumeId, pool: this.#domain.host.lane.disk } as const;
    const { files } = inLane(this.#domain, lane).host;
    await files.sync(to);
    const value = {
      schemaVersion: 1 as const,
      ...{ volumeId, source },
      doneBytes: at.offset,
      digest: at.digest.toString('hex'),
    };
    const path = join(dirname(to), entryFiles.restoreProgress);
    await writeRecord(files, path, { schema: restoreProgress, value, durable: false });
    this.hasRecorded = true;
    this.#kept = at;
    await this.#domain.reached('restore:advanced');
  }
}
