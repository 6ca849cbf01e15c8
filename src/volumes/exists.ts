import { lstat } from 'node:fs/promises';
import { hasErrno } from '../host/errors.ts';

/** Whether something stands at that path, a dangling symlink included. Throws when that cannot be told (EACCES, EIO). */
export async function exists(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return false;
    throw error;
  }
}
