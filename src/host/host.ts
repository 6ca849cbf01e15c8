import type { FileHandle } from 'node:fs/promises';
import type { Lane } from './lane.ts';

/**
 * The interface to the node, as types. `real-host.ts` implements it with kernel calls and programs,
 * `test/helpers/fake-host.ts` in memory; one contract suite runs against both.
 *
 * Paths are absolute. Byte counts are bigint. Failed kernel calls throw `KernelError`, failed programs `CommandError`
 * (errors.ts in this folder); volumes/ translates them into its own errors.
 */

export const fsTypes = ['ext4', 'xfs', 'btrfs'] as const;
export type FsType = (typeof fsTypes)[number];

/** Logical sector size of a loop device, in bytes. */
export type SectorSize = 512 | 4096;

/** Identifies a file independently of its path: st_dev and st_ino. */
export interface FileIdentity {
  readonly device: bigint;
  readonly inode: bigint;
}

export interface ImageStatus extends FileIdentity {
  readonly sizeBytes: bigint;
  /** st_blocks × 512. Includes blocks that are shared with other images (reflink). */
  readonly allocatedBytes: bigint;
}

export type PathKind = 'file' | 'directory' | 'symlink' | 'character-device' | 'other';

export interface PathStatus extends FileIdentity {
  readonly kind: PathKind;
  readonly sizeBytes: bigint;
  /** st_mtime in nanoseconds since the epoch. */
  readonly modifiedNs: bigint;
  /** The path is a mount point. */
  readonly isMountPoint: boolean;
}

/** Operations on paths. Each passes the gate once, however many system calls it makes. A failure is a KernelError. */
export interface Paths {
  /**
   * Whether the path exists; a dangling symlink counts as existing. Throws if this cannot be determined (EACCES, EIO).
   */
  exists(path: string): Promise<boolean>;
  /** lstat. Throws KernelError ENOENT. */
  status(path: string): Promise<PathStatus>;
  /** The names in a directory. */
  list(path: string): Promise<readonly string[]>;
  listWithKinds(
    path: string,
  ): Promise<readonly { readonly name: string; readonly kind: PathKind }[]>;
  isEmptyDirectory(path: string): Promise<boolean>;
  readText(path: string): Promise<string>;
  /** Reads many files concurrently. Returns one result for each path, in order. */
  readTexts(paths: readonly string[]): Promise<readonly PromiseSettledResult<string>[]>;
  /** Writes a new file of mode 0600, without fsync. EEXIST if the path exists. */
  writeNew(path: string, text: string): Promise<void>;
  /**
   * Replaces the content atomically: a crash leaves the old or the new content. With `durable: false` this holds only
   * for a crash of the process, not of the machine.
   */
  replaceFile(path: string, text: string, options?: { durable?: boolean }): Promise<void>;
  /**
   * Overwrites an existing file in place, which allocates no block unless the text is longer. After a crash the file
   * may contain a mix of the old and the new text.
   */
  overwrite(path: string, text: string): Promise<void>;
  /** Creates a directory of mode 0700 and its missing parents. Does nothing if the directory exists. */
  makeDirectory(path: string): Promise<void>;
  /** Creates a directory of mode 0700. EEXIST if the path exists. */
  makeNewDirectory(path: string): Promise<void>;
  /** chmod 0400. */
  makeReadOnly(path: string): Promise<void>;
  /** Removes files concurrently. Ignores missing files. */
  removeFile(...paths: readonly string[]): Promise<void>;
  /** Removes an empty directory. Throws KernelError ENOENT, ENOTEMPTY, or EBUSY (a mount point). */
  removeDirectory(path: string): Promise<void>;
  /**
   * Removes a file, or a directory with its content. Ignores a missing path. Does not follow symlinks or descend into
   * mounts: KernelError EBUSY names the mount point, and nothing below it is removed.
   */
  removeTree(path: string): Promise<void>;
  /** The magic number of the filesystem that contains `path` (statfs(2)). */
  filesystemMagic(path: string): Promise<bigint>;
  /** Throws unless this process may read and write `path` (access(2)). */
  requireReadWrite(path: string): Promise<void>;
}

