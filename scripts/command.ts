/** Programs that scripts and end-to-end tests run; the driver has `src/host/programs/run.ts` instead. */
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

/** Runs a program to its end and gives what it said, whatever its exit code. Throws when it cannot be started or takes too long. */
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
    throw new Error(`${file} ${args.join(' ')}: ${result.shortMessage ?? 'did not run'}`);
  }
  return { stdout: result.stdout, stderr: result.stderr, exitCode: result.exitCode };
}

/** Runs a program that must exit with 0; its standard output. The error holds the end of what it printed. */
export async function run(
  file: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<string> {
  const result = await attempt(file, args, options);
  if (result.exitCode === 0) return result.stdout;
  const said = `${result.stdout}\n${result.stderr}`.trim().slice(-4000);
  throw new Error(`${file} ${args.join(' ')} exited with ${result.exitCode}:\n${said}`);
}

/** Waits until `look` gives something; what it last gave or threw is in the error when `timeoutMs` passes. */
export async function eventually<T>(
  what: string,
  look: () => Promise<T | undefined>,
  options: { readonly timeoutMs?: number; readonly everyMs?: number } = {},
): Promise<T> {
  const timeoutMs = options.timeoutMs ?? 60_000;
  const end = Date.now() + timeoutMs;
  for (;;) {
    let trouble = 'it did not come true';
    try {
      const found = await look();
      if (found !== undefined) return found;
    } catch (error) {
      trouble = error instanceof Error ? error.message : String(error);
    }
    if (Date.now() > end) {
      throw new Error(`gave up on ${what} after ${timeoutMs / 1000} s: ${trouble}`);
    }
    await new Promise((resolve) => {
      setTimeout(resolve, options.everyMs ?? 250);
    });
  }
}
