import { join } from 'node:path';
import { VolumeError } from '../../errors.ts';
import { snapshotIdFor } from '../../ids.ts';
import { type SnapshotRecord, snapshotRecord } from '../../state/records.ts';
import { MiB } from '../../units.ts';
import { reloadSetAside } from '../attachment/duplicates.ts';
import type { Domain } from '../domain.ts';
import { withReason } from '../engine/failures.ts';
import { volumeLock } from '../engine/locks.ts';
import type { Call, Operation } from '../engine/operations.ts';
import { sourceModifiedNs } from '../jobs/snapshot-copies.ts';
import type { CreateSnapshotInput, Snapshot } from '../model.ts';
import { commitNew } from '../pool/commit.ts';
import { entryFiles, imageFile } from '../pool/layout.ts';
import type { FoundSnapshot } from '../pool/pools.ts';
import { type Capture, type CaptureOptions, captureVolumes, planCapture } from './capture.ts';
import { recoverCopy } from './recover.ts';
import { type CaptureReservation, releaseAll, reserveUpTo } from './reservations.ts';
import { newSnapshotRecord, type SnapshotDraft } from './snapshot-record.ts';

/** An idle volume with less data than this is copied within the call, which takes a few tenths of a second. */
const quickCopyBytes = 256n * MiB;

/**
 * CSI spec, CreateSnapshot: returns the snapshot with that name, or takes it, in the pool of its source. Throws `conflict` if the
 * name belongs to a snapshot of another volume, `not-found`, `no-space`, `busy`, and `wrong-state` if the source is in use and the
 * pool cannot share blocks.
 */
export async function createSnapshot(
  domain: Domain,
  call: Call,
  input: CreateSnapshotInput,
): Promise<Snapshot> {
  const { name, sourceVolumeId } = input;
  const id = snapshotIdFor(name, domain.settings.nodeTag);
  return domain.operations.run(
    domain,
    call,
    {
      name: 'CreateSnapshot',
      lane: { kind: 'snapshot', id },
      exclusive: [`snapshot:${id}`],
      // The source can be neither staged, published nor deleted during the capture.
      shared: [volumeLock(sourceVolumeId)],
      request: input,
    },
    async (domain, operation) => {
      await reloadSetAside(domain, { area: 'snapshots', id });
      const existing = domain.pools.findSnapshot(id);
      if (existing !== undefined) {
        existing.pool.requireServed();
        requireSameSnapshot(existing.record, input);
        await existing.pool.sync();
        const record = await resumeCopy(domain, existing);
        if (record !== undefined) return { record, pool: existing.pool.name };
      }
      const source = domain.pools.getVolume(sourceVolumeId);
      const { pool } = source;
      const subject = `snapshot '${name}'`;
      return withReason(domain, { subject, disk: pool }, async (domain) => {
        const freezeForCopy = input.settings.freeze;
        const capture = await planCapture(domain, source, { pool, freezeForCopy, subject });
        operation.beginEffects();
        const draft = {
          id,
          name,
          groupId: null,
          groupPool: null,
          parameters: input.parameters,
        };
        const record = canCopyInBackground(capture)
          ? await startCopy(domain, capture, { draft, subject })
          : await takeSnapshot(domain, capture, { draft, subject, operation });
        return { record, pool: pool.name };
      });
    },
  );
}

function requireSameSnapshot(record: SnapshotRecord, input: CreateSnapshotInput): void {
  if (record.name === input.name && record.sourceVolumeId === input.sourceVolumeId) return;
  throw new VolumeError(
    'conflict',
    `snapshot '${input.name}' already exists: it is of volume '${record.sourceVolumeId}', not of '${input.sourceVolumeId}'; delete it first, or choose another name`,
  );
}

/** Resumes an interrupted copy whose source was in use when its pool was opened; undefined if the snapshot had to be removed. */
async function resumeCopy(
  domain: Domain,
  found: FoundSnapshot,
): Promise<SnapshotRecord | undefined> {
  const { pool, record } = found;
  if (record.state === 'copying' && !domain.snapshotCopies.isRunning(record.id)) {
    await recoverCopy(domain, pool, record);
  }
  return pool.snapshots.get(record.id);
}

/** A long copy of an idle source runs in the background. Its lock keeps the source from being staged in the meantime. */
function canCopyInBackground(capture: Capture): boolean {
  return (
    !capture.isShared &&
    capture.freeze === undefined &&
    capture.image.allocatedBytes > quickCopyBytes
  );
}

async function takeSnapshot(
  domain: Domain,
  capture: Capture,
  options: { draft: SnapshotDraft; subject: string; operation: Operation },
): Promise<SnapshotRecord> {
  const { draft, subject, operation } = options;
  const { pool } = capture.source;
  const reserved: CaptureReservation[] = [];
  await reserveUpTo(reserved, { pool, bytes: capture.image.allocatedBytes, subject });
  try {
    const record = await commitNew(domain, {
      pool,
      area: 'snapshots',
      id: draft.id,
      schema: snapshotRecord,
      images: [imageFile],
      build: async (directory) => {
        const to = join(directory, imageFile);
        const captureOptions: CaptureOptions = {
          subject,
          signal: operation.signal,
          onProgress: operation.reportProgress,
        };
        const taken = await captureVolumes(domain, [{ capture, to }], captureOptions);
        const { allocatedBytes: bytes } = await domain.host.files.imageStatus(to);
        await reserveUpTo(reserved, { pool, bytes, subject });
        await domain.host.files.makeReadOnly(to);
        return newSnapshotRecord(capture, draft, taken);
      },
    });
    operation.log.info(
      { snapshotId: record.id, frozenMs: record.frozenMs, shared: capture.isShared },
      'a snapshot was taken',
    );
    return record;
  } finally {
    releaseAll(reserved);
  }
}

/** Commits the snapshot as `copying` and starts its copy in the background. Repeated calls return its progress. */
async function startCopy(
  domain: Domain,
  capture: Capture,
  options: { draft: SnapshotDraft; subject: string },
): Promise<SnapshotRecord> {
  const { source, image } = capture;
  const { pool } = source;
  if (capture.flush !== undefined) await domain.host.loops.sync(capture.flush);
  const reserved: CaptureReservation[] = [];
  await reserveUpTo(reserved, { pool, bytes: image.allocatedBytes, subject: options.subject });
  try {
    const record = await commitNew(domain, {
      pool,
      area: 'snapshots',
      id: options.draft.id,
      schema: snapshotRecord,
      images: [entryFiles.partialImage],
      build: async (directory) => {
        const { sizeBytes, allocatedBytes } = image;
        await domain.host.files.createImage(join(directory, entryFiles.partialImage), {
          sizeBytes,
          allocate: false,
        });
        return {
          ...newSnapshotRecord(capture, options.draft, { atMs: domain.now(), frozenMs: 0 }),
          state: 'copying' as const,
          copy: {
            allocatedBytes,
            sourceModifiedNs: await sourceModifiedNs(domain.host.files, source),
          },
        };
      },
    });
    domain.snapshotCopies.start({ pool, record, source, resumeFrom: 0n });
    return record;
  } finally {
    releaseAll(reserved);
  }
}