/** Operations on files and directories that node:fs lacks or does not do safely. */
export interface Files extends Paths {
  /**
   * Creates a file of mode 0600 and the given size, without fsync. `allocate` preallocates every block (fallocate).
   * EEXIST if the path exists.
   */
  createImage(path: string, options: { sizeBytes: bigint; allocate: boolean }): Promise<void>;
  /**
   * Grows an image (never shrinks it) and syncs it. `allocate` also fills every hole, even if the image already has the
   * size. Throws ImageInUseError like `requireNoProgram`.
   */
  growImage(path: string, options: { sizeBytes: bigint; allocate: boolean }): Promise<void>;
  imageStatus(path: string): Promise<ImageStatus>;
  /**
   * Throws ImageInUseError while a program has the image locked. Only a program of an earlier driver process can have
   * the lock: this process runs programs only while it has the volume locked. A missing image is not locked.
   */
  requireNoProgram(path: string): Promise<void>;
  /** Returns the path of a directory with every symlink resolved. KernelError ENOENT, ENOTDIR. */
  resolveDirectory(path: string): Promise<string>;
  /**
   * Punches holes where extents are allocated but unwritten, since a clone on btrfs would copy them. The file still
   * reads the same.
   */
  punchUnwritten(path: string): Promise<void>;
  /** Syncs several files and directories concurrently (fsync). */
  sync(...paths: readonly string[]): Promise<void>;
  /** Opens a directory that the caller will sync repeatedly. Throws KernelError ENOTDIR. */
  openDirectory(path: string): Promise<Directory>;
  /** Syncs an open directory: earlier creations, renames and removals in it become durable. */
  syncOpenDirectory(directory: Directory): Promise<void>;
  /** renameat2 with RENAME_NOREPLACE, without fsync. KernelError EEXIST if `to` exists. */
  renameNoReplace(from: string, to: string): Promise<void>;
  /**
   * Acquires an exclusive flock without waiting. It lasts until it is released or the process ends. KernelError EAGAIN
   * if another process has it.
   */
  lock(path: string): Promise<{ release(): Promise<void> }>;
  /**
   * Truncates a file from its end in slices of `sliceBytes`, then unlinks it, so that other calls can run in between.
   * Does not follow symlinks. KernelError EBUSY for a mount point; ImageInUseError like `requireNoProgram`.
   */
  removeInSlices(path: string, options: { sliceBytes: bigint; signal: AbortSignal }): Promise<void>;
  /** Tests with a scratch file in this directory which features its filesystem supports. */
  probe(directory: string): Promise<FilesystemFeatures>;
  /** Reads up to `length` bytes of a file, fewer at its end: into the beginning of `into`, or else into a new buffer. */
  readRange(
    path: string,
    range: { offset: bigint; length: number; into?: Buffer | undefined },
  ): Promise<Buffer>;
  /** Writes into an existing file at an offset, without fsync. */
  writeRange(path: string, offset: bigint, bytes: Uint8Array): Promise<void>;
  /** statfs of the filesystem that contains `path`. Free bytes include those reserved for root. */
  capacity(path: string): Promise<Capacity>;
}

export interface FilesystemFeatures {
  /** O_DIRECT. */
  readonly directIo: boolean;
  /** Hole punching (fallocate(2)). */
  readonly discard: boolean;
  /** RENAME_NOREPLACE (renameat2(2)). */
  readonly renameNoReplace: boolean;
}

export interface Directory {
  readonly path: string;
  readonly handle: FileHandle;
  close(): Promise<void>;
}

export interface Capacity {
  readonly totalBytes: bigint;
  readonly freeBytes: bigint;
  readonly totalInodes: bigint;
  readonly freeInodes: bigint;
  /** Bytes that an unprivileged user may use (f_bavail). */
  readonly availableBytes: bigint;
}

/** An attached loop device, according to LOOP_GET_STATUS64 and sysfs. */
export interface LoopDevice {
  readonly number: number;
  /** `/dev/loopN` */
  readonly path: string;
  /** `7:N`, the form that mountinfo uses. */
  readonly majorMinor: string;
  readonly backing: FileIdentity;
  /**
   * lo_file_name, at most 63 bytes. Labels written by the driver start with `loopcsi:`. The label is for operators and
   * does not identify the device.
   */
  readonly label: string;
  readonly readOnly: boolean;
  readonly directIo: boolean;
  readonly autoclear: boolean;
  readonly sectorSize: number;
  readonly sizeBytes: bigint;
}

