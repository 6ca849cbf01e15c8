/**
 * Numbers and structures of the kernel interface (64-bit Linux). calls.ts makes the calls. A test compares every
 * request, size and offset with the kernel headers, using a C compiler.
 */

/** The size of a structure and the offsets of the fields that the driver uses, in bytes. */
interface Layout {
  readonly size: number;
  readonly fields: Readonly<Record<string, number>>;
}

export const layouts = {
  loop_info64: {
    size: 232,
    fields: {
      lo_device: 0,
      lo_inode: 8,
      lo_offset: 24,
      lo_sizelimit: 32,
      lo_number: 40,
      lo_flags: 52,
      lo_file_name: 56,
    },
  },
  loop_config: { size: 304, fields: { fd: 0, block_size: 4, info: 8 } },
  mount_attr: { size: 32, fields: { attr_set: 0, attr_clr: 8, propagation: 16, userns_fd: 24 } },
  statx: {
    size: 256,
    fields: {
      stx_mask: 0,
      stx_attributes: 8,
      stx_mode: 28,
      stx_ino: 32,
      stx_size: 40,
      stx_blocks: 48,
      stx_mtime: 112,
      stx_dev_major: 136,
      stx_dev_minor: 140,
    },
  },
  open_how: { size: 24, fields: { flags: 0, mode: 8, resolve: 16 } },
  fiemap: {
    size: 32,
    fields: { fm_start: 0, fm_length: 8, fm_flags: 16, fm_mapped_extents: 20, fm_extent_count: 24 },
  },
  fiemap_extent: {
    size: 56,
    fields: { fe_logical: 0, fe_physical: 8, fe_length: 16, fe_flags: 40 },
  },
  fstrim_range: { size: 24, fields: { start: 0, len: 8, minlen: 16 } },
  btrfs_ioctl_vol_args: { size: 4096, fields: { fd: 0, name: 8 } },
  xfs_growfs_data: { size: 16, fields: { newblocks: 0, imaxpct: 8 } },
  xfs_fsop_geom: { size: 256, fields: { blocksize: 0, imaxpct: 28, datablocks: 32 } },
} as const satisfies Readonly<Record<string, Layout>>;

/** ioctl(2) requests. */
export const requests = {
  LOOP_CLR_FD: 0x4c01,
  LOOP_SET_STATUS64: 0x4c04,
  LOOP_GET_STATUS64: 0x4c05,
  LOOP_SET_CAPACITY: 0x4c07,
  LOOP_CONFIGURE: 0x4c0a,
  LOOP_CTL_ADD: 0x4c80,
  LOOP_CTL_REMOVE: 0x4c81,
  LOOP_CTL_GET_FREE: 0x4c82,
  BLKGETSIZE64: 0x80081272,
  BLKSSZGET: 0x1268,
  BLKFLSBUF: 0x1261,
  FICLONE: 0x40049409,
  FS_IOC_GETFLAGS: 0x80086601,
  FS_IOC_SETFLAGS: 0x40086602,
  FIFREEZE: 0xc0045877,
  FITHAW: 0xc0045878,
  FITRIM: 0xc0185879,
  FS_IOC_FIEMAP: 0xc020660b,
  EXT4_IOC_RESIZE_FS: 0x40086610,
  XFS_IOC_FSGROWFSDATA: 0x4010586e,
  XFS_IOC_FSGEOMETRY: 0x8100587e,
  BTRFS_IOC_RESIZE: 0x50009403,
} as const;
export type Request = keyof typeof requests;

