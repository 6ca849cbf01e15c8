import { timedOut, withTimeout } from '../../async.ts';
import type { Domain } from '../domain.ts';
import { logFailure } from '../engine/failures.ts';
import { inLane } from '../engine/lanes.ts';
import { volumeLock } from '../engine/locks.ts';
import type { Pool } from '../pool/pool.ts';

/** A recovery that takes longer continues in the background, with its volume locked, and the pool is served. */
const recoveryTimeoutMs = 3_000;

/**
 * Recovers one volume under its lock. A locked volume is skipped: if a pool becomes available again while the driver is running,
 * the call that has the lock is responsible. Each recovery has its own lane, so that a kernel call that hangs, for example on a
 * target below a dead FUSE mount, blocks only its volume.
 */
export async function recoverVolume(
  domain: Domain,
  pool: Pool,
  id: string,
  work: (domain: Domain) => Promise<void>,
): Promise<void> {
  const { locks } = domain.operations;
  if (locks.lockedBy(volumeLock(id)) !== undefined) return;
  const release = locks.acquire({ exclusive: [volumeLock(id)] }, 'the start of its pool');
  const deps = inLane(domain, { kind: 'recover', id, pool: pool.name });
  const recovered = logFailure(domain.log, id, () => work(deps)).finally(release);
  if ((await withTimeout(recovered, recoveryTimeoutMs)) !== timedOut) return;
  domain.log.error(
    { id },
    'recovery of an entry did not end in time; its pool is served while it continues',
  );
}
