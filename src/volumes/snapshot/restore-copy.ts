import { dirname, join } from 'node:path';
import type { Files, Host, ImageStatus } from '../../host/host.ts';
import type { SnapshotId, VolumeId } from '../../ids.ts';
import {
  restoreProgress,
  type VolumeRecord,
  volumeRecord,
  writeRecord,
} from '../../state/records.ts';
import type { Domain } from '../domain.ts';
import type { Reached } from '../engine/fault-points.ts';
import type { Operation } from '../engine/operations.ts';
import type { CopySource, InterruptedRestore } from '../jobs/interrupted-restores.ts';
import { copyResumably } from '../jobs/resumable-copy.ts';
import { commitNew } from '../pool/commit.ts';
import { entryFiles, imageFile } from '../pool/layout.ts';
import type { Pool } from '../pool/pool.ts';

export function copySourceOf(
  snapshot: { readonly id: SnapshotId; readonly createdAtMs: number },
  image: ImageStatus,
): CopySource {
  const { id: snapshotId, createdAtMs } = snapshot;
  return { snapshotId, createdAtMs, inode: `${image.device}:${image.inode}` };
}

/** Whether the directory contains a copy that can be resumed. */
function hasInterruptedCopy(files: Files, directory: string): Promise<boolean> {
  return files.exists(join(directory, entryFiles.restoreProgress));
}

/** Copies an image that does not change to `to`, starting at offset `resumeFrom`, and records the progress. */
export async function copyForVolume(
  { host, reached }: { readonly host: Host; readonly reached: Reached },
  from: string,
  copy: {
    to: string;
    volumeId: VolumeId;
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
    onProgress: operation.reportProgress,
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
  // From now on the image changes, for example by a new UUID, so the copy must not be resumed, not even after a power cut.
  await host.files.removeFile(progressFile);
  await host.files.sync(directory);
}

/** A volume that is made of a copy, which an earlier run of the driver may have begun. */
export interface CopiedVolume {
  readonly pool: Pool;
  readonly record: VolumeRecord;
  readonly subject: string;
  readonly interrupted: InterruptedRestore | undefined;
  /** Reserved in addition to the size of the volume. */
  readonly sharedBytes?: bigint;
  /** Whether the blocks of the image must be free now. */
  readonly allocate?: boolean;
  /** Makes the image in the directory; its copy starts at the offset. */
  readonly build: (directory: string, resumeFrom: bigint) => Promise<void>;
}

/** Reserves the space that the copy still needs, builds the volume and commits it. A copy that the driver's end interrupts is kept. */
export async function commitCopiedVolume(
  domain: Domain,
  operation: Operation,
  { pool, record, subject, interrupted, sharedBytes = 0n, allocate = false, build }: CopiedVolume,
): Promise<VolumeRecord> {
  const { id } = record;
  // The blocks of an interrupted copy are no longer among the pool's free blocks.
  const missing = record.sizeBytes - (interrupted?.allocatedBytes ?? 0n);
  const bytes = (missing > 0n ? missing : 0n) + sharedBytes;
  const reservation = await pool.space.reserve(bytes, subject, { allocate });
  if (interrupted !== undefined) domain.interruptedRestores.claim(id);
  try {
    return await commitNew(domain, {
      pool,
      area: 'volumes',
      id,
      schema: volumeRecord,
      images: [imageFile],
      resumeDirectory: interrupted?.directory,
      keepOnFailure: async (directory) =>
        operation.isClosing() && (await hasInterruptedCopy(domain.host.files, directory)),
      build: async (directory) => {
        await build(directory, interrupted?.doneBytes ?? 0n);
        return record;
      },
    });
  } finally {
    // Some blocks of the source are now shared, so its exclusive bytes have changed.
    pool.space.invalidate();
    reservation.release();
  }
}
