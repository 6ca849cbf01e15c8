import { availableParallelism } from 'node:os';
import { makeSemaphore } from '../../async.ts';
import { CommandError } from '../errors.ts';
import type { Lane } from '../lane.ts';
import { type ImageLock, lockImage } from './image-lock.ts';
import { type Program, programDirectories, programs } from './programs.ts';

/** How to run a program. */
interface CommandOptions<ExitCodes extends readonly number[] = readonly number[]> {
  /**
   * Time limit, after which the program gets SIGTERM, and SIGKILL two seconds later. Waiting for a slot does not count.
   * A program that cannot be killed gives its slot back, but the call waits for its end.
   */
  readonly timeoutMs: number;
  /**
   * The image that the program uses. It is locked before the program starts, and the program inherits the lock: nothing
   * else touches the image until the program has ended, even if the driver ends first. ImageInUseError if it is already
   * locked.
   */
  readonly image?: string;
  /** The expected exit codes, only 0 by default. Any other causes a CommandError. */
  readonly exitCodes?: ExitCodes;
  /**
   * Kills the program when aborted. Not for programs that modify an image in use: an interrupted change is worse than a
   * late one.
   */
  readonly signal?: AbortSignal;
  /** Frees the slot that the caller has taken for a long program (long-program-slots.ts). The program then takes no other slot. */
  readonly freeSlot?: () => void;
}

interface CommandResult<ExitCode extends number> {
  readonly exitCode: ExitCode;
  readonly stdout: string;
  readonly stderr: string;
}

/** A program that ended, for the debug log and metrics. `exitCode` is undefined if it never ran or was killed. */
export interface EndedCommand {
  readonly file: Program;
  readonly args: readonly string[];
  readonly exitCode: number | undefined;
  readonly durationMs: number;
}

/**
 * Runs a program from the table in programs.ts: without a shell, in the C locale, without the driver's environment. The
 * calls that lock its image run in the lane. Returns its exit code and output. Throws CommandError if the program is
 * missing, is killed, times out, writes more than 4 MiB, or exits with an unexpected code.
 */
export type Run = <const ExitCodes extends readonly number[] = readonly [0]>(
  lane: Lane,
  file: Program,
  args: readonly string[],
  options: CommandOptions<ExitCodes>,
) => Promise<CommandResult<ExitCodes[number]>>;

interface RunnerOptions {
  /** Called once for each program that ended, successfully or not. Must not throw. */
  readonly onEnd?: (command: EndedCommand) => void;
  /** Maximum number of concurrent programs; four for each core by default. Others wait in order of arrival. */
  readonly maxConcurrent?: number;
  /** Time in milliseconds from the attempt to end a program until it counts as hung; it then gives its slot back. */
  readonly hungAfterMs?: number;
}

const environment = { PATH: programDirectories.join(':'), LC_ALL: 'C' } as const;
/** SIGKILL follows SIGTERM after this time. */
const killDelayMs = 2_000;
/** A program that still runs three seconds after SIGKILL is blocked in the kernel, for example by a disk that does not answer. */
const defaultHungAfterMs = killDelayMs + 3_000;
const maxOutputBytes = 4 * 1024 * 1024;
/** Number of characters from the end of standard error that a CommandError contains. */
const maxStderrChars = 2000;

/** execa takes about 80 ms to load, so it is loaded with the first program, not at start. */
const loadExeca = () => import('execa');

