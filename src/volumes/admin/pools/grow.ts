import { VolumeError } from '../../../errors.ts';
import type { Domain } from '../../domain.ts';
import { withReason } from '../../engine/failures.ts';
import { inLane } from '../../engine/lanes.ts';
import { growEmbedded } from '../../pool/embedded.ts';
import type { Pool } from '../../pool/pool.ts';

/**
 * Grows the image of an embedded pool. Throws `wrong-state` for a pool that is not embedded, `out-of-range` if it would shrink,
 * `no-space` if the filesystem of its directory is too small, `busy` while another growth is running.
 */
export async function growPool(domain: Domain, pool: Pool, sizeBytes: bigint): Promise<void> {
  pool.requireServed();
  const { name, settings } = pool;
  if (pool.embeddedIn === undefined) {
    throw new VolumeError(
      'wrong-state',
      `pool '${name}' is not an embedded pool; to enlarge it, grow the filesystem of ${settings.path}`,
    );
  }
  const directory = pool.embeddedIn;
  const release = domain.operations.locks.acquire({ exclusive: [`pool:${name}`] }, 'GrowPool');
  try {
    const deps = inLane(domain, { kind: 'grow', id: name, pool: name });
    await withReason(deps, { subject: `pool '${name}'`, disk: undefined }, ({ host }) =>
      growEmbedded(host, { name, directory }, sizeBytes),
    );
    pool.space.invalidate();
    domain.log.info({ pool: name, sizeBytes }, 'a pool was grown');
  } finally {
    release();
  }
}
