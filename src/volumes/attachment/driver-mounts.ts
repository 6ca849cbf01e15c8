import { join } from 'node:path';
import { VolumeError } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import type { Files } from '../../host/host.ts';
import type { NodeRecord } from '../../state/records.ts';
import type { Domain } from '../domain.ts';
import type { Capability } from '../model.ts';
import type { FoundVolume } from '../pool/pool.ts';

/**
 * The driver's own staging directory, one path a volume: for Docker, which does not stage, and for a container platform that
 * publishes without staging. A volume is staged there or by CSI's NodeStageVolume, never both.
 */

/**
 * Makes the directory, for root alone, and takes it: two drivers of one node give equal ids to equal names, so each must have
 * one of its own. Answers its path as mountinfo writes it. Throws `unavailable` while another driver has it.
 */
export async function lockMountDir(
  files: Files,
  path: string,
): Promise<{ readonly path: string; readonly lock: { release(): Promise<void> } }> {
  await files.makeDirectory(path);
  const real = await files.realDirectory(path);
  try {
    return { path: real, lock: await files.lock(real) };
  } catch (error) {
    if (!hasErrno(error, 'EAGAIN', 'EWOULDBLOCK')) throw error;
    throw new VolumeError(
      'unavailable',
      `${real}, where this driver would mount volumes, is in use by another loopcsi process; stop that one, or start this one with a --mount-dir of its own`,
      { cause: error },
    );
  }
}

/** Throws `unsupported` when the driver runs without such a directory. */
export function driverMountPathOf(domain: Domain, volumeId: string): string {
  if (domain.mountDir !== undefined) return join(domain.mountDir, volumeId);
  throw new VolumeError(
    'unsupported',
    'the driver was started without a directory for its own mounts; set --mount-dir',
  );
}

export function isInMountDir(domain: Domain, path: string): boolean {
  const { mountDir } = domain;
  return mountDir !== undefined && (path === mountDir || path.startsWith(`${mountDir}/`));
}

/** Whether the volume is staged in the driver's own directory, as far as the notes know. */
export function isStagedInMountDir(domain: Domain, nodeState: NodeRecord): boolean {
  return nodeState.staged !== null && isInMountDir(domain, nodeState.staged.stagingTargetPath);
}

/** How a volume is staged there: whoever shares it on this node, it is one mount. */
export const driverMountCapability: Capability = {
  kind: 'mount',
  fsType: '',
  mountFlags: [],
  accessMode: 'SINGLE_NODE_MULTI_WRITER',
};

/**
 * Takes an empty lost+found out of a filesystem that holds nothing else: Docker copies an image's content only into an empty
 * directory, and databases want one. Done at the mount, since e2fsck makes the directory again. ext4 does not need it.
 */
export async function removeEmptyLostAndFound(
  files: Files,
  volume: FoundVolume,
  path: string,
): Promise<void> {
  if (volume.record.fsType !== 'ext4') return;
  const entries = await files.list(path);
  if (entries.length !== 1 || entries[0] !== 'lost+found') return;
  try {
    await files.removeDirectory(join(path, 'lost+found'));
  } catch (error) {
    // What e2fsck found stays, and a filesystem that is read-only stays as it is.
    if (!hasErrno(error, 'ENOTEMPTY', 'EROFS')) throw error;
  }
}
