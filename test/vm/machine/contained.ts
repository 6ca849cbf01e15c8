import { execa } from 'execa';

/** Ends the program when its parent process ends, for whatever reason. */
export const withParent: readonly string[] = ['setpriv', '--pdeathsig', 'KILL'];

/**
 * Runs a program that makes mounts or starts processes in its own namespaces: when it ends, is aborted or loses its parent, its mounts
 * and processes are removed. The error contains the end of its output.
 */
export async function runContained(
  argv: readonly string[],
  options: { readonly signal: AbortSignal; readonly cwd?: string },
): Promise<string> {
  const namespaces = ['unshare', '--mount', '--pid', '--fork', '--kill-child=KILL'];
  const [file = '', ...args] = [...withParent, ...namespaces, ...argv];
  const result = await execa(file, args, {
    stdin: 'ignore',
    all: true,
    reject: false,
    cancelSignal: options.signal,
    // unshare passes no other signal on.
    killSignal: 'SIGKILL',
    env: { LC_ALL: 'C', DEBIAN_FRONTEND: 'noninteractive' },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  options.signal.throwIfAborted();
  if (result.exitCode === 0) return result.stdout;
  const said = result.all.trim().slice(-4000);
  throw new Error(`${argv.join(' ')} exited with ${result.exitCode ?? 'a signal'}:\n${said}`);
}