/** The kernel's I/O counters of a device. Times are sums of the durations of requests, in milliseconds. */
export interface IoCounters {
  readonly reads: number;
  readonly readBytes: bigint;
  readonly readMs: number;
  readonly writes: number;
  readonly writtenBytes: bigint;
  readonly writeMs: number;
  /** Requests in progress. */
  readonly inFlight: number;
  /** Time during which at least one request was in progress. */
  readonly busyMs: number;
}

export interface AttachOptions {
  readonly sectorSize: SectorSize;
  readonly readOnly: boolean;
  readonly directIo: boolean;
  /** If false, the discard limit of the device is set to 0, so that no discard can punch holes into a thick image. */
  readonly discard: boolean;
  /**
   * The kernel detaches the device at its last close or unmount; used for short private mounts. The driver keeps the
   * device open until `release`, which the caller must call once the device is mounted or the mount has been given up.
   */
  readonly autoclear?: boolean;
  /**
   * Limits the dirty pages of the device (strict_limit and max_bytes of its bdi), so that a freeze has little to flush.
   */
  readonly dirtyLimitBytes?: bigint;
  /** Written to lo_file_name after `loopcsi:`; hashed if it is too long. */
  readonly label: string;
  /**
   * Keeps the device open from the start, like `hold`, so that there is no moment at which another process can detach
   * it.
   */
  readonly hold?: boolean;
  /** All mounts, if the caller has just read them. A device number whose node is bind-mounted anywhere is not used. */
  readonly mounts?: readonly Mount[] | undefined;
}

export interface LoopDevices {
  /**
   * All attached loop devices of the machine, except those whose image is on a filesystem that hangs: such devices
   * cannot be queried or changed.
   */
  list(): Promise<readonly LoopDevice[]>;
  /**
   * All attached devices with their I/O counters since this process attached or first saw them. Like `list`, except
   * that attributes that can change (`directIo`, `autoclear`, `sizeBytes`) may be outdated. Cheap: opens only devices
   * that this process has not seen yet.
   */
  listWithIo(): Promise<readonly { readonly device: LoopDevice; readonly io: IoCounters }[]>;
  /** The device with this number; undefined if nothing is attached to it. */
  at(number: number): Promise<LoopDevice | undefined>;
  /**
   * Whether AUTOCLEAR is set, which makes the kernel detach the device at its last close. Reads only kernel memory.
   * false for a detached device.
   */
  isAutoclear(device: LoopDevice): boolean;
  /** All attached devices with AUTOCLEAR. Cheap if there are none, however many devices are attached. */
  listAutoclear(): Promise<readonly LoopDevice[]>;
  /**
   * The path of the device's image according to sysfs, as seen by the process that attached it, followed by `
   * (deleted)` if the file was unlinked. undefined if the device is detached.
   */
  backingPath(device: LoopDevice): Promise<string | undefined>;
  /** The devices attached to this inode, read-write devices first. */
  findByImage(image: FileIdentity): Promise<readonly LoopDevice[]>;
  /**
   * LOOP_CTL_GET_FREE and LOOP_CONFIGURE with an explicit block size; retries up to a limit if another process takes
   * the number. Never uses a number whose node is bind-mounted anywhere. For ten minutes it avoids the numbers of
   * devices that were held: a process that was given such a node would see this image. The kernel may turn direct I/O
   * off: check `directIo` of the result. Does not look for an existing device: the caller does, while it has the volume
   * locked. ImageInUseError while a program of an earlier driver process uses the image. The device has no I/O limits, even
   * if an earlier device of its number had some.
   */
  attach(imagePath: string, options: AttachOptions): Promise<LoopDevice>;
  /**
   * Keeps the device open (read-only, not exclusively) and clears AUTOCLEAR, so that LOOP_CLR_FD of another process
   * does not detach it until `release` or `detach`. Returns whether the device is still attached to this image.
   * Idempotent.
   */
  hold(device: LoopDevice): Promise<boolean>;
  /** Clears AUTOCLEAR. Returns whether the device is still attached to this image. Idempotent. */
  clearAutoclear(device: LoopDevice): Promise<boolean>;
  /**
   * Closes the descriptor that `hold`, or an attach with `autoclear`, keeps open. A device with AUTOCLEAR then lives
   * only as long as its mount. Idempotent.
   */
  release(device: LoopDevice): Promise<void>;
  /**
   * BLKFLSBUF: writes dirty pages of the device's page cache to the image and invalidates the cache, so that readers
   * see the current image. The kernel does this at the last close of a device, which never happens while the driver
   * holds it.
   */
  writeBack(device: LoopDevice): Promise<void>;
  /** LOOP_SET_CAPACITY: adjusts the size of the device to the current size of the image. */
  refreshSize(device: LoopDevice): Promise<void>;
  /**
   * LOOP_CLR_FD, then waits, up to a limit, until the device is detached. Then LOOP_CTL_REMOVE if settings of its queue
   * were changed (`discard: false`, dirty limits), since they would apply to the next device with this number. I/O limits
   * are removed before the detach, for the same reason, and put back if it fails. Returns
   * `in-use` if the device is still in use at the limit; the detach request is then cancelled (AUTOCLEAR is cleared)
   * unless `later` lets the kernel carry it out at the last close. Returns `detached` for an already detached device.
   */
  detach(device: LoopDevice, options?: { later?: boolean }): Promise<'detached' | 'in-use'>;
  /** Whether the device is in use in any mount namespace, determined by open(2) with O_EXCL. */
  isInUse(device: LoopDevice): Promise<boolean>;
  /** Syncs the device node (fsync): dirty pages of its page cache are written to the image. */
  sync(device: LoopDevice): Promise<void>;
}

