import { arch } from 'node:process';
import { hasErrno, KernelError } from '../errors.ts';
import type { Lane } from '../lane.ts';
import { callNumbers, constants, errnoName, layouts, type Request, requests } from './abi.ts';
import { gate } from './gate.ts';
import { call, callAsync, callSync, freadAsync, libc } from './libc.ts';
import { imageTimeoutMs, mountTimeoutMs } from './time-limits.ts';

/**
 * Typed wrappers for system calls that node:fs lacks. Calls that can block are asynchronous and pass the gate. A
 * failure is a KernelError with the name of the errno.
 */

/** mount(2). `displayPath` is the path in error messages if `target` is the path of a descriptor. */
export async function mount(
  lane: Lane,
  source: string,
  target: string,
  options: { fsType: string | null; flags: number; data: string },
  displayPath: string = target,
): Promise<void> {
  const subject = `${source} on ${displayPath}`;
  const args = [source, target, options.fsType, options.flags, options.data];
  await call(lane, { name: 'mount', subject }, libc().mount, args, { timeoutMs: mountTimeoutMs });
}

/** umount2(2) with UMOUNT_* and MNT_* flags. `displayPath` is the path in error messages. */
export async function umount2(
  lane: Lane,
  target: string,
  flags: number,
  displayPath: string = target,
): Promise<void> {
  await call(lane, { name: 'umount', subject: displayPath }, libc().umount2, [target, flags], {
    timeoutMs: mountTimeoutMs,
  });
}

/**
 * openat2(2): opens `path` below the directory `dirfd` with O_PATH. `onLate` closes a descriptor that arrives after the
 * time limit.
 */
export async function openat2(
  lane: Lane,
  dirfd: number,
  path: string,
  options: { flags: number; resolve: number; onLate: (fd: number) => void },
): Promise<number> {
  const known = openCached(dirfd, path, options);
  if (known !== undefined) return known;
  const how = encodeOpenHow(options);
  const args = [callNumbers.openat2, dirfd, path, how, how.length];
  return call(lane, { name: 'openat2', subject: path }, libc().openat2, args, {
    onLate: options.onLate,
  });
}

/**
 * Errors that an ordinary open would also return. RESOLVE_CACHED finds them in names that the kernel has cached; for an
 * uncached name it returns EAGAIN.
 */
const finalErrors: readonly string[] = ['ENOENT', 'ENOTDIR', 'ELOOP', 'EXDEV'];
/** RESOLVE_CACHED needs Linux 5.12, and a seccomp filter may forbid openat2. */
let supportsCached = true;

/**
 * Opens a path with O_PATH synchronously. RESOLVE_CACHED resolves only names that the kernel has in memory, so it never
 * waits for a disk. Returns undefined if a name is not cached, and for any failure that an ordinary open may explain
 * better.
 */
export function openCached(
  dirfd: number,
  path: string,
  options: { flags: number; resolve?: number },
): number | undefined {
  if (!supportsCached) return undefined;
  const resolve = (options.resolve ?? 0) | constants.RESOLVE_CACHED;
  const how = encodeOpenHow({ flags: options.flags | constants.O_PATH, resolve });
  const args = [callNumbers.openat2, dirfd, path, how, how.length];
  try {
    return callSync({ name: 'open', subject: path }, libc().openat2, args);
  } catch (error) {
    if (hasErrno(error, ...finalErrors)) throw error;
    if (hasErrno(error, 'EINVAL', 'ENOSYS', 'EPERM')) supportsCached = false;
    return undefined;
  }
}

function encodeOpenHow({ flags, resolve }: { flags: number; resolve: number }): Buffer {
  const how = Buffer.alloc(layouts.open_how.size);
  how.writeBigUInt64LE(BigInt(flags), layouts.open_how.fields.flags);
  how.writeBigUInt64LE(BigInt(resolve), layouts.open_how.fields.resolve);
  return how;
}

/** open_tree(2) with OPEN_TREE_CLONE: a detached copy of the mount at `path`, with `path` as its root. */
export function openTreeClone(
  lane: Lane,
  path: string,
  onLate: (fd: number) => void,
): Promise<number> {
  const flags = constants.OPEN_TREE_CLONE | constants.OPEN_TREE_CLOEXEC;
  const args = [callNumbers.open_tree, constants.AT_FDCWD, path, flags];
  return call(lane, { name: 'open_tree', subject: path }, libc().openTree, args, { onLate });
}

/** mount_setattr(2) on the mount `fd`: sets MOUNT_ATTR_* bits and a propagation (MS_PRIVATE). */
export async function mountSetattr(
  lane: Lane,
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
  await call(lane, { name: 'mount_setattr', subject }, libc().mountSetattr, args);
}

/** move_mount(2): attaches the detached mount `fd` at the open file or directory `targetFd`. */
export async function moveMount(
  lane: Lane,
  fd: number,
  targetFd: number,
  subject: string,
): Promise<void> {
  const flags = constants.MOVE_MOUNT_F_EMPTY_PATH | constants.MOVE_MOUNT_T_EMPTY_PATH;
  await call(lane, { name: 'move_mount', subject }, libc().moveMount, [
    callNumbers.move_mount,
    fd,
    '',
    targetFd,
    '',
    flags,
  ]);
}

/** renameat2(2) with RENAME_NOREPLACE. */
export async function renameNoReplace(lane: Lane, from: string, to: string): Promise<void> {
  const number = callNumbers.renameat2[arch === 'x64' ? 'x64' : 'other'];
  const args = [
    number,
    constants.AT_FDCWD,
    from,
    constants.AT_FDCWD,
    to,
    constants.RENAME_NOREPLACE,
  ];
  await call(lane, { name: 'rename', subject: `${from} to ${to}` }, libc().renameat2, args);
}

