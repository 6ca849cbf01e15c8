import { basename, dirname, join } from 'node:path';
import { messageOf } from '../../errors.ts';
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
import {
  type CopyPosition,
  type CopySource,
  type InterruptedRestore,
  noneCopied,
} from '../jobs/interrupted-restores.ts';
import { copyResumably } from '../jobs/resumable-copy.ts';
import { SourceLostError } from '../model.ts';
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
  if (isRecorded) await forgetProgress(host.files, directory);
}

/**
 * Called at the end of a copy: from now on the image changes, for example by a new UUID, so the copy must not be resumed, not even after
 * a power cut.
 */
export async function forgetProgress(files: Files, directory: string): Promise<void> {
  await files.removeFile(join(directory, entryFiles.restoreProgress));
  await files.sync(directory);
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
  /** Makes the image in the directory; its copy starts at the position. */
  readonly build: (directory: string, from: CopyPosition) => Promise<void>;
}

/**
 * Reserves the space that the copy still needs, builds the volume and commits it. A copy that the end of the driver or the loss of its
 * source interrupts is kept.
 */
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
  let isSourceLost = false;
  let kept: string | undefined;
  try {
    return await commitNew(domain, {
      pool,
      area: 'volumes',
      id,
      schema: volumeRecord,
      images: [imageFile],
      resumeDirectory: interrupted?.directory,
      keepOnFailure: async (directory) => {
        if (!isSourceLost && !operation.isClosing()) return false;
        if (!(await hasInterruptedCopy(domain.host.files, directory))) return false;
        kept = directory;
        return true;
      },
      build: async (directory) => {
        try {
          await build(directory, interrupted ?? noneCopied);
        } catch (error) {
          isSourceLost = error instanceof SourceLostError;
          throw error;
        }
        return record;
      },
    });
  } finally {
    // The next start finds what the end of the driver has left.
    if (kept !== undefined && isSourceLost) await keepForRepeat(domain, pool, kept);
    // Some blocks of the source are now shared, so its exclusive bytes have changed.
    pool.space.invalidate();
    reservation.release();
  }
}

/** Keeps a partial copy for the repeated call, or removes it if that is not possible. Never throws. */
async function keepForRepeat(domain: Domain, pool: Pool, directory: string): Promise<void> {
  const { host, interruptedRestores, log } = domain;
  try {
    if (!(await interruptedRestores.keep(host, pool, basename(directory))))
      await host.files.removeTree(directory);
  } catch (error) {
    log.warn(
      { pool: pool.name, path: directory, problem: messageOf(error) },
      'a partial copy could not be kept; the next start removes it',
    );
  }
}