/** Limits of the I/O of a device, in bytes or requests per second; null: not limited. */
export interface IoLimits {
  readonly readBytesPerSecond: bigint | null;
  readonly writeBytesPerSecond: bigint | null;
  readonly readIops: bigint | null;
  readonly writeIops: bigint | null;
}

/** The cgroup whose `io.max` limits the devices of volumes, or why there is none and what to do about it. */
export type PodsCgroup =
  | { readonly path: string }
  | { readonly problem: string; readonly remedy: string };

/**
 * Limits of loop devices in `io.max` of one cgroup (cgroup v2). They apply to all processes below this cgroup together. The kernel
 * keeps them for the number of a device, not for its image: `LoopDevices` removes them when a number is attached or detached.
 */
export interface DeviceLimits {
  /** Finds the cgroup, each time anew: the io controller can be enabled while the driver runs. */
  findCgroup(): Promise<PodsCgroup>;
  /** The limits of all loop devices that have any, by `7:N`. Empty without a cgroup. */
  list(): Promise<ReadonlyMap<string, IoLimits>>;
  /**
   * Replaces the limits of a device, `7:N`. Without a cgroup, does nothing if no limit is given, and otherwise throws KernelError
   * ENOENT.
   */
  set(majorMinor: string, limits: IoLimits): Promise<void>;
}

/** One line of /proc/self/mountinfo. */
export interface Mount {
  readonly id: number;
  readonly parentId: number;
  /** `major:minor`. btrfs has anonymous device numbers: compare `source` there. */
  readonly majorMinor: string;
  /** The directory or file of the filesystem that is mounted here; `/` unless a subtree was bind-mounted. */
  readonly root: string;
  readonly target: string;
  /** Per-mount options: ro, noexec, … */
  readonly options: readonly string[];
  readonly fsType: string;
  readonly source: string;
  /** Options of the superblock. After a journal abort, ext4 shows `emergency_ro` here while `options` still says rw. */
  readonly superOptions: readonly string[];
}

/** How a target path is resolved. */
export interface TargetOptions {
  /**
   * The directory that must contain the target (the kubelet's directory). Symlinks below it are not followed:
   * KernelError ELOOP, or EXDEV for a path outside. Without a root, only the last component must not be a symlink.
   */
  readonly root?: string | undefined;
}

