import { VolumeError } from '../../errors.ts';
import type { LoopDevice } from '../../host/host.ts';
import { formatBytes } from '../../units.ts';
import { detach, ensureAttached } from '../attachment/attach.ts';
import { type Attachment, attachmentOf } from '../attachment/attachment.ts';
import { isStagedInMountDir } from '../attachment/mount-dir.ts';
import { mountAttached } from '../attachment/mount-volume.ts';
import { readNodeState } from '../attachment/node-state.ts';
import { recoverImage } from '../attachment/prepare-image.ts';
import { targetOptions } from '../attachment/target-path.ts';
import type { Domain } from '../domain.ts';
import { accessModes } from '../model.ts';
import type { FoundVolume } from '../pool/pool.ts';
import { stageLocked } from './stage.ts';

/**
 * Grows an ext4 filesystem if the driver lacks CAP_SYS_RESOURCE. A volume that is staged but not published is briefly unmounted.
 * The filesystem of a published volume grows at the next stage.
 */
export async function growOffline(
  domain: Domain,
  volume: FoundVolume,
  attached: { attachment: Attachment; device: LoopDevice },
): Promise<void> {
  const { record, pool } = volume;
  const { attachment, device } = attached;
  const nodeState = await readNodeState(domain, volume);
  const { staged } = nodeState;
  const isPublished = attachment.mounts.some(({ target }) => target !== staged?.stagingTargetPath);
  const isMountedByDocker =
    isStagedInMountDir(domain, nodeState) && nodeState.dockerMountIds.length > 0;
  if (staged === null || isPublished || isMountedByDocker || record.fsType === null) {
    throw new VolumeError(
      'wrong-state',
      `volume '${record.id}': its device has grown to ${formatBytes(record.sizeBytes)}, but ext4 cannot grow while it is in use because the driver lacks CAP_SYS_RESOURCE; ` +
        'the filesystem grows at the next mount of the volume: restart its pods or containers, or give the driver that capability',
    );
  }
  const { stagingTargetPath: path, mountFlags } = staged;
  const filesystem = domain.host.filesystems[record.fsType];
  await domain.host.mounts.unmount(path, targetOptions(domain, path));
  try {
    await domain.reached('expand:unmounted');
    await detach(domain, device, record.id);
    await filesystem.growUnmounted(volume.imagePath, {
      sectorSize: record.sectorSize,
      workDir: pool.directoryOf('tmp'),
    });
  } finally {
    // The volume is mounted again even if it did not grow, since it may be published at any moment. If that fails, it stays
    // unmounted until the call is repeated.
    const current = await attachmentOf(domain, volume);
    await recoverImage(domain, volume, current.devices);
    const reattached = await ensureAttached(domain, volume, current);
    await mountAttached(domain, volume, {
      fsType: record.fsType,
      device: reattached,
      target: path,
      mountFlags,
    });
  }
}

/**
 * Stages a volume again from its node state, which also grows it, if the driver was killed between the unmount and mount of
 * `growOffline`. The caller considers such a volume staged and only repeats NodeExpandVolume. After a reboot, the caller stages
 * the volume first.
 */
export async function restageInterrupted(
  domain: Domain,
  volume: FoundVolume,
  path: string,
): Promise<void> {
  if (volume.record.fsType !== 'ext4') return;
  const { staged } = await readNodeState(domain, volume);
  if (staged === null || staged.stagingTargetPath !== path) return;
  const { mounts } = await attachmentOf(domain, volume);
  const accessMode = accessModes.find((mode) => mode === staged.accessMode);
  if (mounts.length > 0 || accessMode === undefined) return;
  domain.log.warn(
    { volumeId: volume.record.id, path },
    'a volume was staged again after an interrupted growth',
  );
  const input = {
    volumeId: volume.record.id,
    stagingTargetPath: path,
    capability: { kind: 'mount', fsType: 'ext4', mountFlags: staged.mountFlags, accessMode },
  } as const;
  await stageLocked(domain, volume, input, { isRestage: true });
}
