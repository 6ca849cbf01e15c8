import { messageOf, VolumeError } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import type { Filesystem, Mount, Superblock } from '../../host/host.ts';
import type { Domain } from '../domain.ts';
import type { FoundVolume } from '../pools/pools.ts';

/**
 * Of a mount that the kernel refused: whether it did so because another XFS of the same UUID is mounted, as after a manual
 * copy of an image. It answers EINVAL then, the same as for a damaged one.
 */
export async function duplicateUuid(
  domain: Domain,
  volume: FoundVolume,
  refused: { error: unknown; filesystem: Filesystem; superblock: Superblock },
): Promise<VolumeError | undefined> {
  const { error, filesystem, superblock } = refused;
  if (filesystem.type !== 'xfs' || !hasErrno(error, 'EINVAL')) return undefined;
  const mount = await mountedWith(domain, filesystem, superblock.uuid);
  if (mount === undefined) return undefined;
  const { id } = volume.record;
  return new VolumeError(
    'wrong-state',
    `volume '${id}': its XFS has the UUID ${superblock.uuid}, and so has the one on ${mount.source}, which is mounted at ${mount.target} (${messageOf(error)}); ` +
      `the kernel mounts no two of one UUID. Unmount the other, or give this one a UUID of its own: xfs_admin -U generate ${volume.imagePath}`,
    { cause: error },
  );
}

async function mountedWith(
  domain: Domain,
  filesystem: Filesystem,
  uuid: string,
): Promise<Mount | undefined> {
  const { mounts } = domain.host;
  for (const mount of await mounts.list()) {
    if (mount.fsType !== filesystem.type) continue;
    // One that cannot be read explains nothing.
    const other = await filesystem.readSuperblock(mount.source).catch(() => undefined);
    if (other?.uuid === uuid) return mount;
  }
  return undefined;
}
