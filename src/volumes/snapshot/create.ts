import { join } from 'node:path';
import { VolumeError } from '../../errors.ts';
import { type SnapshotRecord, snapshotRecord } from '../../state/records.ts';
import { MiB } from '../../units.ts';
import { reloadSetAside } from '../attachment/duplicates.ts';
import type { Domain } from '../domain.ts';
import { withReason } from '../engine/failures.ts';
import type { Call, Operation } from '../engine/operations.ts';
import { snapshotIdFor } from '../ids.ts';
import { sourceModifiedNs } from '../jobs/snapshot-copies.ts';
import type { CreateSnapshotInput, Snapshot } from '../model.ts';
import { commitNew } from '../pool/commit.ts';
import { entryFiles, imageFile } from '../pool/layout.ts';
import type { FoundSnapshot } from '../pool/pools.ts';
import { type Capture, type CaptureOptions, planCapture, takeCaptures } from './capture.ts';
import { recoverCopy } from './recover.ts';
import { RoomForCut } from './reservations.ts';
import { newSnapshotRecord, type SnapshotDraft } from './snapshot-record.ts';

/** An idle volume with less data than this is copied within the call: some tenths of a second. */
const quickCopyBytes = 256n * MiB;

/**
 * CSI spec, CreateSnapshot: finds the snapshot of that name or takes it, in the pool of its source. Throws `conflict` when the
 * name stands for another volume's, `not-found`, `no-space`, `busy`, and `wrong-state` with the way out when the source is in
 * use and the pool cannot share blocks.
 */
export async function createSnapshot(
  domain: Domain,
  call: Call,
  input: CreateSnapshotInput,
): Promise<Snapshot> {
  const { name, sourceVolumeId } = input;
  const id = snapshotIdFor(name, domain.settings.nodeTag);
  return domain.operations.run(
    {
      name: 'CreateSnapshot',
      owner: `snapshot ${id}`,
      exclusive: [`snapshot:${id}`],
      // Stage, publish and delete are refused while the capture is taken.
      shared: [`volume:${sourceVolumeId}`],
      request: input,
    },
    call,
    async (operation) => {
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
      const what = `snapshot '${name}'`;
      return withReason(what, pool, async () => {
        const freezeForCopy = input.settings.freeze;
        const capture = await planCapture(domain, source, { pool, freezeForCopy, what });
        operation.beginEffects();
        const draft = {
          id,
          name,
          groupId: null,
          groupPool: null,
          parameters: input.parameters,
        };
        const record = mayAnswerEarly(capture)
          ? await beginCopy(domain, capture, { draft, what })
          : await takeSnapshot(domain, capture, { draft, what, operation });
        return { record, pool: pool.name };
      });
    },
  );
}

function requireSameSnapshot(record: SnapshotRecord, input: CreateSnapshotInput): void {
  if (record.name === input.name && record.sourceVolumeId === input.sourceVolumeId) return;
  throw new VolumeError(
    'conflict',
    `snapshot '${input.name}' exists already, of volume '${record.sourceVolumeId}' and not of '${input.sourceVolumeId}'; delete it first, or choose another name`,
  );
}

/** A copy that nobody works on, since its source was busy at the start, goes on now; undefined when it had to be removed. */
async function resumeCopy(
  domain: Domain,
  found: FoundSnapshot,
): Promise<SnapshotRecord | undefined> {
  const { pool, record } = found;
  if (record.state === 'copying' && !domain.copies.isRunning(record.id)) {
    await recoverCopy(domain, pool, record);
  }
  return pool.snapshots.get(record.id);
}

/** The capture holds without the caller keeping still: the source is idle, and cannot be staged while it is copied. */
function mayAnswerEarly(capture: Capture): boolean {
  return (
    !capture.isShared &&
    capture.freeze === undefined &&
    capture.image.allocatedBytes > quickCopyBytes
  );
}

async function takeSnapshot(
  domain: Domain,
  capture: Capture,
  options: { draft: SnapshotDraft; what: string; operation: Operation },
): Promise<SnapshotRecord> {
  const { draft, what, operation } = options;
  const { pool } = capture.source;
  const room = await RoomForCut.reserve(pool, capture.image.allocatedBytes, what);
  try {
    const record = await commitNew(domain, {
      pool,
      area: 'snapshots',
      id: draft.id,
      schema: snapshotRecord,
      images: [imageFile],
      placed: (placed) => {
        pool.snapshots.put(placed);
      },
      build: async (directory) => {
        const to = join(directory, imageFile);
        const captureOptions: CaptureOptions = {
          what,
          signal: operation.signal,
          onProgress: (doneBytes, totalBytes) => {
            operation.reportProgress({ doneBytes, totalBytes });
          },
        };
        const taken = await takeCaptures(domain, [{ capture, to }], captureOptions);
        await room.extendTo((await domain.host.files.imageStatus(to)).allocatedBytes);
        await domain.host.files.makeReadOnly(to);
        return newSnapshotRecord(capture, draft, taken);
      },
    });
    operation.log.info(
      { snapshotId: record.id, frozenMs: record.frozenMs, shared: capture.isShared },
      'snapshot taken',
    );
    return record;
  } finally {
    room.release();
  }
}

/** The snapshot exists at once, as `copying`; a later call finds it, and finally ready. */
async function beginCopy(
  domain: Domain,
  capture: Capture,
  options: { draft: SnapshotDraft; what: string },
): Promise<SnapshotRecord> {
  const { source, image } = capture;
  const { pool } = source;
  if (capture.flush !== undefined) await domain.host.loops.sync(capture.flush);
  const room = await RoomForCut.reserve(pool, image.allocatedBytes, options.what);
  try {
    const record = await commitNew(domain, {
      pool,
      area: 'snapshots',
      id: options.draft.id,
      schema: snapshotRecord,
      images: [entryFiles.partialImage],
      placed: (placed) => {
        pool.snapshots.put(placed);
      },
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
    domain.copies.start({ pool, record, source, resumeFrom: 0n });
    return record;
  } finally {
    room.release();
  }
}