/** Flags and other constants, named as in the kernel headers. */
export const constants = {
  LO_FLAGS_READ_ONLY: 1,
  LO_FLAGS_AUTOCLEAR: 4,
  LO_FLAGS_DIRECT_IO: 16,
  MS_RDONLY: 1,
  MS_NOSUID: 2,
  MS_NODEV: 4,
  MS_NOEXEC: 8,
  MS_SYNCHRONOUS: 16,
  MS_DIRSYNC: 128,
  MS_NOSYMFOLLOW: 256,
  MS_NOATIME: 1024,
  MS_NODIRATIME: 2048,
  MS_PRIVATE: 0x40000,
  MS_RELATIME: 0x200000,
  MS_STRICTATIME: 0x1000000,
  MS_LAZYTIME: 0x2000000,
  UMOUNT_NOFOLLOW: 8,
  MOUNT_ATTR_RDONLY: 1,
  MOUNT_ATTR_NOSUID: 2,
  MOUNT_ATTR_NODEV: 4,
  MOUNT_ATTR_NOEXEC: 8,
  FSOPEN_CLOEXEC: 1,
  FSMOUNT_CLOEXEC: 1,
  FSCONFIG_SET_FLAG: 0,
  FSCONFIG_SET_STRING: 1,
  FSCONFIG_CMD_CREATE: 6,
  OPEN_TREE_CLONE: 1,
  OPEN_TREE_CLOEXEC: 0x80000,
  MOVE_MOUNT_F_EMPTY_PATH: 0x4,
  MOVE_MOUNT_T_EMPTY_PATH: 0x40,
  AT_FDCWD: -100,
  AT_SYMLINK_NOFOLLOW: 0x100,
  AT_NO_AUTOMOUNT: 0x800,
  AT_EMPTY_PATH: 0x1000,
  RESOLVE_NO_SYMLINKS: 4,
  RESOLVE_BENEATH: 8,
  RESOLVE_CACHED: 0x20,
  AT_STATX_DONT_SYNC: 0x4000,
  STATX_BASIC_STATS: 0x7ff,
  STATX_ATTR_MOUNT_ROOT: 0x2000,
  RENAME_NOREPLACE: 1,
  S_IFBLK: 0o060000,
  O_CLOEXEC: 0x80000,
  O_PATH: 0x200000,
  SEEK_DATA: 3,
  SEEK_HOLE: 4,
  FALLOC_FL_KEEP_SIZE: 1,
  FALLOC_FL_PUNCH_HOLE: 2,
  FS_SYNC_FL: 8,
  LOCK_SH: 1,
  LOCK_EX: 2,
  LOCK_NB: 4,
  FIEMAP_FLAG_SYNC: 1,
  FIEMAP_EXTENT_LAST: 1,
  FIEMAP_EXTENT_UNKNOWN: 2,
  FIEMAP_EXTENT_DELALLOC: 4,
  FIEMAP_EXTENT_ENCODED: 8,
  FIEMAP_EXTENT_DATA_ENCRYPTED: 0x80,
  FIEMAP_EXTENT_NOT_ALIGNED: 0x100,
  FIEMAP_EXTENT_DATA_INLINE: 0x200,
  FIEMAP_EXTENT_DATA_TAIL: 0x400,
  FIEMAP_EXTENT_UNWRITTEN: 0x800,
  FIEMAP_EXTENT_SHARED: 0x2000,
} as const;

/** System call numbers for syscall(2). The newer calls have the same number on every architecture. */
export const callNumbers = {
  open_tree: 428,
  move_mount: 429,
  fsopen: 430,
  fsconfig: 431,
  fsmount: 432,
  openat2: 437,
  mount_setattr: 442,
  renameat2: { x64: 316, other: 276 },
  copy_file_range: { x64: 326, other: 285 },
  mknodat: { x64: 259, other: 33 },
  statx: { x64: 332, other: 291 },
} as const;

/**
 * Names of errno values 1 to 133, in order; `-` marks a number that Linux does not use. The numbers are those of
 * asm-generic (x86-64, arm64, riscv64).
 */
const errnoNames = (
  'EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY EEXIST EXDEV ' +
  'ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM ERANGE EDEADLK ' +
  'ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP - ENOMSG EIDRM ECHRNG EL2NSYNC EL3HLT EL3RST ELNRNG EUNATCH ENOCSI EL2HLT ' +
  'EBADE EBADR EXFULL ENOANO EBADRQC EBADSLT - EBFONT ENOSTR ENODATA ETIME ENOSR ENONET ENOPKG EREMOTE ENOLINK EADV ' +
  'ESRMNT ECOMM EPROTO EMULTIHOP EDOTDOT EBADMSG EOVERFLOW ENOTUNIQ EBADFD EREMCHG ELIBACC ELIBBAD ELIBSCN ELIBMAX ' +
  'ELIBEXEC EILSEQ ERESTART ESTRPIPE EUSERS ENOTSOCK EDESTADDRREQ EMSGSIZE EPROTOTYPE ENOPROTOOPT EPROTONOSUPPORT ' +
  'ESOCKTNOSUPPORT EOPNOTSUPP EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL ENETDOWN ENETUNREACH ENETRESET ' +
  'ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN ESHUTDOWN ETOOMANYREFS ETIMEDOUT ECONNREFUSED EHOSTDOWN EHOSTUNREACH ' +
  'EALREADY EINPROGRESS ESTALE EUCLEAN ENOTNAM ENAVAIL EISNAM EREMOTEIO EDQUOT ENOMEDIUM EMEDIUMTYPE ECANCELED ENOKEY ' +
  'EKEYEXPIRED EKEYREVOKED EKEYREJECTED EOWNERDEAD ENOTRECOVERABLE ERFKILL EHWPOISON'
).split(' ');

/**
 * The name of an errno value, for example `EBUSY` for 16; `E<number>` if it has none. EWOULDBLOCK is EAGAIN, and
 * ENOTSUP is EOPNOTSUPP.
 */
export function errnoName(errno: number): string {
  const name = errnoNames[errno - 1];
  return name === undefined || name === '-' ? `E${errno}` : name;
}
