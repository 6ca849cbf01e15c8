import type { FileHandle } from 'node:fs/promises';

/**
 * What the domain asks of the node, as types. `real-host.ts` fulfils it with kernel calls and programs,
 * `test/helpers/fake-host.ts` in memory; one contract suite runs against both.
 *
 * Paths are absolute. Byte counts are bigint. Kernel calls fail with `KernelError`, programs with
 * `CommandError` (errors.ts in this folder); the domain gives them their meaning.
 */

export const fsTypes = ['ext4', 'xfs', 'btrfs'] as const;
export type FsType = (typeof fsTypes)[number];

/** Bytes of a logical sector of a loop device. */
export type SectorSize = 512 | 4096;

/** A file as the kernel knows it, whatever its path: st_dev and st_ino. */
export interface FileIdentity {
  readonly device: bigint;
  readonly inode: bigint;
}

export interface ImageStatus extends FileIdentity {
  readonly sizeBytes: bigint;
  /** st_blocks × 512. On a reflink pool this includes blocks shared with other images. */
  readonly allocatedBytes: bigint;
}

export type PathKind = 'file' | 'directory' | 'symlink' | 'character-device' | 'other';

export interface PathStatus extends FileIdentity {
  readonly kind: PathKind;
  readonly sizeBytes: bigint;
  /** st_mtime in nanoseconds since the epoch. */
  readonly modifiedNs: bigint;
  /** A mount begins here. */
  readonly isMountPoint: boolean;
}

/** What stands at a path. Each verb is one step of the gate, however many calls it makes; a failure is a KernelError. */
export interface Paths {
  /** Whether something stands there, a dangling symlink included. Throws when that cannot be told (EACCES, EIO). */
  exists(path: string): Promise<boolean>;
  /** lstat. KernelError ENOENT. */
  status(path: string): Promise<PathStatus>;
  /** Names in a directory. */
  list(path: string): Promise<readonly string[]>;
  listWithKinds(
    path: string,
  ): Promise<readonly { readonly name: string; readonly kind: PathKind }[]>;
  isEmptyDirectory(path: string): Promise<boolean>;
  readText(path: string): Promise<string>;
  /** Reads many files, several at a time; one result for each path, in order. */
  readTexts(paths: readonly string[]): Promise<readonly PromiseSettledResult<string>[]>;
  /** Writes a new file of mode 0600; not synced. EEXIST if there. */
  writeNew(path: string, text: string): Promise<void>;
  /** Leaves the old or the new content, whole, also after a crash; with `durable: false` only after one of the process. */
  replaceFile(path: string, text: string, options?: { durable?: boolean }): Promise<void>;
  /** Writes over a file that is there, which needs no new block where the new text is no longer. A crash may tear it. */
  overwrite(path: string, text: string): Promise<void>;
  /** Makes a directory of mode 0700 and what is missing above it; there already is fine. */
  makeDirectory(path: string): Promise<void>;
  /** Makes a directory of mode 0700. EEXIST if there. */
  makeNewDirectory(path: string): Promise<void>;
  /** chmod 0400. */
  makeReadOnly(path: string): Promise<void>;
  /** Removes files, several at a time; absent is fine. */
  removeFile(...paths: readonly string[]): Promise<void>;
  /** Removes an empty directory. KernelError ENOENT, ENOTEMPTY, EBUSY (a mount point). */
  removeDirectory(path: string): Promise<void>;
  /**
   * Removes a file, or a directory with everything in it; absent is fine. Follows no symlink and enters no mount: KernelError
   * EBUSY, which names the mount point, and nothing below that is removed.
   */
  removeTree(path: string): Promise<void>;
  /** Magic number of the filesystem that holds `path` (statfs(2)). */
  filesystemMagic(path: string): Promise<bigint>;
  /** Throws unless this process may read and write there (access(2)). */
  requireReadWrite(path: string): Promise<void>;
}

