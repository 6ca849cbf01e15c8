import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import {
  chmod,
  chown,
  link,
  lstat,
  mkdir,
  open,
  readdir,
  readlink,
  symlink,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { createRequire } from 'node:module';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { execa } from 'execa';

interface Koffi {
  load(path: string): {
    func(name: string, result: string, parameters: readonly string[]): Setxattr;
  };
}
type Setxattr = (path: string, name: string, value: Buffer, size: number, flags: number) => number;

/** Sets an extended attribute. Throws if the kernel refuses it. */
export function setAttribute(path: string, name: string, value: Buffer): void {
  const koffi = createRequire(import.meta.url)('koffi') as Koffi;
  const parameters = ['str', 'str', '_In_ uint8_t *', 'size_t', 'int'];
  const setxattr = koffi.load('libc.so.6').func('lsetxattr', 'int', parameters);
  if (setxattr(path, name, value, value.length, 0) !== 0) throw new Error(`${name} of ${path}`);
}

/** The ACL `user::rw-,user:1000:r--,group::r--,mask::r--,other::---` as the kernel stores it. */
const acl = Buffer.from(
  [
    '02000000',
    '01000600ffffffff',
    '02000400e8030000',
    '04000400ffffffff',
    '10000400ffffffff',
    '20000000ffffffff',
  ].join(''),
  'hex',
);

/** cap_net_bind_service=ep (VFS_CAP_REVISION_2). */
const capability = Buffer.from('0100000200040000000000000000000000000000', 'hex');

/** Makes a directory with everything that an import must preserve. */
export async function makeFeatureTree(root: string): Promise<void> {
  await mkdir(join(root, 'deep', 'er'), { recursive: true });
  await writeFile(join(root, 'deep', 'file'), 'content');
  await link(join(root, 'deep', 'file'), join(root, 'hard-link'));
  await symlink('deep/file', join(root, 'link'));
  await symlink('/nowhere', join(root, 'dangling'));
  await writeFile(join(root, 'sparse'), 'head');
  await truncate(join(root, 'sparse'), 3 * 1024 ** 3);
  const sparse = await open(join(root, 'sparse'), 'r+');
  await sparse.write('middle', 1024 ** 3);
  await sparse.close();
  await execa('mkfifo', [join(root, 'pipe')]);
  await execa('mknod', [join(root, 'device'), 'c', '1', '3']);
  await makeSocket(join(root, 'socket'));
  await writeFile(Buffer.from(`${root}/\xff-not-utf8`, 'latin1'), 'bytes');
  await writeFile(join(root, 'program'), '#!/bin/sh\n', { mode: 0o755 });
  setAttribute(join(root, 'program'), 'user.note', Buffer.from('kept'));
  setAttribute(join(root, 'program'), 'security.capability', capability);
  await writeFile(join(root, 'shared'), 'acl', { mode: 0o640 });
  setAttribute(join(root, 'shared'), 'system.posix_acl_access', acl);
  await chown(join(root, 'shared'), 1000, 1001);
  await chown(join(root, 'deep'), 999, 999);
  await chmod(join(root, 'deep'), 0o2750);
  await utimes(join(root, 'deep', 'file'), 1_000_000_000.123_456, 1_000_000_000.123_456);
  await chown(root, 999, 999);
  await chmod(root, 0o700);
}

/** A socket file remains when its process is killed. */
async function makeSocket(path: string): Promise<void> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(path, resolve));
  // close() removes the file, so a second name keeps it.
  await link(path, `${path}-kept`);
  await new Promise((resolve) => server.close(resolve));
}

/** One line for each entry: what `stat` and `sha256sum` say. Independent of the comparison in the driver. */
export async function describeTree(root: string): Promise<readonly string[]> {
  const lines: string[] = [];
  const links = new Map<bigint, string>();
  const visit = async (path: Buffer, name: string): Promise<void> => {
    const stats = await lstat(path, { bigint: true });
    const { mode, uid, gid, mtimeNs, rdev, ino, nlink } = stats;
    const first = links.get(ino) ?? name;
    links.set(ino, first);
    const extra = stats.isSymbolicLink()
      ? await readlink(path)
      : stats.isFile()
        ? `${stats.size} ${await hashOfFile(path)} of ${nlink > 1n ? first : name}`
        : '';
    const device = stats.isCharacterDevice() ? rdev : 0n;
    lines.push(`${name} ${mode.toString(8)} ${uid}:${gid} ${mtimeNs} ${device} ${extra}`);
    if (!stats.isDirectory()) return;
    for (const entry of await readdir(path, { encoding: 'buffer' })) {
      if (name === '.' && entry.toString() === 'lost+found') continue;
      await visit(
        Buffer.concat([path, Buffer.from('/'), entry]),
        `${name}/${entry.toString('latin1')}`,
      );
    }
  };
  await visit(Buffer.from(root), '.');
  return lines.sort();
}

async function hashOfFile(path: Buffer): Promise<string> {
  const hash = createHash('sha256');
  const stats = await lstat(path);
  // A sparse file of gigabytes: its length and its first bytes identify it here.
  const end = Math.min(stats.size, 1024 ** 2) - 1;
  if (end >= 0)
    for await (const chunk of createReadStream(path, { end })) hash.update(chunk as Buffer);
  return hash.digest('hex');
}
