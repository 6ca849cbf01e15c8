import type { FileHandle } from 'node:fs/promises';
import type { Lane } from './lane.ts';

/**
 * The interface of the node, as types. `real-host.ts` implements it with kernel calls and programs,
 * `test/helpers/fake-host.ts` in memory; one contract suite runs against both.
 *
 * Paths are absolute. Byte counts are bigint. Kernel calls fail with `KernelError`, programs with `CommandError`
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

/** Operations on paths. Each is one step of the gate, however many calls it makes; a failure is a KernelError. */
export interface Paths {
  /** Whether the path exists; a dangling symlink does. Throws when that cannot be determined (EACCES, EIO). */
  exists(path: string): Promise<boolean>;
  /** lstat. KernelError ENOENT. */
  status(path: string): Promise<PathStatus>;
  /** The names in a directory. */
  list(path: string): Promise<readonly string[]>;
  listWithKinds(
    path: string,
  ): Promise<readonly { readonly name: string; readonly kind: PathKind }[]>;
  isEmptyDirectory(path: string): Promise<boolean>;
  readText(path: string): Promise<string>;
  /** Reads many files, several at a time. Returns one result for each path, in order. */
  readTexts(paths: readonly string[]): Promise<readonly PromiseSettledResult<string>[]>;
  /** Writes a new file of mode 0600, without fsync. EEXIST if the path exists. */
  writeNew(path: string, text: string): Promise<void>;
  /**
   * Replaces the content atomically: a crash leaves the old or the new content. With `durable: false` this holds only
   * for a crash of the process, not of the machine.
   */
  replaceFile(path: string, text: string, options?: { durable?: boolean }): Promise<void>;
  /**
   * Overwrites an existing file in place, which needs no new block unless the text is longer. A crash may leave a mix
   * of both.
   */
  overwrite(path: string, text: string): Promise<void>;
  /** Makes a directory of mode 0700 and its missing parents. An existing directory is fine. */
  makeDirectory(path: string): Promise<void>;
  /** Makes a directory of mode 0700. EEXIST if the path exists. */
  makeNewDirectory(path: string): Promise<void>;
  /** chmod 0400. */
  makeReadOnly(path: string): Promise<void>;
  /** Removes files, several at a time. A missing file is fine. */
  removeFile(...paths: readonly string[]): Promise<void>;
  /** Removes an empty directory. KernelError ENOENT, ENOTEMPTY, EBUSY (a mount point). */
  removeDirectory(path: string): Promise<void>;
  /**
   * Removes a file, or a directory with its content. A missing path is fine. Follows no symlink and enters no mount:
   * KernelError EBUSY names the mount point, and nothing below it is removed.
   */
  removeTree(path: string): Promise<void>;
  /** Magic number of the filesystem that holds `path` (statfs(2)). */
  filesystemMagic(path: string): Promise<bigint>;
  /** Throws unless this process may read and write there (access(2)). */
  requireReadWrite(path: string): Promise<void>;
}

/** Operations on files and directories that node:fs lacks, or that need care. */
export interface Files extends Paths {
  /**
   * Makes a new file of mode 0600 and the given size, without fsync. `allocate` reserves every block (fallocate).
   * EEXIST if the path exists.
   */
  createImage(path: string, options: { sizeBytes: bigint; allocate: boolean }): Promise<void>;
  /**
   * Grows an image (never shrinks it) and syncs it. `allocate` also fills every hole, even if the size is already
   * right. ImageInUseError as `requireNoProgram`.
   */
  growImage(path: string, options: { sizeBytes: bigint; allocate: boolean }): Promise<void>;
  imageStatus(path: string): Promise<ImageStatus>;
  /**
   * Throws ImageInUseError while a program has the image locked. That can only be a program of an earlier driver
   * process: ours run under the lock of the volume. A missing image is not locked.
   */
  requireNoProgram(path: string): Promise<void>;
  /** Returns the path of a directory with every symlink resolved. KernelError ENOENT, ENOTDIR. */
  resolveDirectory(path: string): Promise<string>;
  /**
   * Punches out extents that are allocated but unwritten, which a clone on btrfs would copy. The content stays the
   * same: zeroes.
   */
  punchUnwritten(path: string): Promise<void>;
  /** fsync of several files and directories, concurrently. */
  sync(...paths: readonly string[]): Promise<void>;
  /** Opens a directory once, for many fsyncs. KernelError ENOTDIR. */
  openDirectory(path: string): Promise<Directory>;
  /** fsync of an open directory: makes earlier creations, renames and removals in it durable. */
  syncOpened(directory: Directory): Promise<void>;
  /** renameat2 with RENAME_NOREPLACE, without fsync. KernelError EEXIST when `to` exists. */
  renameNoReplace(from: string, to: string): Promise<void>;
  /**
   * Takes an exclusive flock without waiting. It is kept until it is released or the process ends. KernelError EAGAIN
   * when another process has it.
   */
  lock(path: string): Promise<{ release(): Promise<void> }>;
  /**
   * Truncates a file from its end in slices of `sliceBytes`, then unlinks it, so that other calls run in between.
   * Follows no symlink. KernelError EBUSY for a mount point; ImageInUseError as `requireNoProgram`.
   */
  removeInSlices(path: string, options: { sliceBytes: bigint; signal: AbortSignal }): Promise<void>;
  /** Finds out with a scratch file in this directory what its filesystem supports. */
  probe(directory: string): Promise<FileAbilities>;
  /** statfs of the filesystem that holds `path`. Free bytes include those reserved for root. */
  capacity(path: string): Promise<Capacity>;
}

