import { arch } from 'node:process';
import { hasErrno, KernelError } from '../errors.ts';
import { callNumbers, constants, errnoName, layouts, type Request, requests } from './abi.ts';
import { gate } from './gate.ts';
import { call, callLater, callNow, libc } from './libc.ts';

export { loadKernel } from './libc.ts';

/**
 * The system calls that node:fs lacks, typed. All that can block are asynchronous and pass the gate; a failure is a
 * KernelError with the errno's name.
 */

/** A mount replays logs and an unmount writes everything back, so both may take their time. */
const mountBoundMs = 5 * 60_000;

/** mount(2). `named` is the target's name for people, where `target` is a descriptor's path. */
export async function mount(
  source: string,
  target: string,
  options: { fsType: string | null; flags: number; data: string },
  named: string = target,
): Promise<void> {
  const subject = `${source} on ${named}`;
  const args = [source, target, options.fsType, options.flags, options.data];
  await call({ name: 'mount', subject }, libc().mount, args, { boundMs: mountBoundMs });
}

/** umount2(2) with UMOUNT_* and MNT_* flags. `named` as with `mount`. */
export async function umount2(
  target: string,
  flags: number,
  named: string = target,
): Promise<void> {
  await call({ name: 'umount', subject: named }, libc().umount2, [target, flags], {
    boundMs: mountBoundMs,
  });
}

/**
 * openat2(2): a descriptor of `path` below the directory `dirfd`, a place only (O_PATH). `late` closes one that comes after
 * the bound.
 */
export async function openat2(
  dirfd: number,
  path: string,
  options: { flags: number; resolve: number; late: (fd: number) => void },
): Promise<number> {
  const known = openCached(dirfd, path, options);
  if (known !== undefined) return known;
  const how = openHow(options);
  const args = [callNumbers.openat2, dirfd, path, how, how.length];
  return call({ name: 'openat2', subject: path }, libc().openat2, args, { late: options.late });
}

/** What the kernel answers also from names that it remembers not to exist, or not to be what was asked for. */
const certain: readonly string[] = ['ENOENT', 'ENOTDIR', 'ELOOP', 'EXDEV'];
/** Not before Linux 5.12, nor where openat2 is filtered. */
let supportsCached = true;

/**
 * The same at once (RESOLVE_CACHED, O_PATH): only by names in the kernel's memory, so that no disk is waited for. undefined
 * when one is not there, and for every failure that a second look might explain better.
 */
export function openCached(
  dirfd: number,
  path: string,
  options: { flags: number; resolve?: number },
): number | undefined {
  if (!supportsCached) return undefined;
  const resolve = (options.resolve ?? 0) | constants.RESOLVE_CACHED;
  const how = openHow({ flags: options.flags | constants.O_PATH, resolve });
  const args = [callNumbers.openat2, dirfd, path, how, how.length];
  try {
    return callNow({ name: 'open', subject: path }, libc().openat2, args);
  } catch (error) {
    if (hasErrno(error, ...certain)) throw error;
    if (hasErrno(error, 'EINVAL', 'ENOSYS', 'EPERM')) supportsCached = false;
    return undefined;
  }
}

function openHow({ flags, resolve }: { flags: number; resolve: number }): Buffer {
  const how = Buffer.alloc(layouts.open_how.size);
  how.writeBigUInt64LE(BigInt(flags), layouts.open_how.fields.flags);
  how.writeBigUInt64LE(BigInt(resolve), layouts.open_how.fields.resolve);
  return how;
}

/** open_tree(2) with OPEN_TREE_CLONE: a detached copy of the mount that `path` lies in, rooted there. */
export function openTreeClone(path: string, late: (fd: number) => void): Promise<number> {
  const flags = constants.OPEN_TREE_CLONE | constants.OPEN_TREE_CLOEXEC;
  const args = [callNumbers.open_tree, constants.AT_FDCWD, path, flags];
  return call({ name: 'open_tree', subject: path }, libc().openTree, args, { late });
}

