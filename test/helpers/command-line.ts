/** Runs bin/loopcsi on a terminal, as a user does, or in a pipe, as a script does. */
import { join } from 'node:path';
import { execa } from 'execa';
import { scaledMs } from './slowness.ts';

export const launcher = join(import.meta.dirname, '..', '..', '..', 'bin', 'loopcsi');

export interface CommandResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs one command in a pipe, with the driver at this socket. */
export async function runCommand(
  endpoint: string,
  ...args: readonly string[]
): Promise<CommandResult> {
  const { exitCode, stdout, stderr } = await execa(launcher, args, {
    reject: false,
    stdin: 'ignore',
    env: { LOOPCSI_ENDPOINT: `unix://${endpoint}` },
    timeout: scaledMs(60_000),
  });
  return { exitCode: exitCode ?? -1, stdout, stderr };
}

/** Runs one command on its own terminal (script(1)), types `input`, and returns all output of the terminal. */
export async function runOnTerminal(
  endpoint: string,
  args: readonly string[],
  input = '',
): Promise<{ readonly exitCode: number; readonly shown: string }> {
  const line = [launcher, ...args].map((arg) => `'${arg.replaceAll("'", "'\\''")}'`).join(' ');
  const { exitCode, stdout } = await execa(
    'script',
    ['--quiet', '--return', '--command', line, '/dev/null'],
    {
      reject: false,
      input,
      env: { LOOPCSI_ENDPOINT: `unix://${endpoint}`, TERM: 'xterm', NO_COLOR: undefined },
      timeout: scaledMs(60_000),
    },
  );
  return { exitCode: exitCode ?? -1, shown: stdout.replaceAll('\r\n', '\n') };
}