export interface FileAbilities {
  /** O_DIRECT. */
  readonly directIo: boolean;
  /** Punching holes (fallocate(2)). */
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
  /** lo_file_name, at most 63 bytes; ours start with `loopcsi:`. For operators; it identifies nothing. */
  readonly label: string;
  readonly readOnly: boolean;
  readonly directIo: boolean;
  readonly autoclear: boolean;
  readonly sectorSize: number;
  readonly sizeBytes: bigint;
}

export interface AttachOptions {
  readonly sectorSize: SectorSize;
  readonly readOnly: boolean;
  readonly directIo: boolean;
  /** If false, the discard limit of the device is set to 0, so that nothing can punch holes into a thick image. */
  readonly discard: boolean;
  /**
   * The kernel detaches the device at its last close or unmount; for short private mounts. The driver keeps it open
   * until `release`, which must be called once the device is mounted, or will not be.
   */
  readonly autoclear?: boolean;
  /** Limits the dirty pages of the device (strict_limit and max_bytes of its bdi), so that a freeze flushes quickly. */
  readonly dirtyLimitBytes?: bigint;
  /** Written to lo_file_name after `loopcsi:`; hashed if it is too long. */
  readonly label: string;
  /** The device is kept open from the start, as with `hold`, so that no other process can detach it in between. */
  readonly hold?: boolean;
  /** All mounts, if the caller has just read them: a device number whose node is bound anywhere is not used. */
  readonly mounts?: readonly Mount[] | undefined;
}

export interface LoopDevices {
  /**
   * All attached loop devices of the machine, except those whose image is on a filesystem that hangs: nothing can be
   * done with them.
   */
  list(): Promise<readonly LoopDevice[]>;
  /** The device with this number; undefined when nothing is attached to it. */
  at(number: number): Promise<LoopDevice | undefined>;
  /**
   * Whether AUTOCLEAR is set: the kernel detaches the device at its last close. Reads kernel memory only. false for a
   * detached device.
   */
  isAutoclear(device: LoopDevice): boolean;
  /** All attached devices with AUTOCLEAR. Cheap when there are none, however many devices are attached. */
  listAutoclear(): Promise<readonly LoopDevice[]>;
  /**
   * The path of its image according to sysfs: as seen by the process that attached it, followed by ` (deleted)` if the
   * file was unlinked. undefined when the device is detached.
   */
  backingPath(device: LoopDevice): Promise<string | undefined>;
  /** The devices attached to this inode, read-write ones first. */
  findByImage(image: FileIdentity): Promise<readonly LoopDevice[]>;
  /**
   * LOOP_CTL_GET_FREE and LOOP_CONFIGURE with an explicit block size; retries, up to a limit, when another process
   * takes the number. Never uses a number whose node is bound anywhere. For some minutes it avoids numbers of devices
   * that were held: a process that was given the node would see this image. The kernel may turn direct I/O off: check
   * `directIo` of the result. Does not look for an existing device; the caller does, under the lock of the volume.
   * ImageInUseError while a program of an earlier driver process works on the image.
   */
  attach(imagePath: string, options: AttachOptions): Promise<LoopDevice>;
  /**
   * Keeps the device open (read-only, not exclusively) and clears AUTOCLEAR, so that LOOP_CLR_FD of another process
   * does not detach it until `release` or `detach`. Returns whether it is still attached to this image. Idempotent.
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
   * BLKFLSBUF: writes to the image what raw writers left in the page cache of the device, and lets readers see the
   * image again. The kernel does this at the last close of a device, which never happens while it is held.
   */
  writeBack(device: LoopDevice): Promise<void>;
  /** LOOP_SET_CAPACITY: the device gets the present size of the image. */
  refreshSize(device: LoopDevice): Promise<void>;
  /**
   * LOOP_CLR_FD, then waits, up to a limit, until the device is detached. Then LOOP_CTL_REMOVE if settings of its queue
   * were changed (`discard: false`, dirty limits), since they stay with the number. Returns `in-use` when something
   * still uses the device; the request is then undone (AUTOCLEAR), unless it may be fulfilled `later`, at the last
   * close. An already detached device is `detached`.
   */
  detach(device: LoopDevice, options?: { later?: boolean }): Promise<'detached' | 'in-use'>;
  /** open(O_EXCL): whether the device is in use in any mount namespace. */
  isInUse(device: LoopDevice): Promise<boolean>;
  /** fsync of the device node: writes to the image what raw writers left in its page cache. */
  sync(device: LoopDevice): Promise<void>;
}

