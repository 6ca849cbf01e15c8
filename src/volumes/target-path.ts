import { lstat, mkdir, open, rmdir, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { messageOf, VolumeError } from '../errors.ts';
import { hasErrno } from '../host/errors.ts';
import type { Domain } from './domain.ts';

/** Throws `invalid` when the path lies outside the kubelet directory, where that is configured. */
export function requireBelowKubeletDir(domain: Domain, path: string, field: string): void {
  const root = domain.settings.kubeletDir;
  if (root === undefined || path.startsWith(`${root}/`)) return;
  throw new VolumeError(
    'invalid',
    `${field} '${path}' does not lie below ${root}; correct the call, or the driver's --kubelet-dir`,
  );
}

/**
 * Makes the last element of a path that a mount goes onto: a directory, or an empty file for a device node (CSI spec,
 * NodePublishVolume). There already is fine. Throws `wrong-state` for a symlink or a thing of another kind.
 */
export async function ensureTarget(path: string, kind: 'directory' | 'file'): Promise<void> {
  try {
    if (kind === 'directory') await mkdir(path, { mode: 0o750 });
    else await (await open(path, 'wx', 0o660)).close();
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) {
      throw new VolumeError(
        'wrong-state',
        `${dirname(path)} does not exist; the caller makes the directory above a target`,
        { cause: error },
      );
    }
    if (!hasErrno(error, 'EEXIST')) {
      throw new VolumeError('wrong-state', `cannot make ${path}: ${messageOf(error)}`, {
        cause: error,
      });
    }
    await requireKind(path, kind);
  }
}

async function requireKind(path: string, kind: 'directory' | 'file'): Promise<void> {
  const found = await lstat(path);
  if (found.isSymbolicLink()) {
    throw new VolumeError('wrong-state', `${path} is a symbolic link; nothing is mounted there`);
  }
  const fits = kind === 'directory' ? found.isDirectory() : found.isFile();
  // A device node that is bound there already shows as a block device; what it is has been looked at before.
  if (fits || (kind === 'file' && found.isBlockDevice())) return;
  throw new VolumeError('wrong-state', `${path} exists and is not a ${kind}`);
}

/** Removes the last element of a target path again: an empty directory or file. Absent is fine; what holds data stays. */
export async function removeTarget(path: string): Promise<void> {
  try {
    const found = await lstat(path);
    if (found.isDirectory()) await rmdir(path);
    else if (found.isFile() && found.size === 0) await unlink(path);
    else {
      throw new VolumeError(
        'wrong-state',
        `${path} is neither an empty directory nor an empty file; it is left as it is`,
      );
    }
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return;
    if (hasErrno(error, 'ENOTEMPTY', 'EEXIST')) {
      throw new VolumeError(
        'wrong-state',
        `${path} is not mounted but holds files; look at them and move them away`,
        { cause: error },
      );
    }
    throw error;
  }
}
