import { hasErrno } from '../errors.ts';
import type { Lane } from '../lane.ts';
import { gate } from './gate.ts';
import { callAsync, libc } from './libc.ts';

/** XATTR_LIST_MAX and XATTR_SIZE_MAX of Linux. */
const maxBytes = 65_536;

type Attributes = ReadonlyMap<string, Buffer>;

/**
 * The extended attributes of two files, including ACLs and capabilities, by name (llistxattr(2), lgetxattr(2)). A symlink is not
 * followed. Empty if the filesystem has no extended attributes. A directory may have millions of files, so this is one step.
 */
export function readAttributes(
  lane: Lane,
  a: Buffer,
  b: Buffer,
): Promise<readonly [Attributes, Attributes]> {
  return gate.run(lane, 'llistxattr', async () => [await readOf(a), await readOf(b)] as const);
}

async function readOf(path: Buffer): Promise<Attributes> {
  const subject = path.toString();
  const bytes = Buffer.alloc(maxBytes);
  const text = terminated(path);
  let listed: number;
  try {
    const args = [text, bytes, bytes.length];
    listed = await callAsync({ name: 'llistxattr', subject }, libc().llistxattr, args);
  } catch (error) {
    if (hasErrno(error, 'EOPNOTSUPP')) return new Map();
    throw error;
  }
  const names = bytes.toString('latin1', 0, listed).split('\0').slice(0, -1);
  const attributes = new Map<string, Buffer>();
  for (const name of names) {
    const args = [text, terminated(Buffer.from(name, 'latin1')), bytes, bytes.length];
    const length = await callAsync({ name: 'lgetxattr', subject }, libc().lgetxattr, args);
    attributes.set(name, Buffer.from(bytes.subarray(0, length)));
  }
  return attributes;
}

function terminated(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(1)]);
}
