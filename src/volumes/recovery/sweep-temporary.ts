import { join } from 'node:path';
import { isPrivateMountName } from '../../host/filesystem/private-mount-name.ts';
import type { Host, Mount } from '../../host/host.ts';
import { isTemporaryMount } from '../attachment/temporary-mounts.ts';
import type { Domain } from '../domain.ts';
import { logFailure } from '../engine/failures.ts';
import type { Pool } from '../pool/pool.ts';

/** Removes the entries that interrupted calls left in `tmp/`, except copies that can be resumed. */
export async function sweepTemporary(domain: Domain, pool: Pool): Promise<void> {
  const mounts = await domain.host.mounts.list();
  for (const { target } of mounts.filter((one) => isTemporaryMount(pool, one.target)).reverse()) {
    await logFailure(domain.log, target, () => domain.host.mounts.unmount(target));
  }
  const remaining = await domain.host.mounts.list();
  for (const entry of await domain.host.files.list(pool.directoryOf('tmp'))) {
    await logFailure(domain.log, entry, () =>
      sweepEntry(domain, pool, { entry, mounts: remaining }),
    );
  }
}

/** Removes one entry, unless something is mounted in it: the files below a mount belong to a volume. */
async function sweepEntry(
  domain: Domain,
  pool: Pool,
  { entry, mounts }: { readonly entry: string; readonly mounts: readonly Mount[] },
): Promise<void> {
  const path = join(pool.directoryOf('tmp'), entry);
  const mounted = mounts.find(({ target }) => target === path || target.startsWith(`${path}/`));
  if (mounted !== undefined) {
    domain.log.warn(
      { target: mounted.target },
      'a temporary mount was in use and was left in place',
    );
    return;
  }
  if (isPrivateMountName(entry)) await domain.host.files.removeDirectory(path);
  else if (await domain.interruptedCreates.keep(domain.host, pool, entry)) return;
  else if (await domain.interruptedRestores.keep(domain.host, pool, entry)) return;
  else await removeIncomplete(domain.host, path);
  domain.log.info({ pool: pool.name, entry }, 'removed an incomplete entry of an interrupted call');
}

/**
 * Removes an incomplete entry. Its mount points are removed first, with rmdir(2), which fails if something is mounted there,
 * before any file is removed.
 */
async function removeIncomplete({ files }: Host, path: string): Promise<void> {
  const { kind } = await files.status(path);
  for (const name of kind === 'directory' ? await files.list(path) : []) {
    if (isPrivateMountName(name)) await files.removeDirectory(join(path, name));
  }
  await files.removeTree(path);
}
