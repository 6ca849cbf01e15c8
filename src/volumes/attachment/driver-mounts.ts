import { join } from 'node:path';
import { VolumeError } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import type { Files } from '../../host/host.ts';
import type { NodeState } from '../../state/records.ts';
import type { Domain } from '../domain.ts';
import type { VolumeId } from '../ids.ts';
import type { Capability } from '../model.ts';
import type { FoundVolume } from '../pool/pool.ts';
import { lockForProcess, type ProcessLock } from '../pool/process-lock.ts';

/**
 * The driver's own staging directory (--mount-dir), with one path per volume: for Docker, which does not stage, and for a
 * container platform that publishes without staging. A volume is staged there or by NodeStageVolume, never both.
 */

/**
 * Makes the directory, accessible to root only, and locks it: two drivers of one node give equal ids to equal names, so each
 * needs its own. Returns its path as mountinfo shows it. Throws `unavailable` while another driver uses it.
 */
export async function lockMountDir(
  files: Files,
  path: string,
): Promise<{ readonly path: string; readonly lock: ProcessLock }> {
  await files.makeDirectory(path);
  const real = await files.resolveDirectory(path);
  const lock = await lockForProcess(files, real, {
    reason: 'unavailable',
    message: `the mount directory ${real} is in use by another loopcsi process; stop that process, or start this one with its own --mount-dir`,
  });
  return { path: real, lock };
}

/** Throws `unsupported` if the driver runs without such a directory. */
export function driverMountPathOf(domain: Domain, volumeId: VolumeId): string {
  if (domain.mountDir !== undefined) return join(domain.mountDir, volumeId);
  throw new VolumeError(
    'unsupported',
    'the driver was started without a directory for its own mounts; restart it with --mount-dir',
  );
}

export function isInMountDir(domain: Domain, path: string): boolean {
  const { mountDir } = domain;
  return mountDir !== undefined && (path === mountDir || path.startsWith(`${mountDir}/`));
}

/** Whether the volume is staged in the driver's own directory, according to its node state. */
export function isStagedInMountDir(domain: Domain, nodeState: NodeState): boolean {
  return nodeState.staged !== null && isInMountDir(domain, nodeState.staged.stagingTargetPath);
}

/** All users of a volume on this node share one mount there. */
export const driverMountCapability: Capability = {
  kind: 'mount',
  fsType: '',
  mountFlags: [],
  accessMode: 'SINGLE_NODE_MULTI_WRITER',
};

/**
 * Removes an empty lost+found from a filesystem that has no other content: Docker copies an image's content only into an empty
 * directory, and databases require one. It is removed at each mount, since e2fsck makes it again. ext4 does not need it.
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
    // Files that e2fsck recovered stay, and a read-only filesystem is left alone.
    if (!hasErrno(error, 'ENOTEMPTY', 'EROFS')) throw error;
  }
}
