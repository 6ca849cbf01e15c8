import { constants as fsConstants } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { unlink } from 'node:fs/promises';
import { MiB } from '../../units.ts';
import { hasErrno, KernelError } from '../errors.ts';
import type { Copies } from '../host.ts';
import { copyFileRange, ioctl, seek } from '../kernel/calls.ts';
import { fsCall, fsync, openFlags, withOpen } from '../kernel/descriptor.ts';
import { imageTimeoutMs } from '../kernel/time-limits.ts';
import type { Lane } from '../lane.ts';
import { requireNoProgram } from '../programs/image-lock.ts';
import { nextData } from './extents.ts';
import { withScratchFile } from './files.ts';

/** Bytes copied by one copy_file_range(2), which bounds how long an abort takes. */
const sliceBytes = 16n * MiB;
/** Bytes between syncs and progress reports. Bounds the dirty pages and how much a resumed copy repeats. */
const syncEveryBytes = 64n * MiB;
/** Buffer size if the kernel cannot copy between the two filesystems. */
const bufferBytes = 1n * MiB;
/** Errors of FICLONE which mean that the two files can never share blocks. */
const cannotShare = ['EOPNOTSUPP', 'EXDEV', 'EINVAL', 'ENOTTY'] as const;

type CopyOptions = Parameters<Copies['copySparse']>[2];

/** Copies files with FICLONE and copy_file_range(2). */
export function makeCopies(lane: Lane): Copies {
  return {
    canReflink: (directory) => canReflink(lane, directory),
    reflink: (from, to) => reflink(lane, from, to),
    copySparse: (from, to, options) => copySparse(lane, from, to, options),
  };
}

function canReflink(lane: Lane, directory: string): Promise<boolean> {
  return withScratchFile(lane, directory, (from, fromPath) =>
    withScratchFile(lane, directory, async (to, toPath) => {
      await fsCall(lane, 'write', fromPath, () => from.write(Buffer.alloc(4096, 1), 0, 4096, 0));
      try {
        await ioctl(lane, to.fd, 'FICLONE', from.fd, { subject: toPath });
        return true;
      } catch (error) {
        if (hasErrno(error, ...cannotShare)) return false;
        throw error;
      }
    }),
  );
}

async function reflink(lane: Lane, from: string, to: string): Promise<void> {
  await requireNoProgram(lane, from);
  await withOpen(lane, from, openFlags.read, (source) =>
    withOpen(lane, to, openFlags.createNew, async (target) => {
      try {
        const about = { subject: `${from} to ${to}`, timeoutMs: imageTimeoutMs };
        await ioctl(lane, target.fd, 'FICLONE', source.fd, about);
      } catch (error) {
        await fsCall(lane, 'unlink', to, () => unlink(to));
        throw error;
      }
    }),
  );
}

async function copySparse(
  lane: Lane,
  from: string,
  to: string,
  options: CopyOptions,
): Promise<void> {
  await requireNoProgram(lane, from);
  const resumeFrom = options.resumeFrom ?? 0n;
  const flags = resumeFrom === 0n ? openFlags.create | fsConstants.O_TRUNC : openFlags.readWrite;
  await withOpen(lane, from, openFlags.read, (source) =>
    withOpen(lane, to, flags, async (target) => {
      const { size } = await fsCall(lane, 'fstat', from, () => source.stat({ bigint: true }));
      const { size: targetSize } = await fsCall(lane, 'fstat', to, () =>
        target.stat({ bigint: true }),
      );
      if (targetSize < resumeFrom)
        throw new KernelError(
          'open',
          'EINVAL',
          `${to} (has ${targetSize} bytes, fewer than the resume point ${resumeFrom})`,
        );
      // Discard data after the resume point, which the interrupted copy had not synced.
      if (resumeFrom > 0n) await setSize(lane, target, to, resumeFrom);
      await setSize(lane, target, to, size);
      await new SparseCopy({ source, target, from, to, size, options }).run(lane, resumeFrom);
    }),
  );
}

interface CopyState {
  readonly source: FileHandle;
  readonly target: FileHandle;
  readonly from: string;
  readonly to: string;
  readonly size: bigint;
  readonly options: CopyOptions;
}

class SparseCopy {
  readonly #state: CopyState;
  /** Bytes copied since the last sync. */
  #unsynced = 0n;
  #usesKernelCopy = true;

  constructor(state: CopyState) {
    this.#state = state;
  }

  async run(lane: Lane, resumeFrom: bigint): Promise<void> {
    const { source, target, from, to, size, options } = this.#state;
    let at = await nextData(lane, source.fd, resumeFrom, from);
    while (at !== undefined) {
      const end = await seek(lane, source.fd, at, 'hole', from);
      while (at < end) {
        options.signal.throwIfAborted();
        const copied = await this.#copySlice(
          lane,
          at,
          end - at < sliceBytes ? end - at : sliceBytes,
        );
        at += copied;
        this.#unsynced += copied;
        if (this.#unsynced >= syncEveryBytes) await this.#checkpoint(lane, at);
      }
      at = await nextData(lane, source.fd, end, from);
    }
    options.signal.throwIfAborted();
    await fsync(lane, target, to);
    options.onProgress?.(size, size);
  }

  async #checkpoint(lane: Lane, at: bigint): Promise<void> {
    const { target, to, size, options } = this.#state;
    await fsCall(lane, 'fdatasync', to, () => target.datasync(), { timeoutMs: imageTimeoutMs });
    this.#unsynced = 0n;
    options.onProgress?.(at, size);
  }

  /** Copies up to `length` bytes. Returns the number of bytes copied, at least one. */
  async #copySlice(lane: Lane, offset: bigint, length: bigint): Promise<bigint> {
    const { source, target, from, to } = this.#state;
    if (!this.#usesKernelCopy) return this.#copyBuffer(lane, offset, length);
    try {
      const range = { offset, length: Number(length) };
      const copied = await copyFileRange(lane, source.fd, target.fd, range, `${from} to ${to}`);
      if (copied === 0)
        throw new KernelError('copy_file_range', 'EIO', `${from} (truncated during the copy)`);
      return BigInt(copied);
    } catch (error) {
      // After EIO, a separate read and write show which side failed.
      if (!hasErrno(error, 'EXDEV', 'EOPNOTSUPP', 'ENOSYS', 'EINVAL', 'EIO')) throw error;
      this.#usesKernelCopy = false;
      return this.#copyBuffer(lane, offset, length);
    }
  }

  async #copyBuffer(lane: Lane, offset: bigint, length: bigint): Promise<bigint> {
    const { source, target, from, to } = this.#state;
    const buffer = Buffer.allocUnsafe(Number(length < bufferBytes ? length : bufferBytes));
    const position = Number(offset);
    const read = await fsCall(lane, 'read', from, () =>
      source.read(buffer, 0, buffer.length, position),
    );
    if (read.bytesRead === 0)
      throw new KernelError('read', 'EIO', `${from} (truncated during the copy)`);
    const filled = buffer.subarray(0, read.bytesRead);
    const written = await fsCall(lane, 'write', to, () =>
      target.write(filled, 0, filled.length, position),
    );
    return BigInt(written.bytesWritten);
  }
}

async function setSize(lane: Lane, handle: FileHandle, path: string, size: bigint): Promise<void> {
  await fsCall(lane, 'ftruncate', path, () => handle.truncate(Number(size)), {
    timeoutMs: imageTimeoutMs,
  });
}
