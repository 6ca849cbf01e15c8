/** Runs the programs that build and load images. */
import { execa } from 'execa';

/** An error whose message is complete: it says what to do. */
export class Failure extends Error {}

export type Argv = readonly [string, ...string[]];

/** Returns why the program cannot be used, or undefined if the command ends with 0. */
export async function findDefect(argv: Argv): Promise<string | undefined> {
  const [file, ...args] = argv;
  const result = await execa(file, args, { reject: false, stdin: 'ignore', timeout: 60_000 });
  if (result.exitCode === 0) return undefined;
  if (result.code === 'ENOENT') return `${file} is not installed`;
  const lines = `${result.stdout}\n${result.stderr}`.trim().split('\n');
  return lines.at(-1) || result.shortMessage || `${argv.join(' ')} failed`;
}

/** Runs a command whose output the user sees, on standard error. Throws a Failure that ends in `advice`. */
export async function runVisibly(argv: Argv, advice: string): Promise<void> {
  const [file, ...args] = argv;
  process.stderr.write(`+ ${argv.join(' ')}\n`);
  const result = await execa(file, args, {
    reject: false,
    stdin: 'inherit',
    stdout: process.stderr,
    stderr: 'inherit',
    // Provenance would add a manifest for an unknown platform to the archive, which not every runtime can import.
    env: { BUILDX_NO_DEFAULT_ATTESTATIONS: '1' },
  });
  if (result.exitCode === 0) return;
  const reason = result.code === 'ENOENT' ? 'is not installed' : `ended with ${endOf(result)}`;
  throw new Failure(`${titleOf(argv)} ${reason}: ${advice}`);
}

/** The words of a command before its options and paths. */
function titleOf(argv: Argv): string {
  const end = argv.findIndex((word, index) => index > 0 && /^[-/]/.test(word));
  return argv.slice(0, end === -1 ? undefined : end).join(' ');
}

function endOf(result: {
  readonly exitCode?: number | undefined;
  readonly signal?: string | undefined;
}): string {
  return result.exitCode === undefined
    ? `signal ${result.signal ?? 'unknown'}`
    : `exit code ${result.exitCode}`;
}

/** The command as root, with that environment variable if it is set: sudo would remove it. */
export function asRoot(argv: Argv, variable = ''): Argv {
  if (process.getuid?.() === 0) return argv;
  const value = process.env[variable];
  return value === undefined ? ['sudo', ...argv] : ['sudo', 'env', `${variable}=${value}`, ...argv];
}
