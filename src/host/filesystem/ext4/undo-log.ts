import { basename, dirname, join } from 'node:path';
import { MiB } from '../../../units.ts';
import { hasErrno, KernelError } from '../../errors.ts';
import { capacity } from '../../files/files.ts';
import { makePaths } from '../../files/paths.ts';
import type { Paths } from '../../host.ts';
import { constants } from '../../kernel/abi.ts';
import { ioctlWithBuffer } from '../../kernel/calls.ts';
import { fsCall, openFlags, syncPaths, withDescriptor, withOpen } from '../../kernel/descriptor.ts';
import type { Lane } from '../../lane.ts';
import { lockImage } from '../../programs/image-lock.ts';
import { forEachUndoRecord } from './undo-records.ts';

/**
 * The undo log of an e2fsprogs program that modifies an image (option -z): the content of each block before the program
 * first wrote it. It is beside the image while the program runs, and remains if the program or the driver is killed;
 * the next check of the image then restores the old content, byte for byte. Restoring always writes the same bytes, so
 * it can be interrupted and repeated. e2undo is not used: it marks the filesystem as damaged afterwards and, if killed,
 * leaves a superblock with a wrong checksum.
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
   * Runs `work`, which must pass the options it gets to the program. Afterwards the log is durably removed: if it
   * reappeared after a power cut, it would undo later writes. If `work` fails, the changes of its program are first
   * undone; if that fails too, the log remains for the next call.
   */
  async runWithLog<T>(work: (options: readonly string[]) => Promise<T>): Promise<T> {
    await this.#create();
    let result: T;
    try {
      result = await work(['-z', this.#path]);
    } catch (error) {
      await this.requireFreeSpace();
      await this.restore();
      throw error;
    }
    await this.#remove();
    return result;
  }

  /**
   * Undoes the changes of an interrupted program. Returns false if there are none. ImageInUseError while the program is
   * still running.
   */
  async restore(): Promise<boolean> {
    if (!(await this.#paths.exists(this.#directory))) return false;
    const lock = await lockImage(this.#lane, this.#imagePath);
    try {
      // Check all records before writing the first block.
      const count = await forEachUndoRecord(this.#lane, this.#path, () => Promise.resolve());
      await withOpen(this.#lane, this.#imagePath, openFlags.readWrite, (image) =>
        forEachUndoRecord(this.#lane, this.#path, async ({ offset, bytes }) => {
          await fsCall(this.#lane, 'write', this.#imagePath, () =>
            image.write(bytes, 0, bytes.length, Number(offset)),
          );
        }),
      );
      await this.#remove();
      return count > 0;
    } finally {
      await lock.release();
    }
  }

  /**
   * Throws ENOSPC if the log could not be created because the pool's filesystem is full. The program has then changed
   * nothing.
   */
  async requireFreeSpace(): Promise<void> {
    if (!(await this.#paths.exists(this.#directory))) return;
    const { freeBytes } = await capacity(this.#lane, this.#directory);
    if (freeBytes >= MiB) return;
    await this.restore();
    throw new KernelError('write', 'ENOSPC', this.#path);
  }

  /**
   * Creates the directory of the log. To survive a power cut, each write to the log must be durable before the program
   * overwrites that block of the image, but the program syncs only at its end. So the directory has attribute S of
   * chattr(1), which new files inherit. On btrfs they do not; there the log helps only if the program was killed.
   */
  async #create(): Promise<void> {
    // Not recursive, because node:fs would then report a full disk as ENOENT.
    await this.#paths.makeNewDirectory(this.#directory);
    await setSynchronous(this.#lane, this.#directory);
    await syncPaths(this.#lane, [dirname(this.#imagePath)]);
  }

  /** Syncs the image, then durably removes the log. */
  async #remove(): Promise<void> {
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
      await ioctlWithBuffer(lane, fd, 'FS_IOC_GETFLAGS', flags, { subject: directory });
      flags.writeUInt32LE(flags.readUInt32LE(0) | constants.FS_SYNC_FL, 0);
      await ioctlWithBuffer(lane, fd, 'FS_IOC_SETFLAGS', flags, { subject: directory });
    } catch (error) {
      // FUSE, NFS and tmpfs do not support such attributes.
      if (!hasErrno(error, 'EOPNOTSUPP', 'ENOTTY', 'EINVAL', 'ENOSYS', 'EPERM')) throw error;
    }
  });
}