/** One line of /proc/self/mountinfo. */
export interface Mount {
  readonly id: number;
  readonly parentId: number;
  /** `major:minor`. It is anonymous for btrfs: compare `source` there. */
  readonly majorMinor: string;
  /** The directory or file of the filesystem that is mounted here; `/` except for a bind mount of something below. */
  readonly root: string;
  readonly target: string;
  /** Per-mount options: ro, noexec, … */
  readonly options: readonly string[];
  readonly fsType: string;
  readonly source: string;
  /** Options of the superblock: an ext4 whose journal aborted shows `emergency_ro` here while `options` says rw. */
  readonly superOptions: readonly string[];
}

/** How a target path is resolved. */
export interface TargetOptions {
  /**
   * The directory that must contain the target (the directory of the kubelet). No symlink below it is followed:
   * KernelError ELOOP, and EXDEV for a path outside. Without a root, only the last component must not be a symlink.
   */
  readonly root?: string | undefined;
}

export interface Mounts {
  /** All mounts of our namespace; of stacked ones the bottom first. */
  list(): Promise<readonly Mount[]>;
  /** The topmost mount whose target is exactly `target`, after resolving symlinks in its parents. */
  at(target: string): Promise<Mount | undefined>;
  /**
   * mount(2) of a block device on an existing directory. `options` are single options of a mount command, without
   * commas. KernelError EEXIST for a btrfs whose UUID another registered device has, if the kernel mounts that one.
   */
  mountDevice(
    device: string,
    target: string,
    options: { fsType: FsType; options: readonly string[] } & TargetOptions,
  ): Promise<void>;
  /**
   * Binds `source` (a directory, or a device node onto a file) on `target`. The attributes are set before the mount is
   * visible (open_tree, mount_setattr, move_mount). The last component of `target` must not be a symlink.
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
   * Thaws the filesystem if this is its last mount in our namespace (EINVAL is fine; other mounts may be part of a
   * freeze in progress), then calls umount2 with UMOUNT_NOFOLLOW; retries EBUSY for some hundred milliseconds.
   * KernelError EBUSY when it stays busy. A path that does not exist or is not a mount point is fine. With `keepFrozen`
   * nothing is thawed: the caller must do it, or the superblock stays active without a mount.
   */
  unmount(
    target: string,
    options?: TargetOptions & { readonly keepFrozen?: boolean },
  ): Promise<void>;
  /**
   * Makes the last component of a target, a directory or an empty file, unless it exists; its parent must exist.
   * KernelError ENOTDIR or EISDIR when the other kind exists, ELOOP for a symlink.
   */
  makeTarget(target: string, kind: 'directory' | 'file', options?: TargetOptions): Promise<void>;
  /**
   * Removes the last component, an empty directory or a file. A missing one is fine. KernelError ENOTEMPTY, EBUSY (a
   * mount point).
   */
  removeTarget(target: string, options?: TargetOptions): Promise<void>;
  /** syncfs(2) on the filesystem mounted at `target`. */
  syncFilesystem(target: string): Promise<void>;
  /**
   * FITRIM of one range. Returns the discarded bytes that the filesystem reports; `undefined` when the filesystem ends
   * before the range. The mount is busy meanwhile. Throws when the mount at `target` is not of `device`.
   */
  trim(target: string, device: LoopDevice, range: ByteRange): Promise<bigint | undefined>;
  /** FITHAW. Returns whether the filesystem was frozen. Checks `device` as `trim` does. */
  thaw(target: string, device: LoopDevice): Promise<boolean>;
  /**
   * The same for an active superblock without a mount in our namespace: unmounted while frozen, or mounted in another
   * namespace. It is mounted for this call without a path, so that no other process can enter or keep the mount.
   * KernelError EBUSY when the device is used by something other than a filesystem; ENOSYS or EPERM when fsopen(2) is
   * missing or not permitted.
   */
  thawWithoutMount(device: LoopDevice, fsType: FsType): Promise<boolean>;
}

