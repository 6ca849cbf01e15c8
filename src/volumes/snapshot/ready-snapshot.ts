import { VolumeError } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import type { ImageStatus } from '../../host/host.ts';
import { formatBytes } from '../../units.ts';
import type { Domain } from '../domain.ts';
import type { FoundSnapshot } from '../pool/pools.ts';

/** Throws `not-found`, and `unavailable` while the snapshot is being copied or its pool is not served. */
export function readySnapshot(domain: Domain, snapshotId: string): FoundSnapshot {
  const found = domain.pools.getSnapshot(snapshotId);
  found.pool.requireServed();
  if (found.record.state === 'ready') return found;
  throw new VolumeError(
    'unavailable',
    `snapshot '${snapshotId}' is still being copied; try again when it is ready to use`,
  );
}

/** Throws for a missing or truncated image. A copy of a truncated image would be a smaller volume, or one whose end reads as zeros. */
export async function requireWholeImage(
  domain: Domain,
  { record, imagePath }: FoundSnapshot,
): Promise<ImageStatus> {
  const subject = `snapshot '${record.id}'`;
  let image: ImageStatus;
  try {
    image = await domain.host.files.imageStatus(imagePath);
  } catch (cause) {
    if (!hasErrno(cause, 'ENOENT')) throw cause;
    throw new VolumeError(
      'unavailable',
      `${subject}: its record exists, but its image ${imagePath} is missing; restore the image, or delete the snapshot`,
      { cause },
    );
  }
  if (image.sizeBytes >= record.sizeBytes) return image;
  throw damagedSourceError(
    { subject },
    `its image ${imagePath} was truncated to ${formatBytes(image.sizeBytes)} of ${formatBytes(record.sizeBytes)}`,
  );
}

export function damagedSourceError(
  { subject }: { readonly subject: string },
  detail: string,
): VolumeError {
  return new VolumeError(
    'wrong-state',
    `${subject} is damaged, so no volume was created from it: ${detail}; use another snapshot or a backup`,
  );
}
