/** Tells loop devices of another driver from our own. */
import { hasErrno } from '../../host/errors.ts';
import type { FileIdentity, Host, LoopDevice } from '../../host/host.ts';
import { isOnImage, labelledId } from '../../host/loop/status.ts';
import { otherNodeTagIn } from '../../ids.ts';
import type { Domain } from '../domain.ts';
import type { Pool } from '../pool/pool.ts';

/** What the kernel appends to the path of an image that was unlinked. */
export const deletedSuffix = ' (deleted)';

/** Whether the label of the device has the id of another node. A label that was shortened does not tell. */
export function isOfOtherNode(device: LoopDevice, pool: Pick<Pool, 'marker'>): boolean {
  const id = labelledId(device);
  const nodeTag = pool.marker?.nodeTag;
  if (id === undefined || nodeTag === undefined) return false;
  return otherNodeTagIn(id, nodeTag) !== undefined;
}

/**
 * Whether a device, whose image has a path in the pool, may be of another driver. The kernel reports the path as the process saw
 * it that attached the image. On a machine with several nodes in containers, such as kind's, drivers have equal paths in different
 * mount namespaces. If the image was not deleted, it is ours only if the path leads to this inode here; a deleted image is ours
 * only if it was on the pool's filesystem.
 */
export async function mayBeOfOtherDriver(
  { host }: Domain,
  device: LoopDevice,
  { file, pool }: { readonly file: string; readonly pool: Pool },
): Promise<boolean> {
  if (isOfOtherNode(device, pool)) return true;
  const path = file.endsWith(deletedSuffix) ? undefined : file;
  if (path !== undefined) return !isOnImage(device, await identityAt(host, path));
  const root = await identityAt(host, pool.root);
  return root !== undefined && root.device !== device.backing.device;
}

async function identityAt({ files }: Host, path: string): Promise<FileIdentity | undefined> {
  try {
    return await files.status(path);
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw error;
  }
}
