import { dirname, join } from 'node:path';
import type { Files, Host, ImageStatus } from '../../host/host.ts';
import { restoreProgress, writeRecord } from '../../state/records.ts';
import type { Reached } from '../engine/fault-points.ts';
import type { Operation } from '../engine/operations.ts';
import type { SnapshotId, VolumeId } from '../ids.ts';
import type { CopySource } from '../jobs/interrupted-restores.ts';
import { copyResumably } from '../jobs/resumable-copy.ts';
import { entryFiles } from '../pool/layout.ts';

export function copySourceOf(
  snapshot: { readonly id: SnapshotId; readonly createdAtMs: number },
  image: ImageStatus,
): CopySource {
  const { id: snapshotId, createdAtMs } = snapshot;
  return { snapshotId, createdAtMs, inode: `${image.device}:${image.inode}` };
}

/** Whether the directory contains a copy that can be resumed. */
export function hasInterruptedCopy(files: Files, directory: string): Promise<boolean> {
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
