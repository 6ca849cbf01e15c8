import { hasErrno, KernelError } from '../../host/errors.ts';
import type { Mount } from '../../host/host.ts';
import { type Attachment, filesystemMountOf } from '../attachment/attachment.ts';
import { readNodeState } from '../attachment/node-state.ts';
import type { Domain } from '../domain.ts';
import type { VolumeCondition } from '../model.ts';
import type { FoundVolume } from '../pool/pool.ts';
import type { PoolQuery } from '../pool/pool-query.ts';
import { condition, imageUnreadableCondition } from './conditions.ts';

/** Returns the conditions of the filesystem in the image: from its mount, and from its superblock if no device is attached. */
export async function filesystemConditions(
  domain: Domain,
  volume: FoundVolume,
  { attachment, query }: { readonly attachment: Attachment; readonly query: PoolQuery },
): Promise<readonly VolumeCondition[]> {
  const conditions = await mountConditions(domain, volume, attachment);
  if (attachment.devices.length > 0) return conditions;
  return [...conditions, ...(await superblockConditions(domain, volume, query))];
}

async function mountConditions(
  domain: Domain,
  volume: FoundVolume,
  attachment: Attachment,
): Promise<VolumeCondition[]> {
  const conditions: VolumeCondition[] = [];
  const { staged } = await readNodeState(domain, volume);
  const device = attachment.readWrite;
  const mount = filesystemMountOf(attachment);
  if (device === undefined && staged !== null && volume.record.kind === 'mount') {
    conditions.push(...(await foreignMountConditions(domain, staged.stagingTargetPath)));
  }
  if (mount === undefined) return conditions;
  // An inline volume is never staged, but the options of its only mount show whether read-only was requested.
  const requestedFlags =
    volume.record.ephemeralTarget === null ? staged?.mountFlags : mount.options;
  const wantsReadOnly = requestedFlags?.includes('ro') ?? false;
  conditions.push(...(await superblockStateConditions(domain, mount, wantsReadOnly)));
  if (device !== undefined && volume.record.fsType === 'ext4') {
    const errors = await domain.host.filesystems.ext4.countErrors(device);
    if (errors > 0) {
      conditions.push(
        condition(
          'DEGRADED',
          'FilesystemErrors',
          `ext4 counted ${errors} errors; stop the pods that use the volume soon, so that the filesystem is checked at the next mount`,
        ),
      );
    }
  }
  return conditions;
}

async function superblockStateConditions(
  domain: Domain,
  mount: Mount,
  wantsReadOnly: boolean,
): Promise<VolumeCondition[]> {
  const conditions: VolumeCondition[] = [];
  const { superOptions } = mount;
  const isReadOnly = superOptions.includes('ro') || superOptions.includes('emergency_ro');
  if (isReadOnly && !wantsReadOnly) {
    conditions.push(
      condition(
        'INACCESSIBLE',
        'FilesystemReadOnly',
        'the kernel made the filesystem read-only after an error; stop the pods that use the volume, so that the filesystem is checked at the next mount',
      ),
    );
  }
  if (superOptions.includes('shutdown') || (await isShutDown(domain, mount.target))) {
    conditions.push(
      condition(
        'INACCESSIBLE',
        'FilesystemShutdown',
        'the kernel shut the filesystem down after an error; stop the pods that use the volume, so that the log is replayed at the next mount',
      ),
    );
  }
  return conditions;
}

/** mountinfo does not show that an XFS filesystem was shut down, but stat of its root fails with EIO. */
async function isShutDown(domain: Domain, target: string): Promise<boolean> {
  return domain.host.files.imageStatus(target).then(
    () => false,
    (error: unknown) => hasErrno(error, 'EIO', 'EUCLEAN'),
  );
}

/**
 * Returns a condition if another device is mounted at the staging path: the image was replaced, or its disk reappeared with
 * another device number.
 */
async function foreignMountConditions(domain: Domain, path: string): Promise<VolumeCondition[]> {
  const top = await domain.host.mounts.at(path);
  if (top === undefined) return [];
  return [
    condition(
      'INACCESSIBLE',
      'DeviceLost',
      `the filesystem mounted at ${path} (${top.source}) no longer belongs to the volume; restart the pods that use it`,
    ),
  ];
}

/**
 * Checks the superblock of a volume that is not in use. Otherwise, an unreadable superblock would only be noticed at the next
 * stage.
 */
async function superblockConditions(
  domain: Domain,
  { pool, record, imagePath }: FoundVolume,
  query: PoolQuery,
): Promise<readonly VolumeCondition[]> {
  const { fsType } = record;
  if (fsType === null) return [];
  return query(pool, async () => {
    try {
      await domain.host.filesystems[fsType].readSuperblock(imagePath);
      return [];
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      return [imageUnreadableCondition(error)];
    }
  });
}
