import { VolumeError } from '../../../errors.ts';
import type { Domain } from '../../domain.ts';
import { withReason } from '../../engine/failures.ts';
import { growEmbedded } from '../../pool/embedded.ts';
import type { Pool } from '../../pool/pool.ts';

/**
 * Grows the image of a pool with an embedded filesystem. Throws `wrong-state` for a pool without one, `out-of-range` when it
 * would shrink, `no-space` when its directory's filesystem has no room, `busy` while another growth runs.
 */
export async function growPool(domain: Domain, pool: Pool, sizeBytes: bigint): Promise<void> {
  pool.requireServed();
  const { name, settings } = pool;
  if (pool.embeddedIn === undefined) {
    throw new VolumeError(
      'wrong-state',
      `pool '${name}' has no image of its own: it is as large as the filesystem that holds ${settings.path}; grow that`,
    );
  }
  const directory = pool.embeddedIn;
  const release = domain.operations.locks.take({ exclusive: [`pool:${name}`] }, 'GrowPool');
  try {
    await withReason(`pool '${name}'`, undefined, () =>
      domain.ownedBy(`grow ${name}`, () =>
        growEmbedded(domain.host, { name, directory }, sizeBytes),
      ),
    );
    pool.space.invalidate();
    domain.log.info({ pool: name, sizeBytes }, 'pool has grown');
  } finally {
    release();
  }
}
