/** Tells the caller of a CreateVolume how far a copy from another node is, since the error of its own deadline would not. */
import { timedOut, withTimeout } from '../async.ts';
import { VolumeError } from '../errors.ts';
import { formatBytes } from '../units.ts';
import type { Volumes } from '../volumes/api.ts';
import type { RunningCopy } from '../volumes/model.ts';
import type { RpcCall } from './call.ts';

/** How long before the deadline of its caller a call is answered. */
const answerMs = 500;
/** The longest timer of Node. */
const maxTimerMs = 2 ** 31 - 1;

/**
 * Waits for a volume that is being created. If that takes until shortly before the deadline of the caller, because the volume is copied from
 * another node, throws `busy` with the progress. The copy goes on.
 */
export async function orProgress<T>(
  work: Promise<T>,
  {
    volumes,
    name,
    call,
  }: { readonly volumes: Volumes; readonly name: string; readonly call: RpcCall },
): Promise<T> {
  const leftMs = call.deadlineMs - Date.now();
  const waitMs = leftMs - Math.min(answerMs, leftMs / 4);
  if (waitMs > maxTimerMs || waitMs <= 0) return work;
  const result = await withTimeout(work, waitMs);
  if (result !== timedOut) return result;
  const copy = volumes
    .runningCopies()
    .find(({ direction, copyName }) => direction === 'receive' && copyName === name);
  if (copy === undefined) return work;
  throw new VolumeError('busy', `volume '${name}': ${progressText(copy)}; repeat the call`);
}

function progressText({ source, peer, isWaiting, doneBytes, totalBytes }: RunningCopy): string {
  const what = `${source.kind} '${source.id}' from node '${peer}'`;
  if (isWaiting) return `the copy of ${what} waits until others have ended (--transfers)`;
  if (totalBytes === 0n) return `the copy of ${what} has begun`;
  const percent = (doneBytes * 100n) / totalBytes;
  return `the copy of ${what} goes on: ${percent} %, ${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`;
}
