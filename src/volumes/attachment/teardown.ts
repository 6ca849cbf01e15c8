import { join } from 'node:path';
import { VolumeError } from '../../errors.ts';
import { isStorageFailure } from '../../host/errors.ts';
import type { LoopDevice } from '../../host/host.ts';
import { labelOf, truncatedLabelOf } from '../../host/loop/status.ts';
import { showsDevice } from '../../host/mount/loop-mounts.ts';
import type { Domain } from '../domain.ts';
import type { FoundVolume } from '../pool/pool.ts';
import { type Attachment, attachmentOfDevices, imageStatusOf } from './attachment.ts';
import { stagedNodeName } from './device-binds.ts';
import { entryOf, isEntryOf } from './device-owner.ts';

/**
 * The same for calls that take away. Where the image is gone or was replaced, the label on a device is all that tells whose
 * it was: good enough to end it, never to use it.
 */
export async function attachmentForTeardown(
  domain: Domain,
  volume: FoundVolume,
  path: string,
): Promise<Attachment> {
  const image = await imageStatusOf(domain, volume).catch((error: unknown) => {
    // Gone, or on a filesystem that has failed.
    if (error instanceof VolumeError || isStorageFailure(error)) return undefined;
    throw error;
  });
  const devices = image === undefined ? [] : await domain.host.loops.findByImage(image);
  const asked = volume.record.kind === 'block' ? [path, join(path, stagedNodeName)] : [];
  const about = { volume, asked, isTeardown: true };
  if (devices.length > 0) return attachmentOfDevices(domain, devices, { image, ...about });
  return attachmentByLabel(domain, [volume.record.id], { path, ...about });
}

/**
 * What is left of volumes that cannot be looked up at all: their pool is away, or their record gone or unreadable. `path` is
 * where the caller wants it to end.
 */
export async function attachmentByLabel(
  domain: Domain,
  ids: readonly string[],
  about: {
    path?: string;
    volume?: FoundVolume;
    asked?: readonly string[];
    isTeardown?: boolean;
  } = {},
): Promise<Attachment> {
  const remains: LoopDevice[] = [];
  for (const device of await domain.host.loops.list()) {
    for (const id of ids) {
      if (await isOurs(domain, device, { id, asked: about.path })) remains.push(device);
    }
  }
  return attachmentOfDevices(domain, remains, about);
}

/**
 * A label alone proves nothing: older drivers cut it, so that several ids may share it, and another driver of this machine, one that serves other pools for the same node, Docker's for
 * example, gives equal ids to equal names, perhaps from a mount namespace of its own, where we cannot see its images. Ours is
 * what lies in the volume's entry in a pool of ours, what has lost its image, and else only what is mounted where the caller
 * says.
 */
async function isOurs(
  domain: Domain,
  device: LoopDevice,
  { id, asked }: { id: string; asked: string | undefined },
): Promise<boolean> {
  const isWhole = device.label === labelOf(id);
  if (!isWhole && device.label !== truncatedLabelOf(id)) return false;
  const { files, loops, mounts } = domain.host;
  const path = await loops.backingPath(device);
  if (path === undefined) return false;
  const entry = entryOf(domain, path);
  if (entry !== undefined) return isEntryOf(entry, id) ?? isWhole;
  if (isWhole && path.endsWith(' (deleted)')) return true;
  const image = await files.imageStatus(path).catch(() => undefined);
  const { backing } = device;
  if (image?.device === backing.device && image.inode === backing.inode) return false;
  return (await mounts.list()).some(
    (mount) =>
      asked !== undefined &&
      (mount.target === asked || mount.target.startsWith(`${asked}/`)) &&
      showsDevice(mount, device),
  );
}
