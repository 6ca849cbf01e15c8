import { messageOf, type Reason, VolumeError } from '../../errors.ts';
import {
  CommandError,
  hasErrno,
  ImageInUseError,
  isStorageFailure,
  mayBeStorageFailure,
  StuckError,
} from '../../host/errors.ts';
import type { Host } from '../../host/host.ts';
import type { Logger } from '../../observe/log.ts';
import { onDiskOf } from './lanes.ts';

/** The disk of a pool, to which the failure of a call may be attributed. */
interface Disk {
  /** The pool's name. */
  readonly name: string;
  /** Makes the next check of the pool run a write probe, because a call on its disk has failed. */
  requestWriteProbe(): void;
  /** Whether its filesystem has no space left; false if that cannot be determined. */
  isFull(): Promise<boolean>;
}

/**
 * Converts any error to a `VolumeError`, the only kind that the domain throws. The reason is derived from the errno and from
 * observed state, never from the output of a program. The message starts with `subject`.
 */
export async function toVolumeError(
  error: unknown,
  subject: string,
  disk?: Disk,
): Promise<VolumeError> {
  if (mayBeDiskFailure(error instanceof VolumeError ? error.cause : error))
    disk?.requestWriteProbe();
  if (error instanceof VolumeError) return error;
  const { reason, message } =
    describeInUse(error) ?? (await describeDiskFailure(error, disk)) ?? describeOther(error);
  return new VolumeError(reason, `${subject}: ${message}`, { cause: error });
}

interface Description {
  readonly reason: Reason;
  readonly message: string;
}

/** Describes an error if a system call, a program or an open file still uses the volume. */
function describeInUse(error: unknown): Description | undefined {
  if (error instanceof StuckError) {
    return {
      reason: 'busy',
      message: `${error.message}; the storage may hang: check the disk and the driver's log`,
    };
  }
  if (error instanceof ImageInUseError) {
    return {
      reason: 'busy',
      message: `${error.message}, which an earlier driver process started; try again when that program has ended`,
    };
  }
  if (!hasErrno(error, 'EBUSY')) return undefined;
  return {
    reason: 'wrong-state',
    message: `it is in use (${messageOf(error)}); end the processes that have files open there, then try again`,
  };
}

/** Describes an error if the disk is full, is read-only or has failed. */
async function describeDiskFailure(error: unknown, disk?: Disk): Promise<Description | undefined> {
  if (
    hasErrno(error, 'ENOSPC', 'EDQUOT') ||
    (error instanceof CommandError && (await disk?.isFull()) === true)
  ) {
    const pool = disk === undefined ? 'the pool' : `pool '${disk.name}'`;
    return {
      reason: 'no-space',
      message: `the filesystem of ${pool} is full; free some space on it`,
    };
  }
  if (hasErrno(error, 'EROFS') && disk !== undefined) {
    return {
      reason: 'unavailable',
      message: `the filesystem of pool '${disk.name}' is read-only; check its disk and mount it read-write again`,
    };
  }
  if (!isStorageFailure(error)) return undefined;
  const failed = disk === undefined ? 'the storage' : `the disk of pool '${disk.name}'`;
  return {
    reason: 'internal',
    message: `${messageOf(error)}; ${failed} has failed: check the disk and the kernel's log`,
  };
}

function describeOther(error: unknown): Description {
  const output = error instanceof CommandError ? lastOutput(error) : '';
  return {
    reason: 'internal',
    message: `${messageOf(error)}${output === '' ? '' : `: ${output}`}`,
  };
}

/** The failure of a program has no reliable errno, and a disk that hangs may still answer from the cache. */
function mayBeDiskFailure(error: unknown): boolean {
  return error instanceof CommandError || error instanceof StuckError || mayBeStorageFailure(error);
}

/** The last lines of a program's output, without those that the message of the error already contains. */
function lastOutput({ message, stderr }: CommandError): string {
  const lines = stderr.trim().split('\n').slice(-2);
  return lines
    .filter((line) => line !== '' && !message.includes(line.trim()))
    .join('; ')
    .slice(0, 400);
}

/**
 * Runs `work` and converts its errors to `VolumeError`. If `disk` is given, the host passed to `work` attributes its calls to that
 * disk.
 */
export async function withReason<Deps extends { readonly host: Host }, T>(
  deps: Deps,
  { subject, disk }: { readonly subject: string; readonly disk: Disk | undefined },
  work: (deps: Deps) => Promise<T>,
): Promise<T> {
  try {
    return await work(disk === undefined ? deps : onDiskOf(deps, disk));
  } catch (error) {
    throw await toVolumeError(error, subject, disk);
  }
}

/** Runs a step of recovery and logs its failure: one broken entry must not keep the driver from serving the others. */
export async function logFailure(
  log: Logger,
  id: string,
  work: () => Promise<void>,
): Promise<void> {
  try {
    await work();
  } catch (error) {
    log.error({ id, problem: messageOf(error) }, 'an entry could not be recovered');
  }
}