/** The state of the filesystem in an image, read from its superblock without mounting it. */
export type SuperblockState =
  /** Ready to be mounted. */
  | 'clean'
  /** The journal or log must be replayed, which a mount does. */
  | 'needs-replay'
  /** The error flag of ext4 is set: e2fsck must run. */
  | 'has-errors';

export interface Superblock {
  readonly fsType: FsType;
  readonly uuid: string;
  /** Size of the filesystem, in bytes. */
  readonly sizeBytes: bigint;
  /**
   * The filesystem leaves fewer bytes than this at the end of the device unused: ext4 makes no last group that its own
   * tables would fill.
   */
  readonly unusableTailBytes?: bigint;
  readonly state: SuperblockState;
}

export interface MakeOptions {
  readonly sectorSize: SectorSize;
  readonly thick: boolean;
  readonly uuid: string;
  /** The validated `mkfsOptions` of the class, passed on unchanged. */
  readonly options: readonly string[];
}

export interface GrowImageOptions {
  readonly sectorSize: SectorSize;
  readonly workDir: string;
  readonly isDisposable?: boolean;
}

export interface Filesystem {
  readonly type: FsType;
  /** Minimum size of an image with this filesystem. */
  readonly minBytes: bigint;
  /** Minimum size that a filesystem of this type can be grown to: the kernel refuses a btrfs of less than 256 MiB. */
  readonly minGrownBytes: bigint;
  /** Options that every mount of this type gets, before those of the caller. */
  readonly mountOptions: readonly string[];
  /**
   * Makes the filesystem on a new, unattached image in `tmp/`, which the caller syncs. Throws CommandError; ENOSPC is
   * visible as a full filesystem of the pool.
   */
  make(imagePath: string, options: MakeOptions): Promise<void>;
  /** Reads the superblock; undefined when the image has none of this type (wrong magic or checksum). Never writes. */
  readSuperblock(imagePath: string): Promise<Superblock | undefined>;
  /**
   * Repairs an unattached image with `has-errors` if that is safe without an operator (ext4: e2fsck -fn, then -p).
   * `damaged` leaves it unchanged; `detail` has the output of the program.
   */
  check(
    imagePath: string,
  ): Promise<{ outcome: 'sound' | 'repaired' } | { outcome: 'damaged'; detail: string }>;
  /**
   * Undoes the changes of a program that was killed while it changed the image, byte for byte. Must be called before
   * anything else is done with an unattached image. Returns false when there was nothing to undo.
   */
  recover(imagePath: string): Promise<boolean>;
  /**
   * Grows a mounted filesystem to `sizeBytes` (the size of the device) by ioctl. `not-permitted`: ext4 without
   * CAP_SYS_RESOURCE, after errors, or with a layout that only resize2fs can grow. Already that large is `grown`.
   */
  growMounted(
    target: string,
    device: LoopDevice,
    sizeBytes: bigint,
  ): Promise<'grown' | 'not-permitted'>;
  /** Errors that the kernel has recorded for the mounted filesystem on the device: ext4 counts them; 0 for other types. */
  countErrors(device: LoopDevice): Promise<number>;
  /**
   * Grows the filesystem of an unattached image to the size of the image: ext4 by resize2fs; XFS and btrfs in a private
   * mount below `workDir`, so a copy needs its own UUID first: the kernel refuses a second XFS with the UUID of a
   * mounted one. If it is killed, `recover` undoes it, unless the image `isDisposable`: a copy that is not in use yet.
   */
  growImage(imagePath: string, options: GrowImageOptions): Promise<void>;
  /** Gives an unattached, private copy a new UUID, after replaying its log if needed, and verifies the superblock. */
  renewUuid(
    imagePath: string,
    options: { uuid: string; sectorSize: SectorSize; workDir: string },
  ): Promise<void>;
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
  /** FIEMAP with FIEMAP_FLAG_SYNC, in pages, up to the last extent of the file. */
  map(path: string, options?: { from?: bigint }): AsyncIterable<readonly Extent[]>;
  /** The data ranges according to SEEK_DATA and SEEK_HOLE. */
  data(path: string, options?: { from?: bigint }): AsyncIterable<ByteRange>;
  count(path: string): Promise<number>;
  /**
   * Reads one range of both files, at most `maxComparedBytes`, and returns the ranges of blocks that differ. Bytes
   * after the end of a file count as zeroes.
   */
  compare(
    a: string,
    b: string,
    range: ByteRange & { blockBytes: bigint },
  ): Promise<readonly ByteRange[]>;
  /** Bytes of extents without the SHARED flag, which a rewrite would not allocate again. */
  exclusiveBytes(path: string): Promise<bigint>;
}