/** fallocate(2). Mode 0 allocates `length` bytes at `offset` and grows the file if needed. */
export async function fallocate(
  lane: Lane,
  fd: number,
  range: { mode: number; offset: bigint; length: bigint },
  subject: string,
): Promise<void> {
  const args = [fd, range.mode, range.offset, range.length];
  await call(lane, { name: 'fallocate', subject }, libc().fallocate, args, {
    timeoutMs: imageTimeoutMs,
  });
}

/** lseek(2) with SEEK_DATA or SEEK_HOLE. KernelError ENXIO if there is no data after `offset`. */
export async function seek(
  lane: Lane,
  fd: number,
  offset: bigint,
  whence: 'data' | 'hole',
  subject: string,
): Promise<bigint> {
  const number = whence === 'data' ? constants.SEEK_DATA : constants.SEEK_HOLE;
  return BigInt(
    await call(lane, { name: `lseek ${whence}`, subject }, libc().lseek, [fd, offset, number]),
  );
}

/**
 * copy_file_range(2) at the same offset in both files. Returns the number of bytes copied, 0 at the end of the source.
 */
export function copyFileRange(
  lane: Lane,
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
  return call(lane, { name: 'copy_file_range', subject }, libc().copyFileRange, args, {
    timeoutMs: imageTimeoutMs,
  });
}

/** syncfs(2) on the filesystem of `fd`. */
export async function syncfs(lane: Lane, fd: number, subject: string): Promise<void> {
  await call(lane, { name: 'syncfs', subject }, libc().syncfs, [fd], { timeoutMs: mountTimeoutMs });
}

/**
 * flock(2) without waiting for the lock. It passes the gate because NFS sends a request to its server. KernelError
 * EAGAIN if another open file description has the lock.
 */
export async function flock(
  lane: Lane,
  fd: number,
  how: 'exclusive' | 'shared',
  subject: string,
): Promise<void> {
  const kind = how === 'exclusive' ? constants.LOCK_EX : constants.LOCK_SH;
  await call(lane, { name: 'flock', subject }, libc().flock, [fd, kind | constants.LOCK_NB]);
}

/**
 * Reads a file of procfs or sysfs, whose text the kernel generates during the read. fread of the C library makes all
 * reads in one trip to the thread pool; node:fs needs five or more. KernelError if a read fails: a mount table must never
 * be silently truncated. ENODEV: the device of a file of sysfs was removed or detached after the open.
 */
export function readKernelText(lane: Lane, path: string): Promise<string> {
  const { fopen, ferror, fclose } = libc();
  return gate.run(lane, 'read', async () => {
    // The open never blocks, since all names are in memory. "e" is O_CLOEXEC.
    const file = fopen(path, 're');
    if (Number(file) === 0) throw new KernelError('open', errnoName(libc().koffi.errno()), path);
    try {
      const chunks: Buffer[] = [];
      for (let size = 65_536; ; size = Math.min(size * 4, 1_048_576)) {
        const chunk = Buffer.allocUnsafe(size);
        const { length, errno } = await freadAsync(chunk, file);
        chunks.push(chunk.subarray(0, length));
        if (length === size) continue;
        if (ferror(file) !== 0) throw new KernelError('read', errno, path);
        return Buffer.concat(chunks).toString('utf8');
      }
    } finally {
      fclose(file);
    }
  });
}

/** Creates a block device node (mknodat(2)), for a /dev that the kernel does not populate, as in a container. */
export async function makeBlockNode(lane: Lane, path: string, majorMinor: string): Promise<void> {
  const [major = 0, minor = 0] = majorMinor.split(':').map(Number);
  const device = ((minor & ~0xff) << 12) | (major << 8) | (minor & 0xff);
  const number = callNumbers.mknodat[arch === 'x64' ? 'x64' : 'other'];
  const args = [number, constants.AT_FDCWD, path, constants.S_IFBLK | 0o600, device];
  await call(lane, { name: 'mknod', subject: path }, libc().mknodat, args);
}

/**
 * _exit(2). process.exit() first waits for the libuv threads, and a thread that is blocked on a disk may never return.
 */
export function endProcess(code: number): void {
  libc().exit(code);
}

/** ioctl(2) with a number as argument. Returns its result, which is meaningful for some requests. */
export function ioctl(
  lane: Lane,
  fd: number,
  request: Request,
  argument: number,
  options: { subject: string; timeoutMs?: number },
): Promise<number> {
  const args = [fd, requests[request], argument];
  return call(lane, { name: request, subject: options.subject }, libc().ioctlNumber, args, {
    timeoutMs: options.timeoutMs,
  });
}

/** ioctl(2) with a structure, which the kernel reads and fills in place. */
export async function ioctlWithBuffer(
  lane: Lane,
  fd: number,
  request: Request,
  buffer: Uint8Array,
  options: { subject: string; timeoutMs?: number },
): Promise<void> {
  const args = [fd, requests[request], buffer];
  await call(lane, { name: request, subject: options.subject }, libc().ioctlBuffer, args, {
    timeoutMs: options.timeoutMs,
  });
}

/** ioctl(2) with a structure, for callers that have already passed the gate. */
export async function ioctlUngated(
  fd: number,
  request: Request,
  buffer: Uint8Array,
  subject: string,
): Promise<void> {
  await callAsync({ name: request, subject }, libc().ioctlBuffer, [fd, requests[request], buffer]);
}

/** ioctl(2) with a structure, synchronously, for requests that only read kernel memory (BLKSSZGET, BLKGETSIZE64). */
export function ioctlSync(fd: number, request: Request, buffer: Uint8Array, subject: string): void {
  callSync({ name: request, subject }, libc().ioctlBuffer, [fd, requests[request], buffer]);
}