export interface Mounts {
  /** All mounts of this mount namespace. Of mounts stacked on one target, the bottom one comes first. */
  list(): Promise<readonly Mount[]>;
  /** The topmost mount whose target is exactly `target`, after resolving symlinks in its parents. */
  at(target: string): Promise<Mount | undefined>;
  /**
   * mount(2) of a block device on an existing directory. `options` are individual mount(8) options, without commas.
   * KernelError EEXIST if the kernel mounts another registered btrfs device with the same UUID instead.
   */
  mountDevice(
    device: string,
    target: string,
    options: { fsType: FsType; options: readonly string[] } & TargetOptions,
  ): Promise<void>;
  /**
   * Bind-mounts `source` (a directory, or a device node onto a file) on `target`. The attributes are set before the
   * mount becomes visible (open_tree, mount_setattr, move_mount). The last component of `target` must not be a symlink.
   */
  bind(
    source: string,
    target: string,
    options: {
      readOnly: boolean;
      noSuid?: boolean;
      noDev?: boolean;
      noExec?: boolean;
    } & TargetOptions,
  ): Promise<void>;
  /**
   * Thaws the filesystem if this is its last mount in this namespace (EINVAL is ignored; other mounts may be part of a
   * freeze in progress), then calls umount2 with UMOUNT_NOFOLLOW, retrying EBUSY for half a second. KernelError EBUSY
   * if it stays busy. Does nothing if the path does not exist or is not a mount point. With `keepFrozen` nothing is
   * thawed: the caller must thaw it, or the superblock stays active without a mount.
   */
  unmount(
    target: string,
    options?: TargetOptions & { readonly keepFrozen?: boolean },
  ): Promise<void>;
  /**
   * Creates the last component of a target, a directory or an empty file, unless it exists; its parent must exist.
   * KernelError ENOTDIR or EISDIR if it exists as the other kind, ELOOP if it is a symlink.
   */
  makeTarget(target: string, kind: 'directory' | 'file', options?: TargetOptions): Promise<void>;
  /**
   * Removes the last component of a target, an empty directory or a file. Ignores a missing one. KernelError ENOTEMPTY,
   * or EBUSY for a mount point.
   */
  removeTarget(target: string, options?: TargetOptions): Promise<void>;
  /** syncfs(2) on the filesystem mounted at `target`. */
  syncFilesystem(target: string): Promise<void>;
  /**
   * FITRIM of one range. Returns the number of bytes that the filesystem reports as discarded; `undefined` if the range
   * begins after the end of the filesystem. The mount is busy until it returns. Throws if the filesystem mounted at
   * `target` is not on `device`.
   */
  trim(target: string, device: LoopDevice, range: ByteRange): Promise<bigint | undefined>;
  /**
   * FITHAW. Returns whether the filesystem was frozen. Throws if the filesystem mounted at `target` is not on `device`.
   */
  thaw(target: string, device: LoopDevice): Promise<boolean>;
  /**
   * FITHAW of an active superblock that has no mount in this namespace: it was unmounted while frozen, or is mounted in
   * another namespace. It is temporarily mounted without a path, so that no other process can enter the mount or keep
   * it busy. KernelError EBUSY if the device is used by something other than a filesystem; ENOSYS or EPERM if fsopen(2)
   * is missing or not permitted.
   */
  thawWithoutMount(device: LoopDevice, fsType: FsType): Promise<boolean>;
}

/** The state of the filesystem in an image, read from its superblock without mounting it. */
export type SuperblockState =
  /** Ready to be mounted. */
  | 'clean'
  /** The journal or log must be replayed. Mounting does that. */
  | 'needs-replay'
  /** The error flag of ext4 is set: e2fsck must run. */
  | 'has-errors';

export interface Superblock {
  readonly fsType: FsType;
  readonly uuid: string;
  /** Size of the filesystem, in bytes. */
  readonly sizeBytes: bigint;
  /**
   * Fewer bytes than this may stay unused at the end of the device: ext4 creates no last group that is too small for
   * its own metadata.
   */
  readonly unusableTailBytes?: bigint;
  readonly state: SuperblockState;
  /** The largest logical sector size of a device from which the kernel can mount the filesystem. */
  readonly maxSectorSize: SectorSize;
}

export interface MakeOptions {
  readonly sectorSize: SectorSize;
  readonly thick: boolean;
  readonly uuid: string;
  /** The validated `mkfsOptions` of the StorageClass, passed on unchanged. */
  readonly options: readonly string[];
}

export interface GrowUnmountedOptions {
  readonly sectorSize: SectorSize;
  readonly workDir: string;
  readonly isDisposable?: boolean;
}

