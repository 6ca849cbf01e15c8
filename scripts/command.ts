/** Runs programs for scripts and tests. The driver uses src/host/programs/run.ts instead. */
import { setTimeout as delay } from 'node:timers/promises';
import { execa } from 'execa';

export interface CommandResult {
  readonly stdout: string;
  readonly stderr: string;
  readonly exitCode: number;
}

export interface CommandOptions {
  readonly input?: string;
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Default: two minutes. */
  readonly timeoutMs?: number;
}

/** Runs a program and returns its output and exit code. Throws if the program cannot be started or exceeds the time limit. */
export async function attempt(
  file: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const result = await execa(file, args, {
    reject: false,
    timeout: options.timeoutMs ?? 120_000,
    maxBuffer: 64 * 1024 * 1024,
    ...(options.input === undefined ? { stdin: 'ignore' as const } : { input: options.input }),
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.env === undefined ? {} : { env: { ...options.env } }),
  });
  if (result.exitCode === undefined) {
    const output = `${result.stdout ?? ''}\n${result.stderr ?? ''}`.trim().slice(-4000);
    throw new Error(`${result.shortMessage ?? `${file} ${args.join(' ')} did not run`}\n${output}`);
  }
  return { stdout: result.stdout, stderr: result.stderr, exitCode: result.exitCode };
}

/** Runs a program and returns its standard output. Throws, with the end of its output, if the exit code is not 0. */
export async function run(
  file: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<string> {
  const result = await attempt(file, args, options);
  if (result.exitCode === 0) return result.stdout;
  const output = `${result.stdout}\n${result.stderr}`.trim().slice(-4000);
  throw new Error(`${file} ${args.join(' ')} exited with ${result.exitCode}:\n${output}`);
}

/** An error after which `eventually` does not try again, for example because the process that it waits for has ended. */
export class FinalError extends Error {}

/** Polls until `find` returns a value. Throws after `timeoutMs`, with the last error of `find`, or at once if that is a FinalError. */
export async function eventually<T>(
  what: string,
  find: () => Promise<T | undefined>,
  options: { readonly timeoutMs?: number; readonly everyMs?: number } = {},
): Promise<T> {
  const timeoutMs = options.timeoutMs ?? 60_000;
  const endMs = performance.now() + timeoutMs;
  for (;;) {
    let reason = 'it did not happen';
    try {
      const found = await find();
      if (found !== undefined) return found;
    } catch (error) {
      if (error instanceof FinalError) throw error;
      reason = error instanceof Error ? error.message : String(error);
    }
    if (performance.now() > endMs) {
      throw new Error(`gave up waiting for ${what} after ${timeoutMs / 1000} s: ${reason}`);
    }
    await delay(options.everyMs ?? 250);
  }
}
