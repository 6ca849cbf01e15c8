import type { Domain } from '../domain.ts';
import type { Pool } from '../pool/pool.ts';
import type { Attachment } from './attachment.ts';

/**
 * Mounts below a pool's own `tmp/`: private ones of a growth or a log replay that a crash cut short, and `thaw.N` of earlier
 * versions. They are nobody's but the driver's.
 */
export function isTemporaryMount(pool: Pool, target: string): boolean {
  return pool.marker !== undefined && target.startsWith(`${pool.pathOf('tmp')}/`);
}

/** Ends those of a volume that is being unstaged or deleted, and answers what is left. KernelError EBUSY while one is in use. */
export async function endTemporaryMounts(domain: Domain, present: Attachment): Promise<Attachment> {
  const isOurs = ({ target }: { readonly target: string }): boolean =>
    domain.pools.all.some((pool) => isTemporaryMount(pool, target));
  const ours = present.mounts.filter(isOurs);
  if (ours.length === 0) return present;
  for (const { target } of ours.toReversed()) {
    await domain.host.mounts.unmount(target);
    // Its directory alone: were something mounted there still, those files would be a volume's.
    await domain.host.files.removeDirectory(target).catch(() => undefined);
  }
  return {
    ...present,
    mounts: present.mounts.filter((mount) => !isOurs(mount)),
    table: present.table?.filter((mount) => !ours.includes(mount)),
  };
}
