import { basename, dirname, join } from 'node:path';
import { messageOf, VolumeError } from '../../errors.ts';
import { hasErrno, KernelError } from '../../host/errors.ts';
import type { Files, TargetOptions } from '../../host/host.ts';
import type { Domain } from '../domain.ts';
import { poolAreas } from '../pool/layout.ts';
import { isInMountDir } from './driver-mounts.ts';

/**
 * The path of a stage or publish call as mountinfo writes it: symlinks above the last element resolved. Where a kubelet
 * directory is configured, throws `invalid` for a path outside it; below it no symlink is followed by any later use.
 */
export async function targetPathOf(domain: Domain, path: string, field: string): Promise<string> {
  const resolved = await resolveTarget(domain, path, field);
  const pool = domain.pools.served.find(({ root }) => liesIn(root, resolved));
  if (pool === undefined) return resolved;
  throw new VolumeError(
    'invalid',
    `${field} '${path}' lies in pool '${pool.name}', which a mount would hide; choose another path`,
  );
}

/** The pool's directory itself, or one that is the pool's own below it: others may have theirs beside those. */
function liesIn(root: string, path: string): boolean {
  if (path === root) return true;
  if (!path.startsWith(`${root}/`)) return false;
  const [area] = path.slice(root.length + 1).split('/');
  return poolAreas.some((one) => one === area);
}

async function resolveTarget(domain: Domain, path: string, field: string): Promise<string> {
  const { kubelet } = domain;
  if (isInMountDir(domain, path)) {
    // Looking at what the driver mounted for itself is fine, and so is growing it.
    if (field === 'volume_path') return path;
    throw new VolumeError(
      'invalid',
      `${field} '${path}' lies in the driver's own directory ${domain.mountDir ?? ''}; choose another path`,
    );
  }
  if (kubelet !== undefined) {
    for (const root of [kubelet.path, kubelet.realPath]) {
      if (path.startsWith(`${root}/`)) return join(kubelet.realPath, path.slice(root.length));
    }
    throw new VolumeError(
      'invalid',
      `${field} '${path}' does not lie below ${kubelet.path}; correct the call, or the driver's --kubelet-dir`,
    );
  }
  try {
    // Asked before any operation: a directory that hangs must keep nobody from asking for another.
    const above = dirname(path);
    const real = () => domain.host.files.realDirectory(above);
    return join(await domain.ownedBy(`target ${above}`, real), basename(path));
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return path;
    throw new VolumeError('wrong-state', `${field} '${path}': ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** What every use of a target path passes to the host; the driver's own directory is a root of its own. */
export function targetOptions(domain: Domain, path: string): TargetOptions {
  return { root: isInMountDir(domain, path) ? domain.mountDir : domain.kubelet?.realPath };
}

/**
 * Makes the last element of a path that a mount goes onto: a directory, or an empty file for a device node (CSI spec,
 * NodePublishVolume). There already is fine. Throws `wrong-state` for a symlink or a thing of another kind.
 */
export async function ensureTarget(
  domain: Domain,
  path: string,
  kind: 'directory' | 'file',
): Promise<void> {
  try {
    await domain.host.mounts.makeTarget(path, kind, targetOptions(domain, path));
  } catch (error) {
    throw explainTarget(error, path, kind);
  }
}

function explainTarget(error: unknown, path: string, kind: string): VolumeError {
  const cause = { cause: error };
  if (hasErrno(error, 'ELOOP')) {
    return new VolumeError(
      'wrong-state',
      `${path} is, or leads through, a symbolic link; nothing is mounted there`,
      cause,
    );
  }
  if (hasErrno(error, 'ENOENT')) {
    return new VolumeError(
      'wrong-state',
      `${dirname(path)} does not exist, and only the last part of ${path} is made; make ${dirname(path)} first`,
      cause,
    );
  }
  if (hasErrno(error, 'ENOTDIR', 'EISDIR', 'EEXIST')) {
    return new VolumeError('wrong-state', `${path} exists and is not a ${kind}`, cause);
  }
  return new VolumeError('wrong-state', `cannot make ${path}: ${messageOf(error)}`, cause);
}

/**
 * Throws `wrong-state` for a target that is there and is of another kind, or holds data: a mount would hide that, and unpublish,
 * which removes the target, could never end. Nothing is changed.
 */
export async function requireFreeTarget(
  files: Files,
  path: string,
  kind: 'directory' | 'file',
): Promise<void> {
  const found = await files.status(path).catch(() => undefined);
  // What the last element may be is said again when it is opened to mount there, beyond any exchange.
  if (found === undefined) return;
  if (found.kind === 'symlink')
    throw explainTarget(new KernelError('lstat', 'ELOOP', path), path, kind);
  if ((kind === 'file') === (found.kind === 'directory')) {
    throw explainTarget(new KernelError('lstat', 'EEXIST', path), path, kind);
  }
  const isEmpty = kind === 'file' ? found.sizeBytes === 0n : await files.isEmptyDirectory(path);
  if (!isEmpty) {
    throw new VolumeError(
      'wrong-state',
      `${path} holds data, which the volume would hide; look at it and move it away`,
    );
  }
}

/** Removes the last element of a target path again: an empty directory or file. Absent is fine; what holds data stays. */
export async function removeTarget(domain: Domain, path: string): Promise<void> {
  try {
    await domain.host.mounts.removeTarget(path, targetOptions(domain, path));
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return;
    if (hasErrno(error, 'ENOTEMPTY', 'EEXIST')) throw holdsData(path, error);
    throw explainTarget(error, path, 'target of ours');
  }
}

function holdsData(path: string, cause?: unknown): VolumeError {
  return new VolumeError(
    'wrong-state',
    `${path} is not mounted but holds data; look at it and move it away`,
    { cause },
  );
}