/** mount_setattr(2) on the mount `fd`: MOUNT_ATTR_* bits to set, and a propagation (MS_PRIVATE). */
export async function mountSetattr(
  fd: number,
  set: number,
  propagation: number,
  subject: string,
): Promise<void> {
  const { size, fields } = layouts.mount_attr;
  const attributes = Buffer.alloc(size);
  attributes.writeBigUInt64LE(BigInt(set), fields.attr_set);
  attributes.writeBigUInt64LE(BigInt(propagation), fields.propagation);
  const args = [callNumbers.mount_setattr, fd, '', constants.AT_EMPTY_PATH, attributes, size];
  await call({ name: 'mount_setattr', subject }, libc().mountSetattr, args);
}

/** move_mount(2) of the detached mount `fd` onto the opened file or directory `targetFd`. */
export async function moveMount(fd: number, targetFd: number, subject: string): Promise<void> {
  const flags = constants.MOVE_MOUNT_F_EMPTY_PATH | constants.MOVE_MOUNT_T_EMPTY_PATH;
  await call({ name: 'move_mount', subject }, libc().moveMount, [
    callNumbers.move_mount,
    fd,
    '',
    targetFd,
    '',
    flags,
  ]);
}

/** renameat2(2) with RENAME_NOREPLACE. */
export async function renameNoReplace(from: string, to: string): Promise<void> {
  const number = callNumbers.renameat2[arch === 'x64' ? 'x64' : 'other'];
  const args = [
    number,
    constants.AT_FDCWD,
    from,
    constants.AT_FDCWD,
    to,
    constants.RENAME_NOREPLACE,
  ];
  await call({ name: 'rename', subject: `${from} to ${to}` }, libc().renameat2, args);
}

/** Reserving terabytes takes ext4 minutes. */
const allocateBoundMs = 10 * 60_000;

/** fallocate(2): mode 0 allocates `length` bytes from `offset` and grows the file where needed. */
export async function fallocate(
  fd: number,
  range: { mode: number; offset: bigint; length: bigint },
  subject: string,
): Promise<void> {
  const args = [fd, range.mode, range.offset, range.length];
  await call({ name: 'fallocate', subject }, libc().fallocate, args, { boundMs: allocateBoundMs });
}

/** lseek(2) with SEEK_DATA or SEEK_HOLE. KernelError ENXIO past the last data. */
export async function seek(
  fd: number,
  offset: bigint,
  whence: 'data' | 'hole',
  subject: string,
): Promise<bigint> {
  const number = whence === 'data' ? constants.SEEK_DATA : constants.SEEK_HOLE;
  return BigInt(
    await call({ name: `lseek ${whence}`, subject }, libc().lseek, [fd, offset, number]),
  );
}

/** copy_file_range(2) at the same offset of both files; the bytes copied, 0 at the source's end. */
export function copyFileRange(
  fromFd: number,
  toFd: number,
  range: { offset: bigint; length: number },
  subject: string,
): Promise<number> {
  const from = Buffer.alloc(8);
  const to = Buffer.alloc(8);
  from.writeBigInt64LE(range.offset);
  to.writeBigInt64LE(range.offset);
  const number = callNumbers.copy_file_range[arch === 'x64' ? 'x64' : 'other'];
  const args = [number, fromFd, from, toFd, to, range.length, 0];
  return call({ name: 'copy_file_range', subject }, libc().copyFileRange, args, {
    boundMs: allocateBoundMs,
  });
}

/** syncfs(2) on the filesystem that `fd` lies in. */
export async function syncfs(fd: number, subject: string): Promise<void> {
  await call({ name: 'syncfs', subject }, libc().syncfs, [fd], { boundMs: mountBoundMs });
}

