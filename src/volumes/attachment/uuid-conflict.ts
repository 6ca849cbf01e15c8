import { messageOf, VolumeError } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import type { Filesystem, FsType, Mount } from '../../host/host.ts';
import type { Domain } from '../domain.ts';
import { callIdOf } from '../pool/contents.ts';
import type { FoundVolume } from '../pool/pool.ts';

/**
 * The errno with which the kernel refuses to mount a filesystem with a duplicate UUID, and the command that sets a new UUID. ext4
 * can mount both filesystems.
 */
const refusals: Partial<Record<FsType, { errno: string; newUuid: string }>> = {
  // A damaged XFS gives the same errno.
  xfs: { errno: 'EINVAL', newUuid: 'xfs_admin -U generate' },
  btrfs: { errno: 'EEXIST', newUuid: 'btrfstune -m' },
};

/**
 * The error for a mount that the kernel refused because a filesystem with the same UUID is mounted, for example after an image was
 * copied manually; undefined if the mount was refused for another reason. btrfs also refuses if the other device is merely
 * registered with the kernel.
 */
export async function duplicateUuidError(
  domain: Domain,
  volume: FoundVolume,
  refused: { error: unknown; filesystem: Filesystem },
): Promise<VolumeError | undefined> {
  const { error, filesystem } = refused;
  const refusal = refusals[filesystem.type];
  if (refusal === undefined || !hasErrno(error, refusal.errno)) return undefined;
  // It is mounted with nouuid, so the UUID is not the reason.
  if (filesystem.type === 'xfs' && volume.record.createdKind === 'block') return undefined;
  const superblock = await filesystem.readSuperblock(volume.imagePath);
  if (superblock === undefined) return undefined;
  const mount = await mountedWith(domain, filesystem, superblock.uuid);
  if (mount === undefined && filesystem.type === 'xfs') return undefined;
  const id = callIdOf(volume);
  const other =
    mount === undefined
      ? "another device that is registered with the kernel (the kernel's log names it)"
      : `the one on ${mount.source}, which is mounted at ${mount.target}`;
  const release = mount === undefined ? 'Detach the other' : 'Unmount the other';
  return new VolumeError(
    'wrong-state',
    `volume '${id}': its ${filesystem.type} filesystem has the UUID ${superblock.uuid}, and so has ${other} (${messageOf(error)}); ` +
      `the kernel mounts only one filesystem with the same UUID. ${release}, or give this one a new UUID: ${refusal.newUuid} ${volume.imagePath}`,
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
    // A superblock that cannot be read does not explain the refusal.
    const other = await filesystem.readSuperblock(mount.source).catch(() => undefined);
    if (other?.uuid === uuid) return mount;
  }
  return undefined;
}
