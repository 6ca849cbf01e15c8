import type { Host } from '../../host/host.ts';

/** A copy of an image's data that can be resumed after the driver was killed. */
interface ResumableCopy {
  readonly from: string;
  readonly to: string;
  /** Bytes that an interrupted copy has copied already; 0 for a new one. */
  readonly resumeFrom: bigint;
  readonly signal: AbortSignal;
  /** Called immediately, with numbers of bytes. */
  readonly onProgress: (doneBytes: bigint, totalBytes: bigint) => void;
  /** Writes the progress to the disk. Calls do not overlap. */
  readonly record: (doneBytes: bigint, totalBytes: bigint) => Promise<void>;
}

/** Copies the allocated ranges. Throws the errors of the copy and of `record`, and the signal's reason. */
export async function copyResumably(host: Host, copy: ResumableCopy): Promise<void> {
  const { from, to, resumeFrom, signal, onProgress, record } = copy;
  let recording = Promise.resolve();
  try {
    await host.copies.copySparse(from, to, {
      signal,
      resumeFrom,
      onProgress: (doneBytes, totalBytes) => {
        onProgress(doneBytes, totalBytes);
        // The data is durable by now, so a record that is too old merely repeats some copying.
        recording = recording.then(() => record(doneBytes, totalBytes));
        recording.catch(() => undefined);
      },
    });
  } finally {
    await recording;
  }
}
