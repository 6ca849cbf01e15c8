import { join } from 'node:path';
import { VolumeError } from '../../errors.ts';
import type { Files } from '../../host/host.ts';
import type { VolumeId } from '../../ids.ts';
import type { NodeState } from '../../state/records.ts';
import type { Domain } from '../domain.ts';
import { lockForProcess, type ProcessLock } from '../pool/process-lock.ts';

/**
 * The driver's own staging directory (--mount-dir), with one path per volume. It serves Docker, which does not stage, and container
 * platforms that publish without staging. A volume is staged either there or by NodeStageVolume, never both.
 */

/**
 * Creates the directory, accessible to root only, and locks it: two drivers of one node derive equal ids from equal names, so each
 * needs its own. Returns its path as in mountinfo. Throws `unavailable` while another driver uses it.
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

/** Throws `unsupported` if the driver runs without --mount-dir. */
export function driverMountPathOf(domain: Domain, volumeId: VolumeId): string {
  if (domain.mountDir !== undefined) return join(domain.mountDir, volumeId);
  throw new VolumeError(
    'unsupported',
    'the driver was started without a directory for its own mounts; restart it with --mount-dir',
  );
}

export function isInMountDir(mountDir: string | undefined, path: string): boolean {
  return mountDir !== undefined && (path === mountDir || path.startsWith(`${mountDir}/`));
}

/** Whether the volume is staged in the driver's own directory, according to its node state. */
export function isStagedInMountDir(domain: Domain, nodeState: NodeState): boolean {
  return (
    nodeState.staged !== null && isInMountDir(domain.mountDir, nodeState.staged.stagingTargetPath)
  );
}
