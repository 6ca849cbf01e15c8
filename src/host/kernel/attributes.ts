import { hasErrno } from '../errors.ts';
import type { Lane } from '../lane.ts';
import { call, libc } from './libc.ts';

/** XATTR_LIST_MAX and XATTR_SIZE_MAX of Linux. */
const maxBytes = 65_536;

/**
 * The extended attributes of a file, including ACLs and capabilities, by name (llistxattr(2), lgetxattr(2)). A symlink is not
 * followed. Empty if the filesystem has no extended attributes.
 */
export async function readAttributes(
  lane: Lane,
  path: Buffer,
): Promise<ReadonlyMap<string, Buffer>> {
  const subject = path.toString();
  const bytes = Buffer.alloc(maxBytes);
  let listed: number;
  try {
    const args = [terminated(path), bytes, bytes.length];
    listed = await call(lane, { name: 'llistxattr', subject }, libc().llistxattr, args);
  } catch (error) {
    if (hasErrno(error, 'EOPNOTSUPP')) return new Map();
    throw error;
  }
  const names = bytes.toString('latin1', 0, listed).split('\0').slice(0, -1);
  const attributes = new Map<string, Buffer>();
  for (const name of names) {
    const args = [terminated(path), terminated(Buffer.from(name, 'latin1')), bytes, bytes.length];
    const length = await call(lane, { name: 'lgetxattr', subject }, libc().lgetxattr, args);
    attributes.set(name, Buffer.from(bytes.subarray(0, length)));
  }
  return attributes;
}

function terminated(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(1)]);
}
