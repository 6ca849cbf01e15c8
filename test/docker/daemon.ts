/** A dockerd from Debian's docker.io in a node of the lab. The client is Debian's too, even if PATH has another one. */

import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { attempt, type CommandResult, eventually, FinalError, run } from '../../scripts/command.ts';
import { makePaths } from '../../src/host/files/paths.ts';
import { driverLane } from '../../src/host/lane.ts';
import { busybox, type Lab, type NodeSpace } from './lab.ts';
import { type Service, startService } from './processes.ts';

const paths = makePaths(driverLane);

export const dockerPrograms = { client: '/usr/bin/docker', daemon: '/usr/sbin/dockerd' } as const;

export interface Daemon {
  /** Runs the client and returns its trimmed output. Throws docker's error message if it fails. */
  readonly docker: (...args: readonly string[]) => Promise<string>;
  /** For other clients and programs. */
  readonly socket: string;
  /** The same, but does not throw if it fails. */
  tryDocker(...args: readonly string[]): Promise<CommandResult>;
  start(): Promise<void>;
  stop(): Promise<void>;
  /** Sends SIGKILL. Containers keep running if live-restore is set. */
  kill(): Promise<void>;
}

export interface DaemonOptions {
  readonly liveRestore?: boolean;
  /** A directory with newer releases of dockerd, docker-proxy and runc than Debian's. */
  readonly programs?: string;
}

/** Starts dockerd and loads the lab's image. */
export async function startDaemon(
  lab: Lab,
  node: NodeSpace,
  options: DaemonOptions = {},
): Promise<Daemon> {
  const directory = join(node.directory, 'docker');
  await mkdir(directory, { recursive: true });
  const socket = join(directory, 'd.sock');
  const log = join(directory, 'dockerd.log');
  await writeFile(
    join(directory, 'daemon.json'),
    JSON.stringify({
      'live-restore': options.liveRestore ?? false,
      ...(options.programs === undefined ? {} : { features: { 'containerd-snapshotter': false } }),
    }),
  );
  const argv = [
    ...node.enter,
    ...(options.programs === undefined
      ? // Lowering it takes a capability that a root may lack.
        [dockerPrograms.daemon, '--oom-score-adjust=0']
      : [join(options.programs, 'dockerd'), '--seccomp-profile=unconfined']),
    `--config-file=${directory}/daemon.json`,
    `--data-root=${directory}/data`,
    `--exec-root=${directory}/exec`,
    `--pidfile=${directory}/pid`,
    `--host=unix://${socket}`,
    `--cgroup-parent=/${lab.cgroup}`,
    '--exec-opt=native.cgroupdriver=cgroupfs',
    '--storage-driver=overlay2',
    '--userland-proxy=false',
    '--shutdown-timeout=5',
  ];
  const environment = {
    PATH: `${options.programs ?? '/usr/sbin'}:/usr/sbin:/usr/bin:/sbin:/bin`,
    // Debian's client uses API version 1.41, which newer daemons accept only with this variable.
    DOCKER_MIN_API_VERSION: '1.41',
  };
  let service: Service | undefined;
  const tryDocker = (...args: readonly string[]): Promise<CommandResult> =>
    attempt(dockerPrograms.client, ['--host', `unix://${socket}`, ...args], {
      env: { DOCKER_CONFIG: directory },
    });
  const docker = async (...args: readonly string[]): Promise<string> => {
    const { exitCode, stdout, stderr } = await tryDocker(...args);
    if (exitCode === 0) return stdout.trim();
    throw new Error(`docker ${args.join(' ')}: ${stdout}\n${stderr}`.trim());
  };
  const start = async (): Promise<void> => {
    const begun = await startService(argv, log, environment);
    service = begun;
    await eventually(
      'an answer of dockerd',
      async () => {
        if (begun.hasEnded()) throw new FinalError(`dockerd ended:\n${await endOf(log)}`);
        return (await tryDocker('version')).exitCode === 0 ? true : undefined;
      },
      { timeoutMs: 60_000, everyMs: 100 },
    );
  };
  const daemon: Daemon = {
    docker,
    tryDocker,
    socket,
    start,
    stop: async () => service?.end('SIGTERM'),
    kill: async () => {
      const containerd = (
        await readFile(`${directory}/exec/containerd/containerd.pid`, 'utf8')
      ).trim();
      await service?.end('SIGKILL');
      // containerd ends shortly after its parent. A dockerd that finds its process ID alive would wait for it in vain.
      await eventually(
        'the end of containerd',
        async () => ((await paths.exists(`/proc/${containerd}`)) ? undefined : true),
        { timeoutMs: 10_000, everyMs: 20 },
      );
    },
  };
  lab.atEnd(() => empty(daemon));
  await start();
  await run(dockerPrograms.client, [
    '--host',
    `unix://${socket}`,
    'load',
    '--input',
    lab.imageArchive,
  ]);
  await docker('image', 'inspect', busybox);
  return daemon;
}

/** Removes the containers and volumes that a failed test left, and stops the daemon, so that the lab finds only real leftovers. */
async function empty(daemon: Daemon): Promise<void> {
  try {
    const containers = (await daemon.docker('ps', '--all', '--quiet')).split('\n');
    const [first] = containers;
    if (first !== '') await daemon.docker('rm', '--force', '--volumes', ...containers);
    const volumes = (await daemon.docker('volume', 'ls', '--quiet')).split('\n');
    if (volumes[0] !== '') await daemon.docker('volume', 'rm', ...volumes);
  } finally {
    await daemon.stop();
  }
}

async function endOf(log: string): Promise<string> {
  return (await readFile(log, 'utf8')).split('\n').slice(-15).join('\n');
}
