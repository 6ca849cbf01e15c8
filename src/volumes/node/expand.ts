import { VolumeError } from '../../errors.ts';
import type { VolumeRecord } from '../../state/records.ts';
import { formatBytes } from '../../units.ts';
import { ensureDeviceSize } from '../attachment/attach.ts';
import {
  type Attachment,
  attachmentOf,
  filesystemMountOf,
  isMountedReadOnly,
} from '../attachment/attachment.ts';
import { requireMatchingCapability } from '../attachment/capability-fit.ts';
import { isSmaller } from '../attachment/prepare-image.ts';
import { stagingMountPaths } from '../attachment/staging-path.ts';
import { checkedTargetPath } from '../attachment/target-path.ts';
import { changeVolume } from '../change-volume.ts';
import type { Domain } from '../domain.ts';
import type { Call } from '../engine/operations.ts';
import type { NodeExpandInput } from '../model.ts';
import type { FoundVolume } from '../pool/pool.ts';
import { expandImage } from '../volume/expand.ts';
import { growOffline, restageInterrupted } from './grow-offline.ts';

/**
 * CSI spec, NodeExpandVolume: grows the device and filesystem, and also the promised size and the image if ControllerExpandVolume
 * has not.
 */
export async function nodeExpandVolume(
  domain: Domain,
  call: Call,
  input: NodeExpandInput,
): Promise<{ sizeBytes: bigint }> {
  const volumeCall = { name: 'NodeExpandVolume', volumeId: input.volumeId, request: input };
  return changeVolume(domain, call, volumeCall, async (domain, volume, operation) => {
    if (input.capability !== undefined)
      requireMatchingCapability(volume, input.capability, 'invalid');
    const volumePath = await checkedTargetPath(domain, input.volumePath, 'volume_path');
    await restageInterrupted(domain, volume, volumePath);
    const attachment = await attachmentOf(domain, volume);
    requireMountedAt(volume, volumePath, attachment);
    const grown = await expandImage(domain, volume, input, () => {
      operation.beginEffects();
    });
    await growOnNode(domain, grown, attachment);
    return { sizeBytes: grown.record.sizeBytes };
  });
}

function requireMountedAt(volume: FoundVolume, volumePath: string, attachment: Attachment): void {
  const { id } = volume.record;
  const paths = stagingMountPaths(volumePath);
  if (attachment.mounts.some(({ target }) => paths.includes(target))) return;
  throw new VolumeError(
    'not-found',
    `volume '${id}' is not mounted at ${volumePath}; use the path where it is staged or published`,
  );
}

async function growOnNode(
  domain: Domain,
  volume: FoundVolume,
  attachment: Attachment,
): Promise<void> {
  const { record } = volume;
  await domain.guard.thaw(record.id);
  for (const device of attachment.devices) {
    await ensureDeviceSize(domain, device, record.sizeBytes);
  }
  await domain.reached('expand:device-grown');
  if (record.fsType === null) return;
  const device = attachment.readWrite;
  const mount = filesystemMountOf(attachment);
  if (device === undefined || mount === undefined) return;
  const filesystem = domain.host.filesystems[record.fsType];
  if (isMountedReadOnly(mount)) {
    // The stage grows the filesystem before a read-only mount, and then nothing is left to grow.
    const superblock = await filesystem.readSuperblock(volume.imagePath);
    if (superblock !== undefined && !isSmaller(superblock, record.sizeBytes)) return;
    throw readOnlyError(record);
  }
  const outcome = await filesystem.growMounted(mount.target, device, record.sizeBytes);
  if (outcome === 'not-permitted') await growOffline(domain, volume, { attachment, device });
  await domain.reached('expand:filesystem-grown');
}

function readOnlyError({ id, sizeBytes }: VolumeRecord): VolumeError {
  return new VolumeError(
    'wrong-state',
    `volume '${id}': its device has grown to ${formatBytes(sizeBytes)}, but the kernel does not grow a filesystem that is mounted read-only; ` +
      'it grows at the next mount of the volume: restart its pods or containers',
  );
}