export interface Filesystem {
  readonly type: FsType;
  /** Minimum size of an image with this filesystem. */
  readonly minBytes: bigint;
  /** Minimum size to which a filesystem of this type can be grown: the kernel refuses to resize btrfs below 256 MiB. */
  readonly minGrownBytes: bigint;
  /** Maximum factor of a single growth; undefined if it is not limited. */
  readonly maxGrowthFactor: bigint | undefined;
  /** Mount options that precede the caller's in every mount of this type. */
  readonly mountOptions: readonly string[];
  /**
   * Creates the filesystem on a new, unattached image in `tmp/`, which the caller syncs. Throws CommandError; on ENOSPC
   * the caller sees that the pool's filesystem is full.
   */
  make(imagePath: string, options: MakeOptions): Promise<void>;
  /** Reads the superblock. undefined if the image has none of this type (wrong magic or checksum). Never writes. */
  readSuperblock(imagePath: string): Promise<Superblock | undefined>;
  /**
   * Repairs an unattached image with `has-errors` if that is safe without an operator (ext4: e2fsck -fn, then -p). If
   * the outcome is `damaged`, the image is unchanged and `detail` has the output of the program.
   */
  check(
    imagePath: string,
  ): Promise<{ outcome: 'sound' | 'repaired' } | { outcome: 'damaged'; detail: string }>;
  /**
   * Undoes, byte for byte, the changes of a program that was killed while it modified the image. Must be called before
   * any other operation on an unattached image. Returns false if there was nothing to undo.
   */
  recover(imagePath: string): Promise<boolean>;
  /**
   * Grows a mounted filesystem to `sizeBytes` (the size of the device) by ioctl. Returns `grown` also if it already has
   * that size, and `not-permitted` for ext4 without CAP_SYS_RESOURCE, with recorded errors, or with a layout that only
   * resize2fs can grow.
   */
  growMounted(
    target: string,
    device: LoopDevice,
    sizeBytes: bigint,
  ): Promise<'grown' | 'not-permitted'>;
  /**
   * Grows the filesystem of an unattached image to the size of the image: ext4 with resize2fs, XFS and btrfs in a
   * private mount below `workDir`, also while an XFS with the same UUID is mounted. If the program is killed, `recover`
   * undoes its changes, unless the image `isDisposable`: a copy that is not in use yet.
   */
  growUnmounted(imagePath: string, options: GrowUnmountedOptions): Promise<void>;
  /**
   * Changes the UUID of an unattached, private copy, after replaying its log if needed, and verifies the superblock.
   */
  renewUuid(
    imagePath: string,
    options: { uuid: string; sectorSize: SectorSize; workDir: string },
  ): Promise<void>;
}

export interface Ext4Filesystem extends Filesystem {
  /** The number of errors that the kernel has recorded for the mounted filesystem on the device. */
  countErrors(device: LoopDevice): Promise<number>;
}

export interface Filesystems extends Readonly<Record<FsType, Filesystem>> {
  readonly ext4: Ext4Filesystem;
}

export interface Extent {
  readonly logical: bigint;
  readonly physical: bigint;
  readonly length: bigint;
  /** FIEMAP_EXTENT_* bits. */
  readonly flags: number;
}

/** A range of a file. */
export interface ByteRange {
  readonly offset: bigint;
  readonly length: bigint;
}

export interface Extents {
  /** The extents of the file (FIEMAP with FIEMAP_FLAG_SYNC), in batches. */
  map(path: string, options?: { from?: bigint }): AsyncIterable<readonly Extent[]>;
  /** The data ranges according to SEEK_DATA and SEEK_HOLE. */
  data(path: string, options?: { from?: bigint }): AsyncIterable<ByteRange>;
  count(path: string): Promise<number>;
  /**
   * Compares one range, at most `maxComparedBytes`, of two files and returns the ranges of blocks that differ. Bytes
   * past the end of a file count as zeroes.
   */
  compare(
    a: string,
    b: string,
    range: ByteRange & { blockBytes: bigint },
  ): Promise<readonly ByteRange[]>;
  /** Bytes in extents without the SHARED flag. Overwriting them allocates no new blocks. */
  exclusiveBytes(path: string): Promise<bigint>;
}

