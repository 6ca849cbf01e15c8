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
import { type Cut, type CutOptions, planCut, takeCuts } from './capture.ts';
import { settleCopy } from './recover.ts';
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
      // Stage, publish and delete are refused while the cut is taken.
      shared: [`volume:${sourceVolumeId}`],
      request: input,
    },
    call,
    async (operation) => {
      await reloadSetAside(domain, { area: 'snapshots', id });
      const existing = domain.pools.findSnapshot(id);
      if (existing !== undefined) {
        existing.pool.requireServed();
        requireSame(existing.record, input);
        await existing.pool.sync();
        const record = await goOn(domain, existing);
        if (record !== undefined) return { record, pool: existing.pool.name };
      }
      const source = domain.pools.getVolume(sourceVolumeId);
      const { pool } = source;
      const what = `snapshot '${name}'`;
      return withReason(what, pool, async () => {
        const freezeForCopy = input.settings.freeze;
        const cut = await planCut(domain, source, { pool, freezeForCopy, what });
        operation.beginEffects();
        const draft = {
          id,
          name,
          groupId: null,
          groupPool: null,
          parameters: input.parameters,
        };
        const record = mayAnswerEarly(cut)
          ? await beginCopy(domain, cut, { draft, what })
          : await takeSnapshot(domain, cut, { draft, what, operation });
        return { record, pool: pool.name };
      });
    },
  );
}

function requireSame(record: SnapshotRecord, input: CreateSnapshotInput): void {
  if (record.name === input.name && record.sourceVolumeId === input.sourceVolumeId) return;
  throw new VolumeError(
    'conflict',
    `snapshot '${input.name}' exists already, of volume '${record.sourceVolumeId}' and not of '${input.sourceVolumeId}'; delete it first, or choose another name`,
  );
}

/** A copy that nobody works on, since its source was busy at the start, goes on now; undefined when it had to be removed. */
async function goOn(domain: Domain, found: FoundSnapshot): Promise<SnapshotRecord | undefined> {
  const { pool, record } = found;
  if (record.state === 'copying' && !domain.copies.isRunning(record.id)) {
    await settleCopy(domain, pool, record);
  }
  return pool.snapshots.get(record.id);
}

/** The cut holds without the caller keeping still: the source is idle, and cannot be staged while it is copied. */
function mayAnswerEarly(cut: Cut): boolean {
  return !cut.isShared && cut.freeze === undefined && cut.image.allocatedBytes > quickCopyBytes;
}

async function takeSnapshot(
  domain: Domain,
  cut: Cut,
  options: { draft: SnapshotDraft; what: string; operation: Operation },
): Promise<SnapshotRecord> {
  const { draft, what, operation } = options;
  const { pool } = cut.source;
  const room = await RoomForCut.reserve(pool, cut.image.allocatedBytes, what);
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
        const cutOptions: CutOptions = {
          what,
          signal: operation.signal,
          onProgress: (doneBytes, totalBytes) => {
            operation.tell({ doneBytes, totalBytes });
          },
        };
        const taken = await takeCuts(domain, [{ cut, to }], cutOptions);
        await room.extendTo((await domain.host.files.imageStatus(to)).allocatedBytes);
        await domain.host.files.makeReadOnly(to);
        return newSnapshotRecord(cut, draft, taken);
      },
    });
    operation.log.info(
      { snapshotId: record.id, frozenMs: record.frozenMs, shared: cut.isShared },
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
  cut: Cut,
  options: { draft: SnapshotDraft; what: string },
): Promise<SnapshotRecord> {
  const { source, image } = cut;
  const { pool } = source;
  if (cut.flush !== undefined) await domain.host.loops.sync(cut.flush);
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
          ...newSnapshotRecord(cut, options.draft, { atMs: domain.now(), frozenMs: 0 }),
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
