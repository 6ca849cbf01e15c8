import { execa } from 'execa';

/** Ends with the process that started it, however that one ended. */
export const withParent: readonly string[] = ['setpriv', '--pdeathsig', 'KILL'];

/**
 * Runs a program that mounts or starts others, in namespaces of its own: when it ends, is aborted or loses its parent, its mounts
 * and processes are gone with it. The error holds the end of what it printed.
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