/** Files and directories: what node:fs lacks or what must be done in one careful way. */
export interface Files extends Paths {
  /** Makes a new file of mode 0600 and that size; `allocate` reserves every block (fallocate). Not synced. EEXIST if there. */
  createImage(path: string, options: { sizeBytes: bigint; allocate: boolean }): Promise<void>;
  /**
   * Grows an image (never shrinks it) and syncs it. With `allocate`, fills every hole too, also when the size is right already.
   * ImageInUseError as `requireNoProgram`.
   */
  growImage(path: string, options: { sizeBytes: bigint; allocate: boolean }): Promise<void>;
  imageStatus(path: string): Promise<ImageStatus>;
  /**
   * Throws ImageInUseError while a program has the image locked, which only one of an earlier driver can have: our own run
   * under the volume's lock. An image that is not there is free.
   */
  requireNoProgram(path: string): Promise<void>;
  /** The path of a directory with every symlink resolved. KernelError ENOENT, ENOTDIR. */
  realDirectory(path: string): Promise<string>;
  /** Gives back what is allocated and was never written, which a clone on btrfs takes over: it reads as zeroes before and after. */
  releaseUnwritten(path: string): Promise<void>;
  /** fsync of files and directories, side by side. */
  sync(...paths: readonly string[]): Promise<void>;
  /** A directory that is opened once, for many fsyncs. KernelError ENOTDIR. */
  openDirectory(path: string): Promise<Directory>;
  /** fsync of an open directory: what was made, renamed or removed in it before is on the disk afterwards. */
  syncOpened(directory: Directory): Promise<void>;
  /** renameat2 with RENAME_NOREPLACE. KernelError EEXIST when `to` exists. Syncs nothing. */
  renameNoReplace(from: string, to: string): Promise<void>;
  /** Takes an exclusive flock without waiting, held until released or the process ends. KernelError EAGAIN when another process has it. */
  lock(path: string): Promise<{ release(): Promise<void> }>;
  /**
   * Frees a file's blocks from its end in slices of `sliceBytes`, then unlinks it: other work gets its turn in between. Follows
   * no symlink; KernelError EBUSY for a mount point; ImageInUseError as `requireNoProgram`.
   */
  removeInSlices(path: string, options: { sliceBytes: bigint; signal: AbortSignal }): Promise<void>;
  /** Tries on a scratch file in this directory what works there. */
  probe(directory: string): Promise<FileAbilities>;
  /** statfs of the filesystem that holds `path`. Free means what root may use. */
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
  /** Bytes and inodes an ordinary user may use (f_bavail, f_favail). */
  readonly availableBytes: bigint;
}

/** An attached loop device, as LOOP_GET_STATUS64 and sysfs tell it. */
export interface LoopDevice {
  readonly number: number;
  /** `/dev/loopN` */
  readonly path: string;
  /** `7:N`, as mountinfo writes it. */
  readonly majorMinor: string;
  readonly backing: FileIdentity;
  /** lo_file_name, at most 63 bytes; ours start with `loopcsi:`. A hint for people, never an identity. */
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
  /** false: the device's discard limit is set to 0, so that nothing can punch holes into a thick image. */
  readonly discard: boolean;
  /**
   * Detach by itself at the last close or unmount: for private, short mounts. The device is kept open until `release`,
   * which is due as soon as it is mounted, or will not be.
   */
  readonly autoclear?: boolean;
  /** At most so many dirty pages of the device (strict_limit and max_bytes of its bdi), so that a freeze flushes quickly. */
  readonly dirtyLimitBytes?: bigint;
  /** Written to lo_file_name behind `loopcsi:`, as a hash when it does not fit. */
  readonly label: string;
  /** The device is held from the beginning, as `hold` does: nobody else can detach it in between. */
  readonly hold?: boolean;
  /** All mounts, as the caller has just seen them: no number is taken that is bound there. Read when not given. */
  readonly mounts?: readonly Mount[] | undefined;
}

