import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeClient } from '../../src/csi/client.ts';

const launcher = join(import.meta.dirname, '..', '..', '..', 'bin', 'loopcsi');

/** The built driver as a process of its own, as an operator runs it. */
export interface DriverProcess {
  readonly endpoint: string;
  readonly pid: number;
  /** SIGTERM, and waits for its end. */
  stop(): Promise<void>;
  /** SIGKILL, and waits for its end. */
  kill(): Promise<void>;
  log(): Promise<string>;
}

/**
 * Starts `bin/loopcsi serve` with one pool in `DIRECTORY/pool` and waits until it answers Probe. Its log goes to
 * `DIRECTORY/driver.log`. Further flags win over these.
 */
export async function startDriver(
  directory: string,
  flags: readonly string[] = [],
): Promise<DriverProcess> {
  const endpoint = join(directory, 'csi.sock');
  const logFile = join(directory, 'driver.log');
  const log = await open(logFile, 'a');
  const child = spawn(
    launcher,
    [
      'serve',
      `--endpoint=unix://${endpoint}`,
      '--node-id=test-node',
      `--state-dir=${join(directory, 'state')}`,
      ...(flags.some((flag) => flag.startsWith('--pool'))
        ? []
        : [`--pool=default=${join(directory, 'pool')},create,overcommit=20`]),
      ...flags,
    ],
    { stdio: ['ignore', log.fd, log.fd] },
  );
  const ended = once(child, 'exit');
  await log.close();
  await untilReady(endpoint, child, logFile);
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    child.kill(signal);
    await ended;
  };
  return {
    endpoint,
    pid: child.pid ?? 0,
    stop: () => end('SIGTERM'),
    kill: () => end('SIGKILL'),
    log: () => readFile(logFile, 'utf8'),
  };
}

async function untilReady(endpoint: string, child: ChildProcess, logFile: string): Promise<void> {
  const client = makeClient('csi.v1.Identity', `unix://${endpoint}`);
  const ended = once(child, 'exit').then(() => 'ended' as const);
  try {
    for (const deadline = Date.now() + 30_000; Date.now() < deadline; ) {
      const answer = await Promise.race([
        ended,
        client.Probe({}, { timeoutMs: 1_000 }).then(
          () => 'ready' as const,
          () => 'not yet' as const,
        ),
      ]);
      if (answer === 'ready') return;
      if (answer === 'ended') break;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  } finally {
    client.close();
  }
  child.kill('SIGKILL');
  throw new Error(`the driver did not become ready:\n${await readFile(logFile, 'utf8')}`);
}