export interface Copies {
  /** Whether files in this directory can share blocks: tries FICLONE with two scratch files. */
  canReflink(directory: string): Promise<boolean>;
  /**
   * Clones `from` to the new file `to` (mode 0600), which then shares all its blocks (FICLONE), without fsync.
   * EOPNOTSUPP or EXDEV if the filesystem cannot do that; ImageInUseError while a program of an earlier driver process
   * uses `from`.
   */
  reflink(from: string, to: string): Promise<void>;
  /**
   * Copies the data extents of `from` to `to` in the kernel (copy_file_range), preserves its holes, and syncs at the
   * end. `to` may contain the result of an interrupted copy: everything below `resumeFrom` counts as copied.
   * `doneBytes` is a file offset below which everything is durable, so it can be passed as `resumeFrom` later, even
   * after a crash. ImageInUseError like `reflink`.
   */
  copySparse(
    from: string,
    to: string,
    options: {
      signal: AbortSignal;
      resumeFrom?: bigint;
      onProgress?: (doneBytes: bigint, totalBytes: bigint) => void;
    },
  ): Promise<void>;
}

/** What a directory contains, hard links counted once. */
export interface TreeSize {
  /** Bytes that the files occupy, each rounded up to a block of 4 KiB. */
  readonly dataBytes: bigint;
  /** Number of files, directories, symlinks and special files, the directory itself included. */
  readonly entries: bigint;
  /** Changes when an entry is added, removed or changed: a digest of all names, sizes, modes, mtimes and ctimes. */
  readonly fingerprint: string;
}

export interface TreeCopyOptions {
  /** The directory to copy. */
  readonly from: string;
  /** The filesystem in the image to which it is copied. */
  readonly fsType: FsType;
  readonly sectorSize: SectorSize;
  readonly mountOptions: readonly string[];
  /** A directory of the driver, in which the image is mounted privately. */
  readonly workDir: string;
  readonly signal: AbortSignal;
}

/** Directory trees of other software, which are copied into a new image. */
export interface Trees {
  /** Counts a directory without following symlinks. KernelError EXDEV if another filesystem is mounted in it. */
  measure(path: string, signal: AbortSignal): Promise<TreeSize>;
  /**
   * Copies the content and the attributes of the directory to the root of the filesystem in an unattached image: owners,
   * modes, times, extended attributes, ACLs, hard links, holes, symlinks and special files. `onProgress` gets the bytes
   * that the filesystem uses. Throws CommandError if the copy is incomplete. The program ends with the driver.
   */
  copyIntoImage(
    imagePath: string,
    options: TreeCopyOptions & { readonly onProgress: (usedBytes: bigint) => void },
  ): Promise<void>;
  /**
   * Mounts the image again, so that its data is read from the disk, and compares everything that `copyIntoImage` preserves
   * except holes. Returns the first difference, or undefined. A `lost+found` that the directory lacks is no difference.
   */
  findDifference(imagePath: string, options: TreeCopyOptions): Promise<string | undefined>;
}

/**
 * A freeze owned by a child process, which thaws when its pipe closes. If the driver is killed, the thaw is immediate.
 */
export interface Freeze {
  /**
   * Thaws all targets and returns how many milliseconds they were frozen. Idempotent. KernelError ETIMEDOUT if the time
   * limit passed first, ECHILD if the child was killed. In both cases everything is thawed, but the captures taken
   * during the freeze have no common point in time.
   */
  thaw(): Promise<number>;
}

export interface Freezer {
  /**
   * Freezes all targets or none, concurrently (FIFREEZE), after checking that each is the filesystem of its device.
   * After a failure, targets that were frozen are thawed. KernelError EBUSY: another process froze it; ENODEV: not the
   * filesystem of the device; ETIMEDOUT: the freeze took too long. After `timeoutMs` the child thaws in any case. A
   * target can be unmounted while frozen: its superblock stays active until the thaw.
   */
  freeze(
    targets: readonly { target: string; device: LoopDevice }[],
    options: { timeoutMs: number },
  ): Promise<Freeze>;
}

/** A process that keeps a mount or device in use. */
export interface MountUser {
  readonly pid: number;
  /** The kernel's name for its program (comm). */
  readonly command: string;
  /** Absent for a process outside of containers, and if this process sees another cgroup namespace. */
  readonly containerId?: string;
}

