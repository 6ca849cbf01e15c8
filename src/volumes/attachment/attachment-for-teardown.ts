import { VolumeError } from '../../errors.ts';
import { isStorageFailure } from '../../host/errors.ts';
import type { LoopDevice } from '../../host/host.ts';
import { isOnImage, labelOf, truncatedLabelOf } from '../../host/loop/status.ts';
import { exposesDevice } from '../../host/mount/loop-mounts.ts';
import type { Domain } from '../domain.ts';
import type { FoundVolume } from '../pool/pool.ts';
import { type Attachment, attachmentOfDevices, imageStatusOf } from './attachment.ts';
import { isEntryOf, poolEntryAt } from './device-owner.ts';
import { stagingMountPaths } from './staging-path.ts';

/**
 * The attachment of a volume for calls that end its use. If the image is gone or was replaced, only the label of a device
 * identifies its volume. The label suffices to detach the device, never to use it.
 */
export async function attachmentForTeardown(
  domain: Domain,
  volume: FoundVolume,
  path: string,
): Promise<Attachment> {
  const image = await imageStatusOf(domain.host.files, volume).catch((error: unknown) => {
    // The image is gone, or its filesystem has failed.
    if (error instanceof VolumeError || isStorageFailure(error)) return undefined;
    throw error;
  });
  const devices = image === undefined ? [] : await domain.host.loops.findByImage(image);
  const claimedTargets = volume.record.kind === 'block' ? stagingMountPaths(path) : [];
  const known = { volume, claimedTargets, isTeardown: true };
  if (devices.length > 0) return attachmentOfDevices(domain, devices, { image, ...known });
  return attachmentByLabel(domain, [volume.record.id], { path, ...known });
}

/**
 * The attachment of volumes that cannot be looked up: their pool is unavailable, or their record is gone or unreadable. `path` is
 * the staging or target path in the request.
 */
export async function attachmentByLabel(
  domain: Domain,
  ids: readonly string[],
  known: {
    path?: string;
    volume?: FoundVolume;
    claimedTargets?: readonly string[];
    isTeardown?: boolean;
  } = {},
): Promise<Attachment> {
  const found: LoopDevice[] = [];
  for (const device of await domain.host.loops.list()) {
    for (const id of ids) {
      if (await isOurs(domain, device, { id, claimedPath: known.path })) found.push(device);
    }
  }
  return attachmentOfDevices(domain, found, known);
}

/**
 * A label alone proves nothing. Older drivers truncated it, so several ids may have the same label. Another driver of this node
 * that serves other pools, for example for Docker, derives equal ids from equal names, perhaps in its own mount namespace, where we
 * cannot see its images. A device is ours if its image is in the volume's entry of one of our pools or has been deleted, or if it
 * is mounted at the path in the request.
 */
async function isOurs(
  domain: Domain,
  device: LoopDevice,
  { id, claimedPath }: { id: string; claimedPath: string | undefined },
): Promise<boolean> {
  const isFullLabel = device.label === labelOf(id);
  if (!isFullLabel && device.label !== truncatedLabelOf(id)) return false;
  const { files, loops, mounts } = domain.host;
  const path = await loops.backingPath(device);
  if (path === undefined) return false;
  const entry = poolEntryAt(domain.pools.all, path);
  if (entry !== undefined) return isEntryOf(entry, id) ?? isFullLabel;
  if (isFullLabel && path.endsWith(' (deleted)')) return true;
  const image = await files.imageStatus(path).catch(() => undefined);
  if (isOnImage(device, image)) return false;
  return (await mounts.list()).some(
    (mount) =>
      claimedPath !== undefined &&
      (mount.target === claimedPath || mount.target.startsWith(`${claimedPath}/`)) &&
      exposesDevice(mount, device),
  );
}
