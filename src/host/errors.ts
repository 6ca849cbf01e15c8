/** A system call that failed. `errno` is the error's name, `EBUSY` for example (errno(3)). */
export class KernelError extends Error {
  readonly syscall: string;
  readonly errno: string;
  /** A path, or a phrase that names the object of the call. */
  readonly subject: string;

  constructor(syscall: string, errno: string, subject: string, options?: ErrorOptions) {
    super(`${syscall} ${subject}: ${errno}`, options);
    this.name = 'KernelError';
    this.syscall = syscall;
    this.errno = errno;
    this.subject = subject;
  }
}

/** A program that could not be run, timed out, or ended with an unexpected exit code. */
export class CommandError extends Error {
  readonly file: string;
  /** undefined when it never ran or was ended by a signal. */
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

/** A program started by an earlier driver process still has the image open, so nothing may be done with the image. */
export class ImageInUseError extends Error {
  readonly imagePath: string;
  /** Name and process id; undefined when this process cannot see the program. */
  readonly program: { readonly name: string; readonly pid: number } | undefined;

  constructor(imagePath: string, program: { name: string; pid: number } | undefined) {
    const name =
      program === undefined
        ? 'a program that this process cannot see'
        : `${program.name} (process ${program.pid})`;
    super(`${name} still works on ${imagePath}`);
    this.name = 'ImageInUseError';
    this.imagePath = imagePath;
    this.program = program;
  }
}

/** A blocking call exceeded its time limit and still runs in the kernel; its lane is stuck until it returns. */
export class StuckError extends Error {
  readonly call: string;

  constructor(call: string, lane: string, sinceMs: number) {
    super(`${call} for ${lane} has not returned for ${Math.round(sinceMs / 1000)} s`);
    this.name = 'StuckError';
    this.call = call;
  }
}

/** Whether `error` is a KernelError, or an error of node:fs, with one of these errno names. */
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

/** The same, or a read-only filesystem: the kernel makes it read-only when its disk fails. */
export function mayBeStorageFailure(error: unknown): boolean {
  return isStorageFailure(error) || hasErrno(error, 'EROFS');
}
