import { basename, dirname, join } from 'node:path';
import { messageOf, VolumeError } from '../../errors.ts';
import { hasErrno, KernelError } from '../../host/errors.ts';
import type { Files, TargetOptions } from '../../host/host.ts';
import type { Domain } from '../domain.ts';
import { inLane } from '../engine/lanes.ts';
import { poolAreas } from '../pool/layout.ts';
import { isInMountDir } from './mount-dir.ts';

/**
 * Returns the path of a stage or publish call as in mountinfo, with symlinks above its last element resolved. If a kubelet
 * directory is configured, throws `invalid` for a path outside it; below it, no later use follows a symlink.
 */
export async function checkedTargetPath(
  domain: Domain,
  path: string,
  field: string,
): Promise<string> {
  const resolved = await resolveTarget(domain, path, field);
  const pool = domain.pools.served.find(({ root }) => isInPool(root, resolved));
  if (pool === undefined) return resolved;
  throw new VolumeError(
    'invalid',
    `${field} '${path}' is in pool '${pool.name}', which a mount would hide; choose another path`,
  );
}

/** Whether the path is the pool's directory or in one of its areas; other directories below it may be used for mounts. */
function isInPool(root: string, path: string): boolean {
  if (path === root) return true;
  if (!path.startsWith(`${root}/`)) return false;
  const [area] = path.slice(root.length + 1).split('/');
  return poolAreas.some((one) => one === area);
}

async function resolveTarget(domain: Domain, path: string, field: string): Promise<string> {
  const { kubelet } = domain;
  if (isInMountDir(domain.mountDir, path)) {
    // The driver's own mounts may be examined and grown.
    if (field === 'volume_path') return path;
    throw new VolumeError(
      'invalid',
      `${field} '${path}' is in the driver's own directory ${domain.mountDir ?? ''}; choose another path`,
    );
  }
  if (kubelet !== undefined) {
    for (const root of [kubelet.path, kubelet.realPath]) {
      if (path.startsWith(`${root}/`)) return join(kubelet.realPath, path.slice(root.length));
    }
    throw new VolumeError(
      'invalid',
      `${field} '${path}' is not below ${kubelet.path}; correct the call, or the driver's --kubelet-dir`,
    );
  }
  try {
    // Each parent directory has its own lane, so that a directory that hangs does not delay calls for others.
    const above = dirname(path);
    const { host } = inLane(domain, { kind: 'target', id: above });
    return join(await host.files.resolveDirectory(above), basename(path));
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return path;
    throw new VolumeError('wrong-state', `${field} '${path}': ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** The root below which the host follows no symlink of a target path: the kubelet directory, or the driver's own one. */
export function targetOptions(domain: Domain, path: string): TargetOptions {
  return { root: isInMountDir(domain.mountDir, path) ? domain.mountDir : domain.kubelet?.realPath };
}

/**
 * Creates the last element of a mount target: a directory, or an empty file for a device node (CSI spec, NodePublishVolume).
 * Idempotent. Throws `wrong-state` if a symlink or a file of another kind exists there.
 */
export async function ensureTarget(
  domain: Domain,
  path: string,
  kind: 'directory' | 'file',
): Promise<void> {
  try {
    await domain.host.mounts.makeTarget(path, kind, targetOptions(domain, path));
  } catch (error) {
    throw targetError(error, path, kind);
  }
}

function targetError(error: unknown, path: string, kind: string): VolumeError {
  const cause = { cause: error };
  if (hasErrno(error, 'ELOOP')) {
    return new VolumeError(
      'wrong-state',
      `${path} is a symbolic link or leads through one, so nothing is mounted there; use a path without symbolic links`,
      cause,
    );
  }
  if (hasErrno(error, 'ENOENT')) {
    return new VolumeError(
      'wrong-state',
      `${dirname(path)} does not exist, and only the last part of ${path} is created; create ${dirname(path)} first`,
      cause,
    );
  }
  if (hasErrno(error, 'ENOTDIR', 'EISDIR', 'EEXIST')) {
    return new VolumeError(
      'wrong-state',
      `${path} exists and is not a ${kind}; remove it, or choose another path`,
      cause,
    );
  }
  return new VolumeError('wrong-state', `cannot create ${path}: ${messageOf(error)}`, cause);
}

/**
 * Throws `wrong-state` if the target exists and is of another kind or holds data: a mount would hide the data, and unpublish,
 * which removes the target, could never succeed. Changes nothing.
 */
export async function requireFreeTarget(
  files: Files,
  path: string,
  kind: 'directory' | 'file',
): Promise<void> {
  const found = await files.status(path).catch(() => undefined);
  // The kind is checked again when the target is opened for the mount, so nothing is gained by replacing the target in between.
  if (found === undefined) return;
  if (found.kind === 'symlink')
    throw targetError(new KernelError('lstat', 'ELOOP', path), path, kind);
  if ((kind === 'file') === (found.kind === 'directory')) {
    throw targetError(new KernelError('lstat', 'EEXIST', path), path, kind);
  }
  const isEmpty = kind === 'file' ? found.sizeBytes === 0n : await files.isEmptyDirectory(path);
  if (!isEmpty) {
    throw new VolumeError(
      'wrong-state',
      `${path} holds data, which the volume would hide; examine it and move it elsewhere`,
    );
  }
}

/** Removes the last element of a target path, an empty directory or file. Idempotent. Throws `wrong-state` if it holds data. */
export async function removeTarget(domain: Domain, path: string): Promise<void> {
  try {
    await domain.host.mounts.removeTarget(path, targetOptions(domain, path));
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return;
    if (hasErrno(error, 'ENOTEMPTY', 'EEXIST')) throw holdsDataError(path, error);
    throw targetError(error, path, 'mount target');
  }
}

function holdsDataError(path: string, cause?: unknown): VolumeError {
  return new VolumeError(
    'wrong-state',
    `${path} is not mounted but holds data; examine it and move it elsewhere`,
    { cause },
  );
}
