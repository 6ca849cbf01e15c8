/** A system call that failed. `errno` is the symbolic name of the error, for example `EBUSY` (errno(3)). */
export class KernelError extends Error {
  readonly syscall: string;
  readonly errno: string;
  /** The path or other description of the object that the call acted on. */
  readonly subject: string;

  constructor(syscall: string, errno: string, subject: string, options?: ErrorOptions) {
    super(`${syscall} ${subject}: ${errno}`, options);
    this.name = 'KernelError';
    this.syscall = syscall;
    this.errno = errno;
    this.subject = subject;
  }
}

/** A program that could not be started, timed out, was killed, or exited with an unexpected code. */
export class CommandError extends Error {
  readonly file: string;
  /** undefined if the program never ran or was killed by a signal. */
  readonly exitCode: number | undefined;
  /** The end of its standard error, for the log and for operators. */
  readonly stderr: string;

  constructor(
    file: string,
    failure: { message: string; exitCode?: number | undefined; stderr?: string },
    options?: ErrorOptions,
  ) {
    super(failure.message, options);
    this.name = 'CommandError';
    this.file = file;
    this.exitCode = failure.exitCode;
    this.stderr = failure.stderr ?? '';
  }
}

/** A program started by an earlier driver process still has the image open, so the image must not be touched. */
export class ImageInUseError extends Error {
  readonly imagePath: string;
  /** Name and process id; undefined when this process cannot see the program. */
  readonly program: { readonly name: string; readonly pid: number } | undefined;

  constructor(imagePath: string, program: { name: string; pid: number } | undefined) {
    const name =
      program === undefined
        ? 'a program that this process cannot see'
        : `${program.name} (process ${program.pid})`;
    super(`${name} is still using ${imagePath}`);
    this.name = 'ImageInUseError';
    this.imagePath = imagePath;
    this.program = program;
  }
}

/**
 * A blocking call exceeded its time limit and is still running in the kernel. Its lane is stuck until the call returns.
 */
export class StuckError extends Error {
  readonly call: string;

  constructor(call: string, lane: string, sinceMs: number) {
    super(`${call} for ${lane} has not returned after ${Math.round(sinceMs / 1000)} s`);
    this.name = 'StuckError';
    this.call = call;
  }
}

/** Whether `error` is a KernelError or a node:fs error with one of these errno names. */
export function hasErrno(error: unknown, ...names: readonly string[]): boolean {
  if (error instanceof KernelError) return names.includes(error.errno);
  return (
    error instanceof Error &&
    'code' in error &&
    typeof error.code === 'string' &&
    names.includes(error.code)
  );
}

/** Whether the underlying filesystem or disk has failed: an I/O error, corruption, or a lost server. */
export function isStorageFailure(error: unknown): boolean {
  return hasErrno(error, 'EIO', 'EUCLEAN', 'ESTALE', 'ENOTCONN');
}

/**
 * Whether the error may come from a failed filesystem or disk. This includes EROFS: the kernel remounts a filesystem
 * read-only when its disk fails.
 */
export function mayBeStorageFailure(error: unknown): boolean {
  return isStorageFailure(error) || hasErrno(error, 'EROFS');
}
