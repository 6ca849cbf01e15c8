import type { FsType } from '../../host/host.ts';
import { minBytesOf } from '../capacity.ts';
import type { Domain } from '../domain.ts';
import type { PoolCapacity, VolumeSettings } from '../model.ts';
import { queryEachPool } from '../pool/pool-query.ts';

/**
 * CSI spec, GetCapacity. Returns the sum of the bytes that the answering pools may still promise, and the maximum size of one new
 * volume; neither is negative. Throws `unavailable` if no pool is served.
 */
export async function poolCapacity(
  domain: Domain,
  request: {
    readonly pool: string | undefined;
    readonly provisioning: VolumeSettings['provisioning'];
    readonly fsType: FsType | null;
    /** Whether the new volume would have I/O limits. */
    readonly isLimited?: boolean;
  },
): Promise<PoolCapacity> {
  const minimumVolumeBytes = minBytesOf(domain.host.filesystems, request.fsType);
  const { pool: name } = request;
  // The scheduler asks every node, and nodes may have different pools, so a pool that this node lacks has no capacity here.
  if (name !== undefined && domain.pools.find(name) === undefined) {
    return { availableBytes: 0n, maximumVolumeBytes: 0n, minimumVolumeBytes };
  }
  // The same holds for a node that cannot set limits.
  if (request.isLimited === true && !('path' in (await domain.host.deviceLimits.findCgroup()))) {
    return { availableBytes: 0n, maximumVolumeBytes: 0n, minimumVolumeBytes };
  }
  const pools = name === undefined ? domain.pools.served : [domain.pools.servedNamed(name)];
  if (pools.length === 0) domain.pools.requireAllServed();
  let availableBytes = 0n;
  let maximumVolumeBytes = 0n;
  const allocate = request.provisioning === 'thick';
  const answers = await queryEachPool(pools, (pool) =>
    pool.space.bounds(minimumVolumeBytes, { allocate }),
  );
  for (const { answer: bounds } of answers) {
    availableBytes += bounds.availableBytes;
    if (bounds.maximumBytes > maximumVolumeBytes) maximumVolumeBytes = bounds.maximumBytes;
  }
  return { availableBytes, maximumVolumeBytes, minimumVolumeBytes };
}
