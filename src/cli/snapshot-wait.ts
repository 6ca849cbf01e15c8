import { pollUntil } from '../async.ts';
import { FailedError, failureOf } from './errors.ts';
import { requireField } from './lookup.ts';
import type { Progress } from './progress.ts';
import type { Session } from './session.ts';

/** Waits until the copy of a snapshot is complete. Throws `FailedError` if it fails. */
export async function waitUntilReady(
  session: Session,
  snapshotId: string,
  report: (progress: Progress) => void,
): Promise<void> {
  if (await session.isController()) return pollUntilReady(session, snapshotId);
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

/** The calls of CSI, which are all that a controller has, tell no progress. A copy takes as long as it takes. */
async function pollUntilReady(session: Session, snapshotId: string): Promise<void> {
  const { controller } = await session.driver();
  const isReady = async (): Promise<boolean> => {
    const { snapshot } = await controller.GetSnapshot({ snapshot_id: snapshotId });
    return requireField(snapshot, 'snapshot').ready_to_use;
  };
  try {
    await pollUntil(isReady, { timeoutMs: Number.POSITIVE_INFINITY, pauseMs: 500 });
  } catch (error) {
    if (failureOf(error).code !== 'NOT_FOUND') throw error;
    throw new FailedError(
      `the copy failed, or snapshot '${snapshotId}' was deleted; the log of the driver on its node says which`,
      { cause: error },
    );
  }
}