/** Creates a runner with its own limit of concurrent programs. */
export function makeRun({
  onEnd,
  maxConcurrent = 4 * availableParallelism(),
  hungAfterMs = defaultHungAfterMs,
}: RunnerOptions = {}): Run {
  const slots = makeSemaphore(maxConcurrent);
  return async (lane, file, args, options) => {
    const start = (freeSlot: () => void) =>
      execute(lane, { file, args, options, hungAfterMs, freeSlot });
    const { freeSlot, signal } = options;
    const started = freeSlot === undefined ? slots(start, signal) : start(freeSlot);
    const result = await started.catch((error: unknown) => {
      // The wait for a slot was aborted.
      if (signal?.aborted === true && error === signal.reason)
        throw new CommandError(file, { message: cancelled(file) }, { cause: error });
      throw error;
    });
    onEnd?.({ file, args, exitCode: result.exitCode, durationMs: result.durationMs });
    const exitCodes: readonly number[] = options.exitCodes ?? [0];
    const { exitCode } = result;
    if (!result.isMaxBuffer && isExpected(exitCode, exitCodes)) {
      return { exitCode, stdout: result.stdout, stderr: result.stderr };
    }
    const message = failureMessage(file, result, options.timeoutMs, result.stderr);
    const stderr = result.stderr.slice(-maxStderrChars);
    throw new CommandError(file, { message, exitCode, stderr }, { cause: result.cause });
  };
}

interface Execution {
  readonly file: Program;
  readonly args: readonly string[];
  readonly options: CommandOptions;
  readonly hungAfterMs: number;
  readonly freeSlot: () => void;
}

/** Runs a program that has a slot, and frees the slot early if the program hangs. */
async function execute(lane: Lane, { file, args, options, hungAfterMs, freeSlot }: Execution) {
  const { execa } = await loadExeca();
  const lock = options.image === undefined ? undefined : await lockImage(lane, options.image);
  const endWatch = callWhenHung(options, hungAfterMs, freeSlot);
  try {
    return await execa(file, args, {
      shell: false,
      stdio: ['ignore', 'pipe', 'pipe', ...inherited(lock)],
      extendEnv: false,
      env: environment,
      timeout: options.timeoutMs,
      forceKillAfterDelay: killDelayMs,
      // If the driver ends first, the child finishes its work and keeps its image locked until then.
      cleanup: false,
      maxBuffer: maxOutputBytes,
      reject: false,
      ...(options.signal === undefined ? {} : { cancelSignal: options.signal }),
    });
  } finally {
    endWatch();
    await lock?.release();
  }
}

/**
 * Calls `onHung` when a program still runs `hungAfterMs` after its time limit or its abort, at which execa ends it. Returns a function
 * that ends the watch.
 */
function callWhenHung(
  { timeoutMs, signal }: CommandOptions,
  hungAfterMs: number,
  onHung: () => void,
): () => void {
  const leftMs = signal?.aborted === true ? 0 : timeoutMs;
  let timer = setTimeout(onHung, leftMs + hungAfterMs);
  const onAbort = (): void => {
    clearTimeout(timer);
    timer = setTimeout(onHung, hungAfterMs);
  };
  signal?.addEventListener('abort', onAbort, { once: true });
  return () => {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
  };
}

/** Any descriptor can be inherited, but execa's types allow only the first few. */
function inherited(lock: ImageLock | undefined): readonly 3[] {
  return lock === undefined ? [] : [lock.fd as 3];
}

/** Narrows the type to the caller's list of exit codes. */
function isExpected<ExitCodes extends readonly number[]>(
  exitCode: number | undefined,
  exitCodes: readonly number[],
): exitCode is ExitCodes[number] {
  return exitCode !== undefined && exitCodes.includes(exitCode);
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
  if (failure.timedOut) return `${file} took longer than ${timeoutMs} ms and was killed`;
  if (failure.isCanceled) return cancelled(file);
  if (failure.isMaxBuffer) return `${file} wrote more than ${maxOutputBytes} bytes and was killed`;
  if (failure.signal !== undefined) return `${file} was killed by ${failure.signal}`;
  if (failure.exitCode === undefined) return failure.shortMessage ?? `${file} could not be started`;
  return `${file} exited with code ${failure.exitCode}: ${errorLine(stderr)}`;
}

function cancelled(file: Program): string {
  return `${file} was cancelled`;
}

/** Finds the line with the error: it follows the banner that some programs print, and precedes the usage. */
function errorLine(stderr: string): string {
  const lines = stderr.split('\n').map((line) => line.trim());
  const messages = lines.filter((line) => line !== '' && !/^\S+ \d+\.\d+\S* \(/.test(line));
  return messages.find((line) => line.startsWith('ERROR')) ?? messages[0] ?? 'it wrote no message';
}
