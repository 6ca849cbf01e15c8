import type { Domain } from '../domain.ts';
import type { Pool } from '../pool/pool.ts';
import type { Attachment } from './attachment.ts';

/**
 * Whether a mount is below the `tmp/` of the pool, where all mounts belong to the driver: private mounts of a growth or log replay
 * that a crash interrupted, and `thaw.N` of earlier versions.
 */
export function isTemporaryMount(pool: Pool, target: string): boolean {
  return pool.marker !== undefined && target.startsWith(`${pool.directoryOf('tmp')}/`);
}

/**
 * Unmounts the temporary mounts of a volume that is being unstaged or deleted, and returns the attachment without them. Throws
 * KernelError EBUSY while one is in use.
 */
export async function endTemporaryMounts(
  domain: Domain,
  attachment: Attachment,
): Promise<Attachment> {
  const isOurs = ({ target }: { readonly target: string }): boolean =>
    domain.pools.all.some((pool) => isTemporaryMount(pool, target));
  const ours = attachment.mounts.filter(isOurs);
  if (ours.length === 0) return attachment;
  for (const { target } of ours.toReversed()) {
    await domain.host.mounts.unmount(target);
    // Never recursively: if something were still mounted there, its files would belong to a volume.
    await domain.host.files.removeDirectory(target).catch(() => undefined);
  }
  return {
    ...attachment,
    mounts: attachment.mounts.filter((mount) => !isOurs(mount)),
    table: attachment.table?.filter((mount) => !ours.includes(mount)),
  };
}
