/**
 * Time limits of system calls and programs. After the limit, the caller gets a StuckError or the program is killed: its
 * disk is assumed to hang. Each limit is far longer than the work takes on a working disk.
 */

const minute = 60_000;

/**
 * For calls without a specific limit, which read or write little. The gate applies it separately to waiting and to
 * running.
 */
export const defaultTimeoutMs = minute;

/** Mounting replays the log; unmounting and syncfs write back all dirty data. Both can take minutes. */
export const mountTimeoutMs = 5 * minute;

/**
 * Work on a whole image or filesystem, which can take minutes:
 * - write back the dirty pages of a large image (fsync, fdatasync; FIEMAP does it first)
 * - allocate terabytes on ext4
 * - free the blocks of a large or heavily fragmented image, even one slice of it
 * - clone an image (about 10 µs per extent), or count more than a million extents
 * - write the metadata of new block groups when a very large filesystem grows
 * - trim a range: less than a second on an idle disk, longer on a busy one
 * - create a filesystem, or change its UUID
 */
export const imageTimeoutMs = 10 * minute;

/** Copying a directory with terabytes of data. The copy reports its progress and can be cancelled. */
export const treeCopyTimeoutMs = 7 * 24 * 60 * minute;

/** e2fsck and resize2fs may read all blocks of a filesystem, and resize2fs may move them. */
export const checkTimeoutMs = 60 * minute;