export interface LoopDevices {
  /** Every attached loop device of the machine, ours or not, but one whose image hangs: nothing can be done with that. */
  list(): Promise<readonly LoopDevice[]>;
  /** The device of that number; undefined when nothing is attached to it. */
  at(number: number): Promise<LoopDevice | undefined>;
  /** Whether the device goes at its last close: AUTOCLEAR, which the kernel has in memory. false when it is gone. */
  isAutoclear(device: LoopDevice): boolean;
  /** Every attached device that goes at its last close. Cheap where there is none, however many are attached. */
  listAutoclear(): Promise<readonly LoopDevice[]>;
  /**
   * Path of its image as sysfs has it: as whoever attached it saw it, ` (deleted)` behind one that is unlinked; undefined
   * when it is not attached any more.
   */
  backingPath(device: LoopDevice): Promise<string | undefined>;
  /** The devices that sit on that inode, read-write ones first. */
  findByImage(image: FileIdentity): Promise<readonly LoopDevice[]>;
  /**
   * LOOP_CTL_GET_FREE and LOOP_CONFIGURE with an explicit block size; tries again, within a bound, when another process
   * took the number. Never takes a number whose node is bound anywhere, and for some minutes prefers others to one that a held
   * device had: whoever was given its node would see this image. Direct I/O is read back: look at `directIo` of the answer. Does not look for an existing device: the
   * caller does, under the volume's lock. ImageInUseError while a program of an earlier driver works on the image.
   */
  attach(imagePath: string, options: AttachOptions): Promise<LoopDevice>;
  /**
   * Keeps the device open (read-only, not exclusively) and takes AUTOCLEAR off, so that nobody else's LOOP_CLR_FD takes it away
   * until `release` or `detach`. Answers whether it is still attached to that image. Idempotent.
   */
  hold(device: LoopDevice): Promise<boolean>;
  /** Takes AUTOCLEAR off. Answers whether it is still attached to that image. Idempotent. */
  keep(device: LoopDevice): Promise<boolean>;
  /**
   * Closes the descriptor that `hold` or an `autoclear` attach keeps: that device now lives only as long as its mount.
   * Idempotent.
   */
  release(device: LoopDevice): Promise<void>;
  /**
   * What the last close of a device does (BLKFLSBUF), which a held one does not meet: what raw writers left in its page cache
   * is written to the image, and readers ask the image again.
   */
  writeBack(device: LoopDevice): Promise<void>;
  /** LOOP_SET_CAPACITY: the device takes the image's present size. */
  refreshSize(device: LoopDevice): Promise<void>;
  /**
   * LOOP_CLR_FD, then looks whether the device is really gone; waits for a bound. Afterwards LOOP_CTL_REMOVE when the
   * queue's settings were changed (`discard: false`, dirty limits), since those stick to the number. Answers `in-use`
   * when something still uses it; the request is then taken back (AUTOCLEAR), unless it may be fulfilled `later`, at the last
   * close. Already detached is `detached`.
   */
  detach(device: LoopDevice, options?: { later?: boolean }): Promise<'detached' | 'in-use'>;
  /** open(O_EXCL): whether any mount namespace still uses the device. */
  isInUse(device: LoopDevice): Promise<boolean>;
  /** fsync of the device node: what raw block writers left in its page cache reaches the image. */
  sync(device: LoopDevice): Promise<void>;
}

