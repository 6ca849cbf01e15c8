import { availableParallelism } from 'node:os';
import { CommandError } from '../errors.ts';
import { type ImageLock, lockImage } from './image-lock.ts';
import { type Program, programDirectories, programs } from './programs.ts';
import { makeSemaphore } from './semaphore.ts';

/** How one program is to be run. */
export interface CommandOptions<Answers extends readonly number[] = readonly number[]> {
  /** After this the program gets SIGTERM, two seconds later SIGKILL. Counted from its start, not from the wait for a slot. */
  readonly timeoutMs: number;
  /**
   * The image that the program works on: locked before it starts, and the program inherits the lock, so that nobody touches
   * the image until the program has ended, also when the driver ends before it. ImageInUseError when it is locked.
   */
  readonly image?: string;
  /** The exit codes that say something; every other one is a CommandError. Only 0 unless given. */
  readonly answers?: Answers;
  /** Ends the program. Not for programs that change an image which matters: half a change is worse than a late one. */
  readonly signal?: AbortSignal;
}

export interface CommandResult<ExitCode extends number> {
  readonly exitCode: ExitCode;
  readonly stdout: string;
  readonly stderr: string;
}

/** What ended, for the debug log and for metrics. `exitCode` is undefined when it never ran or was killed. */
export interface EndedCommand {
  readonly file: Program;
  readonly args: readonly string[];
  readonly exitCode: number | undefined;
  readonly durationMs: number;
}

/**
 * Runs one program of the table in programs.ts, without a shell, in the C locale, with nothing of our
 * environment, and answers its exit code and output. Throws CommandError when it is missing, is
 * killed, takes too long, writes more than 4 MiB or ends with a code that is no answer.
 */
export type Run = <const Answers extends readonly number[] = readonly [0]>(
  file: Program,
  args: readonly string[],
  options: CommandOptions<Answers>,
) => Promise<CommandResult<Answers[number]>>;

export interface RunnerOptions {
  /** Called once for each program that ended, whatever its outcome. Must not throw. */
  readonly onEnd?: (command: EndedCommand) => void;
  /** Programs that may run at once; four for each core unless given. More wait, first come first served. */
  readonly parallel?: number;
}

const environment = { PATH: programDirectories.join(':'), LC_ALL: 'C' } as const;
const maxOutputBytes = 4 * 1024 * 1024;
/** The end of what a program wrote to standard error that an error keeps. */
const stderrTail = 2000;

/** execa takes some 80 ms to load, which start-up need not wait for: it comes with the first program. */
const loadExeca = () => import('execa');

/** A runner with its own bound on programs at once. */
export function makeRun({ onEnd, parallel = 4 * availableParallelism() }: RunnerOptions = {}): Run {
  const slots = makeSemaphore(parallel);
  return async (file, args, options) => {
    const { execa } = await loadExeca();
    const result = await slots(async () => {
      // execa would run it to its end when the signal came before.
      if (options.signal?.aborted === true)
        throw new CommandError(file, { message: cancelled(file) });
      const lock = options.image === undefined ? undefined : await lockImage(options.image);
      try {
        return await execa(file, args, {
          shell: false,
          stdio: ['ignore', 'pipe', 'pipe', ...inherited(lock)],
          extendEnv: false,
          env: environment,
          timeout: options.timeoutMs,
          forceKillAfterDelay: 2000,
          // A child that outlives us ends its work, and keeps the lock of its image until then.
          cleanup: false,
          maxBuffer: maxOutputBytes,
          reject: false,
          ...(options.signal === undefined ? {} : { cancelSignal: options.signal }),
        });
      } finally {
        await lock?.release();
      }
    });
    onEnd?.({ file, args, exitCode: result.exitCode, durationMs: result.durationMs });
    const answers: readonly number[] = options.answers ?? [0];
    const { exitCode } = result;
    if (!result.isMaxBuffer && isAnswer(exitCode, answers)) {
      return { exitCode, stdout: result.stdout, stderr: result.stderr };
    }
    const message = failureMessage(file, result, options.timeoutMs, result.stderr);
    const stderr = result.stderr.slice(-stderrTail);
    throw new CommandError(file, { message, exitCode, stderr }, { cause: result.cause });
  };
}

/** Any descriptor can be inherited; execa's types name only the first ones, so this says the least of them. */
function inherited(lock: ImageLock | undefined): readonly 3[] {
  return lock === undefined ? [] : [lock.fd as 3];
}

/** The type of the caller's list follows its values, which is all this says. */
function isAnswer<Answers extends readonly number[]>(
  exitCode: number | undefined,
  answers: readonly number[],
): exitCode is Answers[number] {
  return exitCode !== undefined && answers.includes(exitCode);
}

interface Failure {
  readonly code?: string | undefined;
  readonly exitCode?: number | undefined;
  readonly signal?: string | undefined;
  readonly timedOut: boolean;
  readonly isCanceled: boolean;
  readonly isMaxBuffer: boolean;
  readonly shortMessage?: string | undefined;
}

function failureMessage(
  file: Program,
  failure: Failure,
  timeoutMs: number,
  stderr: string,
): string {
  if (failure.code === 'ENOENT') {
    return `${file} is not installed; on Debian it is in the package ${programs[file]}`;
  }
  if (failure.timedOut) return `${file} took longer than ${timeoutMs} ms and was ended`;
  if (failure.isCanceled) return cancelled(file);
  if (failure.isMaxBuffer) return `${file} wrote more than ${maxOutputBytes} bytes and was ended`;
  if (failure.signal !== undefined) return `${file} was ended by ${failure.signal}`;
  if (failure.exitCode === undefined) return failure.shortMessage ?? `${file} could not be started`;
  return `${file} ended with exit code ${failure.exitCode}: ${errorLine(stderr)}`;
}

function cancelled(file: Program): string {
  return `${file} was cancelled`;
}

/** The line that says what went wrong: after a program's banner, and before the usage that some print. */
function errorLine(stderr: string): string {
  const lines = stderr.split('\n').map((line) => line.trim());
  const said = lines.filter((line) => line !== '' && !/^\S+ \d+\.\d+\S* \(/.test(line));
  return said.find((line) => line.startsWith('ERROR')) ?? said[0] ?? 'it wrote no message';
}
