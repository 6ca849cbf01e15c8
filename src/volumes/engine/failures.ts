import { messageOf, VolumeError } from '../../errors.ts';
import {
  CommandError,
  hasErrno,
  ImageInUseError,
  isStorageFailure,
  mayBeStorageFailure,
  StuckError,
} from '../../host/errors.ts';
import { onDisk } from '../../host/kernel/gate.ts';

/** The disk that a call works on: a pool, as far as a failure is concerned. */
export interface Disk {
  readonly name: string;
  /** Something has failed on it: the next look at it tries a change. */
  suspect(): void;
  /** Whether it has no free bytes left; false while that cannot be known. */
  isFull(): Promise<boolean>;
}

/**
 * Gives a failure of the node its meaning, where it is known: what the domain throws is a `VolumeError`. Decides by errno and
 * by what is observed, not by a program's words.
 */
export async function toVolumeError(
  error: unknown,
  what: string,
  disk?: Disk,
): Promise<VolumeError> {
  if (mayBeTheDisk(error instanceof VolumeError ? error.cause : error)) disk?.suspect();
  if (error instanceof VolumeError) return error;
  const cause = { cause: error };
  if (error instanceof StuckError) {
    return new VolumeError(
      'busy',
      `${what}: ${error.message}; the storage below may hang: look at its disk, and at the driver's log`,
      cause,
    );
  }
  if (error instanceof ImageInUseError) {
    return new VolumeError(
      'busy',
      `${what}: ${error.message}, which a driver that has ended started; try again when that program has ended`,
      cause,
    );
  }
  if (
    hasErrno(error, 'ENOSPC', 'EDQUOT') ||
    (error instanceof CommandError && (await disk?.isFull()) === true)
  ) {
    return new VolumeError(
      'no-space',
      `${what}: the filesystem of ${disk === undefined ? 'the pool' : `pool '${disk.name}'`} is full; free some space on it`,
      cause,
    );
  }
  if (hasErrno(error, 'EBUSY')) {
    return new VolumeError(
      'wrong-state',
      `${what}: something still uses it (${messageOf(error)}); end the processes that have files open there, then try again`,
      cause,
    );
  }
  if (hasErrno(error, 'EROFS') && disk !== undefined) {
    return new VolumeError(
      'unavailable',
      `${what}: the filesystem of pool '${disk.name}' is read-only; look at its disk and mount it read-write again`,
      cause,
    );
  }
  if (isStorageFailure(error)) {
    return new VolumeError(
      'internal',
      `${what}: ${messageOf(error)}; ${disk === undefined ? 'what it lies on' : `the disk of pool '${disk.name}'`} has failed: look at the disk, and at the kernel's log`,
      cause,
    );
  }
  if (error instanceof CommandError) {
    const detail = detailOf(error);
    return new VolumeError(
      'internal',
      `${what}: ${error.message}${detail === '' ? '' : `: ${detail}`}`,
      cause,
    );
  }
  return new VolumeError('internal', `${what}: ${messageOf(error)}`, cause);
}

/** A program that failed says nothing of why that could be relied on. What is cached is answered while the disk hangs. */
function mayBeTheDisk(error: unknown): boolean {
  return error instanceof CommandError || error instanceof StuckError || mayBeStorageFailure(error);
}

/** The end of what the program said, but for what the message says already. */
function detailOf({ message, stderr }: CommandError): string {
  const said = stderr.trim().split('\n').slice(-2);
  return said
    .filter((line) => line !== '' && !message.includes(line.trim()))
    .join('; ')
    .slice(0, 400);
}

/** Runs `work`, whose blocking calls wait for `disk`, and explains what it throws. */
export async function withReason<T>(
  what: string,
  disk: Disk | undefined,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await (disk === undefined ? work() : onDisk(disk.name, work));
  } catch (error) {
    throw await toVolumeError(error, what, disk);
  }
}
