import { FailedError } from './errors.ts';
import type { Progress } from './progress.ts';
import type { Session } from './session.ts';

/** Waits until the copy of a snapshot is complete. Throws `FailedError` if it fails. */
export async function waitUntilReady(
  session: Session,
  snapshotId: string,
  report: (progress: Progress) => void,
): Promise<void> {
  const { admin } = await session.driver();
  for await (const state of admin.WatchSnapshot({ snapshot_id: snapshotId })) {
    report({ doneBytes: state.done_bytes, totalBytes: state.total_bytes });
    if (state.error !== '') throw new FailedError(`the copy failed: ${state.error}`);
    if (state.ready) return;
  }
  throw new FailedError(
    `the driver stopped reporting on snapshot '${snapshotId}'; check it with: loopcsi snapshot get ${snapshotId}`,
  );
}