/** flock(2) without waiting, through the gate: on NFS it asks a server. KernelError EAGAIN when another description has it. */
export async function flock(
  fd: number,
  how: 'exclusive' | 'shared',
  subject: string,
): Promise<void> {
  const kind = how === 'exclusive' ? constants.LOCK_EX : constants.LOCK_SH;
  await call({ name: 'flock', subject }, libc().flock, [fd, kind | constants.LOCK_NB]);
}

/**
 * The text of a file of procfs or sysfs, which the kernel makes up while it is read. C's fread makes all of its reads in
 * one trip to the thread pool, where node:fs needs five and more. KernelError EIO when a read fails: a table of mounts must
 * never look shorter than it is.
 */
export function readKernelText(path: string): Promise<string> {
  const { fopen, fread, ferror, fclose } = libc();
  const what = { name: 'read', subject: path };
  return gate.run(what.name, async () => {
    // Opening looks up names that are in memory and waits for nothing; 'e' is O_CLOEXEC.
    const file = fopen(path, 're');
    if (Number(file) === 0) throw new KernelError('open', errnoName(libc().koffi.errno()), path);
    try {
      const chunks: Buffer[] = [];
      for (let size = 65_536; ; size = Math.min(size * 4, 1_048_576)) {
        const chunk = Buffer.allocUnsafe(size);
        const length = await callLater(what, fread, [chunk, 1, size, file]);
        chunks.push(chunk.subarray(0, length));
        if (length === size) continue;
        if (ferror(file) !== 0) throw new KernelError('read', 'EIO', path);
        return Buffer.concat(chunks).toString('utf8');
      }
    } finally {
      fclose(file);
    }
  });
}

/** mknodat(2) of a block device, for a /dev that does not follow the kernel's (a container's own). */
export async function makeBlockNode(path: string, majorMinor: string): Promise<void> {
  const [major = 0, minor = 0] = majorMinor.split(':').map(Number);
  const device = ((minor & ~0xff) << 12) | (major << 8) | (minor & 0xff);
  const number = callNumbers.mknodat[arch === 'x64' ? 'x64' : 'other'];
  const args = [number, constants.AT_FDCWD, path, constants.S_IFBLK | 0o600, device];
  await call({ name: 'mknod', subject: path }, libc().mknodat, args);
}

/**
 * Ends this process with that code (_exit(2)). process.exit() waits for the threads of libuv's pool first, and one that waits
 * for a disk may wait for ever.
 */
export function endProcess(code: number): void {
  libc().exit(code);
}

/** ioctl(2) whose argument is a number; its result, which some requests give a meaning. */
export function ioctl(
  fd: number,
  request: Request,
  argument: number,
  about: { subject: string; boundMs?: number },
): Promise<number> {
  const args = [fd, requests[request], argument];
  return call({ name: request, subject: about.subject }, libc().ioctlNumber, args, {
    boundMs: about.boundMs,
  });
}

/** ioctl(2) whose argument is a structure, read and filled in place. */
export async function ioctlOn(
  fd: number,
  request: Request,
  buffer: Uint8Array,
  about: { subject: string; boundMs?: number },
): Promise<void> {
  const args = [fd, requests[request], buffer];
  await call({ name: request, subject: about.subject }, libc().ioctlBuffer, args, {
    boundMs: about.boundMs,
  });
}

/** The same within a step that has passed the gate already. */
export async function ioctlInStep(
  fd: number,
  request: Request,
  buffer: Uint8Array,
  subject: string,
): Promise<void> {
  await callLater({ name: request, subject }, libc().ioctlBuffer, [fd, requests[request], buffer]);
}

/** The same at once, for requests that only read what the kernel has in memory (BLKSSZGET, BLKGETSIZE64). */
export function ioctlNow(fd: number, request: Request, buffer: Uint8Array, subject: string): void {
  callNow({ name: request, subject }, libc().ioctlBuffer, [fd, requests[request], buffer]);
}