/** One line of /proc/self/mountinfo. */
export interface Mount {
  readonly id: number;
  readonly parentId: number;
  /** `major:minor`; btrfs has an anonymous one: compare `source` there. */
  readonly majorMinor: string;
  /** The directory or file of the filesystem that is mounted here; `/` unless a bind of something below. */
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
   * The directory that the target must lie below (the kubelet's). No symlink below it is followed: KernelError ELOOP, and
   * EXDEV for a path outside. Without it only the last component must not be a symlink.
   */
  readonly root?: string | undefined;
}

export interface Mounts {
  /** All mounts of our namespace, bottom first where stacked. */
  list(): Promise<readonly Mount[]>;
  /** The topmost mount whose target is exactly `target`, after resolving symlinks in its parents. */
  at(target: string): Promise<Mount | undefined>;
  /**
   * mount(2) of a block device on a directory that exists. `options` are comma-free words as a mount command takes them.
   * KernelError EEXIST for a btrfs with the UUID of another that the kernel knows, where it does not mount this one.
   */
  mountDevice(
    device: string,
    target: string,
    options: { fsType: FsType; options: readonly string[] } & TargetOptions,
  ): Promise<void>;
  /**
   * Binds `source` (a directory, or a device node onto a file) on `target`, with the attributes set before it becomes
   * visible (open_tree, mount_setattr, move_mount). `target`'s last component must not be a symlink.
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
   * Thaws what is mounted there when it is its filesystem's last mount here (EINVAL is fine; unmounting one of several
   * leaves a snapshot's freeze alone), then umount2 with UMOUNT_NOFOLLOW; retries EBUSY within a bound of some hundred
   * milliseconds. KernelError EBUSY when it stays busy. Not a mount point, or not there: nothing to do. `keepFrozen`: nothing is
   * thawed, which is the caller's to do, or the filesystem lives on unseen.
   */
  unmount(
    target: string,
    options?: TargetOptions & { readonly keepFrozen?: boolean },
  ): Promise<void>;
  /**
   * Makes the last component of a target, a directory or an empty file, unless it is there; its parent must exist.
   * KernelError ENOTDIR or EISDIR when something of the other kind is there, ELOOP for a symlink.
   */
  makeTarget(target: string, kind: 'directory' | 'file', options?: TargetOptions): Promise<void>;
  /** Removes the last component, an empty directory or a file; absent is fine. KernelError ENOTEMPTY, EBUSY (a mount point). */
  removeTarget(target: string, options?: TargetOptions): Promise<void>;
  /** syncfs(2) on the filesystem mounted at `target`. */
  syncFilesystem(target: string): Promise<void>;
  /**
   * FITRIM of one range; bytes the filesystem says it discarded, `undefined` when it ends before the range. Keeps the mount busy
   * meanwhile. Refuses when `device` is not what is mounted at `target`.
   */
  trim(
    target: string,
    device: LoopDevice,
    range: { readonly offset: bigint; readonly length: bigint },
  ): Promise<bigint | undefined>;
  /** FITHAW; whether it had been frozen. Same check of `device`. */
  thaw(target: string, device: LoopDevice): Promise<boolean>;
  /**
   * The same for a filesystem that lives although nothing of our namespace shows it: unmounted while it was frozen, or mounted
   * in another namespace. No path leads to the mount that is made for it, so nobody can walk into it or keep it. KernelError
   * EBUSY when something else than a filesystem has the device, ENOSYS or EPERM where the kernel has no fsopen(2) for us.
   */
  thawUnseen(device: LoopDevice, fsType: FsType): Promise<boolean>;
}

/** What the superblock of an image says, read by us, without mounting. */
export type SuperblockState =
  /** Nothing to do before a mount. */
  | 'clean'
  /** The journal or log wants a replay, which a mount does. */
  | 'needs-replay'
  /** ext4's error flag is set: e2fsck is due. */
  | 'has-errors';

export interface Superblock {
  readonly fsType: FsType;
  readonly uuid: string;
  /** Bytes the filesystem believes it has. */
  readonly sizeBytes: bigint;
  /** A rest of the device below this is left unused: ext4 makes no last group that its own tables would fill. */
  readonly unusableTailBytes?: bigint;
  readonly state: SuperblockState;
}

export interface MakeOptions {
  readonly sectorSize: SectorSize;
  readonly thick: boolean;
  readonly uuid: string;
  /** Checked words of the class's `mkfsOptions`, passed on as they are. */
  readonly options: readonly string[];
}

export interface GrowImageOptions {
  readonly sectorSize: SectorSize;
  readonly workDir: string;
  readonly isDisposable?: boolean;
}

export interface Filesystem {
  readonly type: FsType;
  /** The least size an image may have for this filesystem. */
  readonly minBytes: bigint;
  /** The least size a filesystem of this type can be grown to: the kernel refuses a btrfs less than 256 MiB. */
  readonly minGrownBytes: bigint;
  /** Options every mount of this type gets besides the caller's. */
  readonly mountOptions: readonly string[];
  /** Makes the filesystem on a new, unattached image in `tmp/`, which the caller syncs. CommandError; ENOSPC shows in the image's filesystem. */
  make(imagePath: string, options: MakeOptions): Promise<void>;
  /** undefined when there is no superblock of this type (magic or checksum wrong). Never writes. */
  readSuperblock(imagePath: string): Promise<Superblock | undefined>;
  /**
   * Brings an unattached image with `has-errors` back if the documented, careful way can (ext4: e2fsck -fn, then -p);
   * `damaged` leaves it as it was, with the program's words for a person.
   */
  check(
    imagePath: string,
  ): Promise<{ outcome: 'sound' | 'repaired' } | { outcome: 'damaged'; detail: string }>;
  /**
   * Takes back what a program had changed that was killed while it changed the image: byte for byte what was there before it.
   * Due before anything else is done with an image that is not attached. Answers false where there was nothing to take back.
   */
  recover(imagePath: string): Promise<boolean>;
  /**
   * Grows a mounted filesystem to `sizeBytes` (the device already has them) by ioctl. `not-permitted`: ext4 without
   * CAP_SYS_RESOURCE, after errors, or of a layout that only resize2fs can grow. Already that large is `grown`.
   */
  growMounted(
    target: string,
    device: LoopDevice,
    sizeBytes: bigint,
  ): Promise<'grown' | 'not-permitted'>;
  /**
   * Grows the filesystem of an unattached image to the image's size. ext4 by resize2fs; xfs and btrfs by a private mount
   * below `workDir`, so a copy gets its own UUID first: the kernel refuses a second XFS with the UUID of a mounted one.
   * A kill in the middle is taken back, now or by `recover`, unless the image `isDisposable`: a copy that nobody has yet.
   */
  growImage(imagePath: string, options: GrowImageOptions): Promise<void>;
  /** Gives an unattached, private copy a new UUID after replaying its log where that is due, and verifies it in the superblock. */
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

export interface Extents {
  /** FIEMAP with FIEMAP_FLAG_SYNC, paged; ends at the file's last extent. */
  map(path: string, options?: { from?: bigint }): AsyncIterable<readonly Extent[]>;
  /** Data ranges by SEEK_DATA and SEEK_HOLE. */
  data(
    path: string,
    options?: { from?: bigint },
  ): AsyncIterable<{ readonly offset: bigint; readonly length: bigint }>;
  count(path: string): Promise<number>;
  /**
   * Reads one range of both files, at most `maxComparedBytes` bytes, and answers the blocks that differ, joined where they
   * touch. Beyond a file's end are zeroes.
   */
  differing(
    a: string,
    b: string,
    range: { offset: bigint; length: bigint; blockBytes: bigint },
  ): Promise<readonly { readonly offset: bigint; readonly length: bigint }[]>;
  /** Bytes of extents without the SHARED flag: what a rewrite would not have to allocate again. */
  exclusiveBytes(path: string): Promise<bigint>;
}

export interface Copies {
  /** Whether two files in this directory can share blocks (FICLONE is tried there, on two scratch files). */
  canReflink(directory: string): Promise<boolean>;
  /**
   * Makes `to` (new, mode 0600) share all blocks of `from` (FICLONE). Not synced. EOPNOTSUPP or EXDEV where that cannot be,
   * ImageInUseError while a program of an earlier driver works on `from`; `copySparse` too.
   */
  reflink(from: string, to: string): Promise<void>;
  /**
   * Copies the data extents of `from` into `to`, which keeps its holes, in the kernel (copy_file_range); syncs at the end.
   * `to` may hold the beginning from an earlier run: what is below `resumeFrom` is taken as done. `doneBytes` is an offset
   * of the file: all below it is on disk, so it may be given as `resumeFrom` later, also after a crash.
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

/** A freeze held by a child process that thaws when its pipe closes, so a killed driver thaws at once. */
export interface Freeze {
  /**
   * Thaws all; milliseconds the filesystems stood still. Idempotent. KernelError ETIMEDOUT when the bound passed first, and
   * ECHILD when the child was killed: all is thawed then too, but what was cut meanwhile is no common moment.
   */
  thaw(): Promise<number>;
}

export interface Freezer {
  /**
   * FIFREEZE on every target, in parallel, after checking that each is the filesystem of its device. All or none: on a
   * failure what was frozen is thawed. KernelError EBUSY: somebody else froze it; ENODEV: not the device's filesystem;
   * ETIMEDOUT: it did not come to rest in time. The child thaws by itself after `boundMs`. A target can be unmounted meanwhile:
   * its filesystem then lives on until the thaw.
   */
  freeze(
    targets: readonly { target: string; device: LoopDevice }[],
    options: { boundMs: number },
  ): Promise<Freeze>;
}

/** A process that keeps something busy. */
export interface MountUser {
  readonly pid: number;
  /** The kernel's name of its program (comm). */
  readonly command: string;
}

/** Looks through /proc for who uses something: at most five, within a second, and only those that this process may look at. */
export interface MountUsers {
  /** Processes with a file, their working directory or a mapping on one of these mounts of our namespace. */
  ofMounts(mounts: readonly Mount[]): Promise<readonly MountUser[]>;
  /** Processes that use the filesystem on the device or have the device open, in any mount namespace. */
  ofDevice(device: LoopDevice): Promise<readonly MountUser[]>;
  /** Block devices that the kernel has made from this one, as for LVM and md, named as an operator knows them. */
  devicesAbove(device: LoopDevice): Promise<readonly string[]>;
}

/** A program of the table in programs/programs.ts that runs now, whoever started it. */
export interface RunningProgram {
  readonly name: string;
  readonly pid: number;
  /** Its open files, as this process names them. */
  readonly paths: readonly string[];
}

export interface NodeFacts {
  /** CAP_SYS_RESOURCE, which online growth of ext4 needs. */
  readonly canGrowExt4Online: boolean;
  readonly kernelRelease: string;
}

export interface Host {
  readonly files: Files;
  readonly loops: LoopDevices;
  readonly mounts: Mounts;
  readonly filesystems: Readonly<Record<FsType, Filesystem>>;
  readonly extents: Extents;
  readonly copies: Copies;
  readonly freezer: Freezer;
  readonly users: MountUsers;
  readonly facts: NodeFacts;
  /** Programs of ours that run now, those of an earlier driver too, as far as /proc shows them. */
  runningPrograms(): Promise<readonly RunningProgram[]>;
  /** Programs `host/` runs, and which are missing on this machine. */
  missingPrograms(): Promise<readonly string[]>;
}
