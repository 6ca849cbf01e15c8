import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { type Client, makeClient } from '../../src/csi/client.ts';
import { scaledMs } from './slowness.ts';
import { until } from './until.ts';

const launcher = join(import.meta.dirname, '..', '..', '..', 'bin', 'loopcsi');

/** The built driver as a separate process, as an operator runs it. */
export interface DriverProcess {
  readonly endpoint: string;
  /** Paths of its sockets. */
  readonly sockets: readonly string[];
  readonly pid: number;
  /** Sends SIGTERM and waits until the process has ended. */
  stop(): Promise<void>;
  /** Sends SIGKILL and waits until the process has ended. */
  kill(): Promise<void>;
  /** Resolves with the signal that ended the process, or else its exit code. */
  readonly ended: Promise<string>;
  /** What this process has logged, without what earlier ones wrote to the same file: their ports are not this one's. */
  log(): Promise<string>;
}

/** For `enter`: without CAP_SYS_RESOURCE the driver grows ext4 with resize2fs, before it mounts the filesystem. */
export const withoutSysResource: readonly string[] = ['setpriv', '--bounding-set=-sys_resource'];

/**
 * Starts `bin/loopcsi serve` with one pool in `DIRECTORY/pool` and waits until it answers Probe. Its log goes to
 * `DIRECTORY/driver.log`. `flags` override the default flags.
 */
export async function startDriver(
  directory: string,
  flags: readonly string[] = [],
  options: DriverOptions = {},
): Promise<DriverProcess> {
  const started = await spawnDriver(directory, flags, options);
  await untilReady(started);
  return started;
}

export interface DriverOptions {
  /** A compiled program to start instead of `bin/loopcsi`: the same driver with additions of a test. */
  readonly program?: string;
  readonly environment?: Readonly<Record<string, string>>;
  /** Command prefix that gives the driver other namespaces or capabilities. */
  readonly enter?: readonly string[];
}

/** Starts the driver without waiting until it serves, so that it can be killed before. */
export async function spawnDriver(
  directory: string,
  flags: readonly string[],
  options: DriverOptions = {},
): Promise<DriverProcess> {
  const endpoint = join(directory, 'csi.sock');
  const logFile = join(directory, 'driver.log');
  const log = await open(logFile, 'a');
  const { size: earlier } = await log.stat();
  const { program, environment = {}, enter = [] } = options;
  const [file = '', ...args] = [
    ...enter,
    ...(program === undefined ? [launcher] : [process.execPath, '--enable-source-maps', program]),
  ];
  const child = spawn(
    file,
    [
      ...args,
      'serve',
      `--endpoint=unix://${endpoint}`,
      '--node-id=test-node',
      `--state-dir=${join(directory, 'state')}`,
      ...(flags.some((flag) => flag.startsWith('--pool'))
        ? []
        : [`--pool=default=${join(directory, 'pool')},create,overcommit=20`]),
      ...flags,
    ],
    {
      stdio: ['ignore', log.fd, log.fd],
      env: { ...process.env, UV_THREADPOOL_SIZE: '64', ...environment },
    },
  );
  const ended = once(child, 'exit').then(() => String(child.signalCode ?? child.exitCode));
  await log.close();
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    child.kill(signal);
    await ended;
  };
  return {
    endpoint,
    sockets: [endpoint, ...flags.flatMap((flag) => /^--docker-socket=(.+)$/.exec(flag)?.[1] ?? [])],
    pid: child.pid ?? 0,
    stop: () => end('SIGTERM'),
    kill: () => end('SIGKILL'),
    ended,
    log: async () => (await readFile(logFile)).subarray(earlier).toString('utf8'),
  };
}

/** The port that the kernel chose for a listener. A driver answers Probe before it opens these listeners, so this waits for them. */
export async function portOf(
  driver: Pick<DriverProcess, 'log'>,
  name: 'agentPort' | 'httpPort',
): Promise<number> {
  let port: string | undefined;
  await until(`the log names ${name}`, async () => {
    port = new RegExp(`"${name}":(\\d+)`).exec(await driver.log())?.[1];
    return port !== undefined;
  });
  return Number(port);
}

function accepts(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(socketPath);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => {
      resolve(false);
    });
  });
}

function answersProbe(client: Client<'csi.v1.Identity'>): Promise<boolean> {
  return client.Probe({}, { timeoutMs: scaledMs(1_000) }).then(
    () => true,
    () => false,
  );
}

async function isServing(
  { sockets }: DriverProcess,
  client: Client<'csi.v1.Identity'>,
): Promise<boolean> {
  const accepting = await Promise.all(sockets.map(accepts));
  // After a refused connection, grpc-js waits a second before the next one.
  return accepting.every(Boolean) && answersProbe(client);
}

/**
 * Waits until the driver answers Probe, and the socket for Docker, if it has one, is open too. If it ends first or takes a minute,
 * kills it and throws an error with its log.
 */
export async function untilReady(driver: DriverProcess): Promise<void> {
  const { endpoint, ended } = driver;
  const client = makeClient('csi.v1.Identity', `unix://${endpoint}`);
  let end: string | undefined;
  void ended.then((how) => {
    end = how;
  });
  try {
    for (
      const deadline = Date.now() + scaledMs(60_000);
      Date.now() < deadline && end === undefined;
    ) {
      if (await isServing(driver, client)) return;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  } finally {
    client.close();
  }
  if (end === undefined) await driver.kill();
  throw new Error(`the driver did not become ready (${end ?? 'too slow'}):\n${await driver.log()}`);
}