/**
 * Searches /proc for processes that use a mount or device. Returns at most five, searches for at most a second, and
 * sees only processes that this one may inspect.
 */
export interface MountUsers {
  /** Processes with an open file, working directory or memory mapping on one of these mounts of this namespace. */
  ofMounts(mounts: readonly Mount[]): Promise<readonly MountUser[]>;
  /** Processes in any mount namespace that use the filesystem on the device or have the device open. */
  ofDevice(device: LoopDevice): Promise<readonly MountUser[]>;
  /** Block devices stacked on this one (LVM, md), by the names that operators know. */
  devicesAbove(device: LoopDevice): Promise<readonly string[]>;
}

/** A running program from the table in programs/programs.ts, whichever process started it. */
export interface RunningProgram {
  readonly name: string;
  readonly pid: number;
  /** Paths of its open files, as seen by this process. */
  readonly paths: readonly string[];
}

export interface NodeFacts {
  /** Whether this process has CAP_SYS_ADMIN, which mounting and attaching require. */
  readonly canMount: boolean;
  /** Whether this process has CAP_SYS_RESOURCE, which growing a mounted ext4 requires. */
  readonly canGrowExt4Online: boolean;
  readonly kernelRelease: string;
}

/** The version of one package of programs. */
export interface ProgramVersion {
  /** The Debian package. */
  readonly name: string;
  /** The program that was asked. */
  readonly program: string;
  /** undefined if its output contains no version. */
  readonly version: string | undefined;
  /** The oldest version with the options that the driver uses; undefined if it is older than all that are in use. */
  readonly minVersion: string | undefined;
  /** The oldest version with which the driver was tested (docs/tested-on.md). */
  readonly testedVersion: string;
}

export interface LoopLimits {
  /** Numbers of the devices that exist, attached or not. */
  readonly numbers: readonly number[];
  /** The kernel allows only smaller numbers: partitions (max_part) take minor numbers, too. */
  readonly numbersBelow: number;
  /**
   * The module parameter `max_loop`; undefined if the module is not loaded. It limits only devices that the kernel creates because
   * their node was opened, not those that the driver adds (LOOP_CTL_ADD).
   */
  readonly maxLoop: number | undefined;
  /** Existing devices without a node in /dev, for example because /dev of the container is not the machine's. */
  readonly withoutNode: readonly number[];
}

export interface Propagation {
  /** The mount point of the mount that contains the path. */
  readonly target: string;
  /** Whether mounts below it appear in the mount namespaces that share it. */
  readonly isShared: boolean;
  /** Whether this process is in the mount namespace of process 1; undefined if that cannot be determined. */
  readonly isInFirstNamespace: boolean | undefined;
}

/** Facts about the machine that only `doctor` needs. */
export interface Diagnostics {
  /** Versions of the installed packages with programs that the driver runs. */
  programVersions(): Promise<readonly ProgramVersion[]>;
  loopLimits(): Promise<LoopLimits>;
  /** How mounts below an existing directory propagate to other mount namespaces. KernelError ENOENT. */
  propagationOf(directory: string): Promise<Propagation>;
}

export interface Host {
  /** The lane of all kernel calls made through this host. */
  readonly lane: Lane;
  /** Returns the same node with its kernel calls in this lane. */
  inLane(lane: Lane): Host;
  readonly files: Files;
  readonly loops: LoopDevices;
  readonly deviceLimits: DeviceLimits;
  readonly mounts: Mounts;
  readonly filesystems: Filesystems;
  readonly extents: Extents;
  readonly copies: Copies;
  readonly trees: Trees;
  readonly freezer: Freezer;
  readonly users: MountUsers;
  readonly facts: NodeFacts;
  readonly diagnostics: Diagnostics;
  /**
   * Running programs from the table in programs/programs.ts that are visible in /proc, including those started by an
   * earlier driver process.
   */
  runningPrograms(): Promise<readonly RunningProgram[]>;
  /** Programs that `host/` needs but this machine does not have. */
  missingPrograms(): Promise<readonly string[]>;
  /** Filesystem types that the kernel can mount now; the types of modules that are not loaded are missing. */
  supportedFilesystems(): Promise<ReadonlySet<string>>;
}
