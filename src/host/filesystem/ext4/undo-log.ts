import { basename, dirname, join } from 'node:path';
import { MiB } from '../../../units.ts';
import { hasErrno, KernelError } from '../../errors.ts';
import { capacity } from '../../files/files.ts';
import { paths } from '../../files/paths.ts';
import { constants } from '../../kernel/abi.ts';
import { ioctlOn } from '../../kernel/calls.ts';
import { fsCall, openFlags, syncPaths, withDescriptor, withOpen } from '../../kernel/descriptor.ts';
import { lockImage } from '../../programs/image-lock.ts';
import { forEachUndoRecord } from './undo-records.ts';

/**
 * The undo log of a program of e2fsprogs that changes an image (its option -z): what each block held before the program first
 * wrote it. It stands beside the image while the program runs and stays when the program, or the driver, is killed; then the
 * next look at the image takes back what had been written, byte for byte. Taking back writes the same bytes each time, so it
 * can be cut short and repeated itself. e2undo is not used: it marks the filesystem as damaged afterwards and, killed in that,
 * leaves a superblock whose checksum is wrong.
 */
export class UndoLog {
  readonly #imagePath: string;
  readonly #directory: string;
  readonly #path: string;

  constructor(imagePath: string) {
    this.#imagePath = imagePath;
    this.#directory = join(dirname(imagePath), `.${basename(imagePath)}.undo`);
    this.#path = join(this.#directory, 'e2undo');
  }

  /**
   * Runs `work`, which gives the program these options. Afterwards the log is gone, for good: one that came back after a power
   * cut would undo what was written later. When `work` fails, what its program wrote is taken back first; where that fails
   * too, the log stays for the next call.
   */
  async during<T>(work: (options: readonly string[]) => Promise<T>): Promise<T> {
    await this.#begin();
    let result: T;
    try {
      result = await work(['-z', this.#path]);
    } catch (error) {
      await this.requireRoom();
      await this.takeBack();
      throw error;
    }
    await this.#end();
    return result;
  }

  /** Takes back what an interrupted program wrote; false when nothing is there to take back. ImageInUseError while it still runs. */
  async takeBack(): Promise<boolean> {
    if (!(await paths.exists(this.#directory))) return false;
    const lock = await lockImage(this.#imagePath);
    try {
      // All of it is checked before the first block is written.
      const count = await forEachUndoRecord(this.#path, () => Promise.resolve());
      await withOpen(this.#imagePath, openFlags.readWrite, (image) =>
        forEachUndoRecord(this.#path, async ({ offset, bytes }) => {
          await fsCall('write', this.#imagePath, () =>
            image.write(bytes, 0, bytes.length, Number(offset)),
          );
        }),
      );
      await this.#end();
      return count > 0;
    } finally {
      await lock.release();
    }
  }

  /** Throws ENOSPC where the log could not be begun because the pool is full: the program has changed nothing then. */
  async requireRoom(): Promise<void> {
    if (!(await paths.exists(this.#directory))) return;
    const { freeBytes } = await capacity(this.#directory);
    if (freeBytes >= MiB) return;
    await this.takeBack();
    throw new KernelError('write', 'ENOSPC', this.#path);
  }

  /**
   * Each write to the log must be on the disk before the program overwrites that block of the image, also for a power cut, and
   * the program syncs only at its end: so the log's directory has the attribute S of chattr(1), which new files inherit. btrfs
   * does not inherit it; there only kills are covered.
   */
  async #begin(): Promise<void> {
    // Not recursively: on a full disk node:fs says ENOENT then.
    await paths.makeNewDirectory(this.#directory);
    await setSynchronous(this.#directory);
    await syncPaths([dirname(this.#imagePath)]);
  }

  /** Gone for good, and not before what it would undo, or has undone, is on the disk. */
  async #end(): Promise<void> {
    if (!(await paths.exists(this.#directory))) return;
    await syncPaths([this.#imagePath]);
    await paths.removeFile(this.#path);
    await syncPaths([this.#directory]);
    await paths.removeDirectory(this.#directory);
  }
}

async function setSynchronous(directory: string): Promise<void> {
  await withDescriptor(directory, openFlags.directory, async (fd) => {
    const flags = Buffer.alloc(8);
    try {
      await ioctlOn(fd, 'FS_IOC_GETFLAGS', flags, { subject: directory });
      flags.writeUInt32LE(flags.readUInt32LE(0) | constants.FS_SYNC_FL, 0);
      await ioctlOn(fd, 'FS_IOC_SETFLAGS', flags, { subject: directory });
    } catch (error) {
      // FUSE, NFS, tmpfs: such files have no attributes.
      if (!hasErrno(error, 'EOPNOTSUPP', 'ENOTTY', 'EINVAL', 'ENOSYS', 'EPERM')) throw error;
    }
  });
}
