import { messageOf, VolumeError } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import type { Filesystem, FsType, Mount } from '../../host/host.ts';
import type { Domain } from '../domain.ts';
import type { FoundVolume } from '../pools/pools.ts';

/** How each filesystem refuses a mount for this reason, and gets a UUID of its own. With other filesystems both are mounted. */
const refusals: Partial<Record<FsType, { errno: string; newUuid: string }>> = {
  // The same as for a damaged one.
  xfs: { errno: 'EINVAL', newUuid: 'xfs_admin -U generate' },
  btrfs: { errno: 'EEXIST', newUuid: 'btrfstune -m' },
};

/**
 * Of a mount that the kernel refused: whether it did so because another filesystem of the same UUID is mounted, as after a manual
 * copy of an image. For btrfs it suffices that the kernel was told of the other one's device.
 */
export async function duplicateUuid(
  domain: Domain,
  volume: FoundVolume,
  refused: { error: unknown; filesystem: Filesystem },
): Promise<VolumeError | undefined> {
  const { error, filesystem } = refused;
  const refusal = refusals[filesystem.type];
  if (refusal === undefined || !hasErrno(error, refusal.errno)) return undefined;
  const superblock = await filesystem.readSuperblock(volume.imagePath);
  if (superblock === undefined) return undefined;
  const mount = await mountedWith(domain, filesystem, superblock.uuid);
  if (mount === undefined && filesystem.type === 'xfs') return undefined;
  const { id } = volume.record;
  const other =
    mount === undefined
      ? 'another device that the kernel was told of, which dmesg names'
      : `the one on ${mount.source}, which is mounted at ${mount.target}`;
  const release = mount === undefined ? 'Detach the other' : 'Unmount the other';
  return new VolumeError(
    'wrong-state',
    `volume '${id}': its ${filesystem.type} has the UUID ${superblock.uuid}, and so has ${other} (${messageOf(error)}); ` +
      `the kernel mounts no two of one UUID. ${release}, or give this one a UUID of its own: ${refusal.newUuid} ${volume.imagePath}`,
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