export interface Copies {
  /** Whether files in this directory can share blocks. Tries FICLONE on two scratch files there. */
  canReflink(directory: string): Promise<boolean>;
  /**
   * Makes `to` (new, mode 0600) share all blocks of `from` (FICLONE), without fsync. EOPNOTSUPP or EXDEV when the
   * filesystem cannot; ImageInUseError while a program of an earlier driver process works on `from`, also for
   * `copySparse`.
   */
  reflink(from: string, to: string): Promise<void>;
  /**
   * Copies the data extents of `from` into `to`, which keeps its holes, in the kernel (copy_file_range); syncs at the
   * end. `to` may contain the result of an interrupted copy: everything below `resumeFrom` counts as copied.
   * `doneBytes` is a file offset; everything below it is durable, so it is valid as `resumeFrom` later, even after a
   * crash.
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

/** A freeze owned by a child process, which thaws when its pipe closes: a killed driver thaws at once. */
export interface Freeze {
  /**
   * Thaws all targets and returns for how many milliseconds they were frozen. Idempotent. KernelError ETIMEDOUT when
   * the time limit passed first, ECHILD when the child was killed. Everything is thawed then too, but captures made
   * meanwhile have no common point in time.
   */
  thaw(): Promise<number>;
}

export interface Freezer {
  /**
   * FIFREEZE of every target, concurrently, after checking that each is the filesystem of its device. All or none:
   * after a failure, targets that were frozen are thawed. KernelError EBUSY: another process froze it; ENODEV: not the
   * filesystem of the device; ETIMEDOUT: the freeze took too long. The child thaws on its own after `timeoutMs`. A target
   * can be unmounted meanwhile: its superblock stays active until the thaw.
   */
  freeze(
    targets: readonly { target: string; device: LoopDevice }[],
    options: { timeoutMs: number },
  ): Promise<Freeze>;
}

/** A process that keeps a mount or device in use. */
export interface MountUser {
  readonly pid: number;
  /** The kernel's name of its program (comm). */
  readonly command: string;
}

/**
 * Searches /proc for users of a mount or device: at most five, for at most a second, among the processes that this one
 * may inspect.
 */
export interface MountUsers {
  /** Processes with an open file, the working directory or a mapping on one of these mounts of our namespace. */
  ofMounts(mounts: readonly Mount[]): Promise<readonly MountUser[]>;
  /** Processes in any mount namespace that use the filesystem on the device or have the device open. */
  ofDevice(device: LoopDevice): Promise<readonly MountUser[]>;
  /** Block devices on top of this one (LVM, md), under the names that operators know. */
  devicesAbove(device: LoopDevice): Promise<readonly string[]>;
}

/** A running program of the table in programs/programs.ts, whichever process started it. */
export interface RunningProgram {
  readonly name: string;
  readonly pid: number;
  /** Paths of its open files, as seen by this process. */
  readonly paths: readonly string[];
}

export interface NodeFacts {
  /** Whether this process has CAP_SYS_ADMIN, which mounts and loop devices need. */
  readonly canMount: boolean;
  /** Whether this process has CAP_SYS_RESOURCE, which online growth of ext4 needs. */
  readonly canGrowExt4Online: boolean;
  readonly kernelRelease: string;
}

export interface Host {
  /** The lane of all its kernel calls. */
  readonly lane: Lane;
  /** The same node, with kernel calls in this lane. */
  inLane(lane: Lane): Host;
  readonly files: Files;
  readonly loops: LoopDevices;
  readonly mounts: Mounts;
  readonly filesystems: Readonly<Record<FsType, Filesystem>>;
  readonly extents: Extents;
  readonly copies: Copies;
  readonly freezer: Freezer;
  readonly users: MountUsers;
  readonly facts: NodeFacts;
  /** Running programs of our table, including those of an earlier driver process, as far as /proc shows them. */
  runningPrograms(): Promise<readonly RunningProgram[]>;
  /** Programs that `host/` needs and that this machine lacks. */
  missingPrograms(): Promise<readonly string[]>;
  /** Filesystem types that the kernel can mount at present; a module that is not loaded is not among them. */
  supportedFilesystems(): Promise<ReadonlySet<string>>;
}
