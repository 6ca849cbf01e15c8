import { basename, dirname, join } from 'node:path';
import { MiB } from '../../../units.ts';
import { hasErrno, KernelError } from '../../errors.ts';
import { capacity } from '../../files/files.ts';
import { makePaths } from '../../files/paths.ts';
import type { Paths } from '../../host.ts';
import { constants } from '../../kernel/abi.ts';
import { ioctlOn } from '../../kernel/calls.ts';
import { fsCall, openFlags, syncPaths, withDescriptor, withOpen } from '../../kernel/descriptor.ts';
import type { Lane } from '../../lane.ts';
import { lockImage } from '../../programs/image-lock.ts';
import { forEachUndoRecord } from './undo-records.ts';

/**
 * The undo log of a program of e2fsprogs that changes an image (its option -z): the content of each block before the
 * program first wrote it. It is beside the image while the program runs, and stays if the program or the driver is
 * killed; the next check of the image then restores the old content, byte for byte. Restoring writes the same bytes
 * each time, so it can be interrupted and repeated. e2undo is not used: it marks the filesystem as damaged afterwards
 * and, if killed, leaves a superblock with a wrong checksum.
 */
export class UndoLog {
  readonly #lane: Lane;
  readonly #paths: Paths;
  readonly #imagePath: string;
  readonly #directory: string;
  readonly #path: string;

  constructor(lane: Lane, imagePath: string) {
    this.#lane = lane;
    this.#paths = makePaths(lane);
    this.#imagePath = imagePath;
    this.#directory = join(dirname(imagePath), `.${basename(imagePath)}.undo`);
    this.#path = join(this.#directory, 'e2undo');
  }

  /**
   * Runs `work`, which passes these options to the program. Afterwards the log is durably removed: if it came back
   * after a power cut, it would undo later writes. When `work` fails, the changes of its program are undone first; if
   * that fails too, the log stays for the next call.
   */
  async runWithLog<T>(work: (options: readonly string[]) => Promise<T>): Promise<T> {
    await this.#begin();
    let result: T;
    try {
      result = await work(['-z', this.#path]);
    } catch (error) {
      await this.requireFreeSpace();
      await this.restore();
      throw error;
    }
    await this.#end();
    return result;
  }

  /**
   * Undoes the changes of an interrupted program; false when there are none. ImageInUseError while the program still
   * runs.
   */
  async restore(): Promise<boolean> {
    if (!(await this.#paths.exists(this.#directory))) return false;
    const lock = await lockImage(this.#lane, this.#imagePath);
    try {
      // Check everything before the first block is written.
      const count = await forEachUndoRecord(this.#lane, this.#path, () => Promise.resolve());
      await withOpen(this.#lane, this.#imagePath, openFlags.readWrite, (image) =>
        forEachUndoRecord(this.#lane, this.#path, async ({ offset, bytes }) => {
          await fsCall(this.#lane, 'write', this.#imagePath, () =>
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

  /**
   * Throws ENOSPC when the log could not be created because the filesystem of the pool is full; the program has changed
   * nothing then.
   */
  async requireFreeSpace(): Promise<void> {
    if (!(await this.#paths.exists(this.#directory))) return;
    const { freeBytes } = await capacity(this.#lane, this.#directory);
    if (freeBytes >= MiB) return;
    await this.restore();
    throw new KernelError('write', 'ENOSPC', this.#path);
  }

  /**
   * Each write to the log must be durable before the program overwrites that block of the image, also for a power cut,
   * but the program syncs only at its end. So the directory of the log has attribute S of chattr(1), which new files
   * inherit. btrfs does not inherit it; there only kills are covered.
   */
  async #begin(): Promise<void> {
    // Not recursive: on a full disk, node:fs would report ENOENT then.
    await this.#paths.makeNewDirectory(this.#directory);
    await setSynchronous(this.#lane, this.#directory);
    await syncPaths(this.#lane, [dirname(this.#imagePath)]);
  }

  /** Removes the log durably, after the image is synced. */
  async #end(): Promise<void> {
    if (!(await this.#paths.exists(this.#directory))) return;
    await syncPaths(this.#lane, [this.#imagePath]);
    await this.#paths.removeFile(this.#path);
    await syncPaths(this.#lane, [this.#directory]);
    await this.#paths.removeDirectory(this.#directory);
  }
}

async function setSynchronous(lane: Lane, directory: string): Promise<void> {
  await withDescriptor(lane, directory, openFlags.directory, async (fd) => {
    const flags = Buffer.alloc(8);
    try {
      await ioctlOn(lane, fd, 'FS_IOC_GETFLAGS', flags, { subject: directory });
      flags.writeUInt32LE(flags.readUInt32LE(0) | constants.FS_SYNC_FL, 0);
      await ioctlOn(lane, fd, 'FS_IOC_SETFLAGS', flags, { subject: directory });
    } catch (error) {
      // Files on FUSE, NFS and tmpfs have no attributes.
      if (!hasErrno(error, 'EOPNOTSUPP', 'ENOTTY', 'EINVAL', 'ENOSYS', 'EPERM')) throw error;
    }
  });
}
