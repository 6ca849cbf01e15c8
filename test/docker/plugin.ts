/** The driver of a node's dockerd, with its plugin socket where dockerd looks for it and its volumes in the lab's directory. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { attempt, type CommandResult, eventually, run } from '../../scripts/command.ts';
import { type DriverProcess, startDriver } from '../helpers/driver.ts';
import { devicesBelow, makePoolFs } from '../helpers/scratch-pool.ts';
import type { Lab, NodeSpace } from './lab.ts';

const launcher = join(import.meta.dirname, '..', '..', '..', 'bin', 'loopcsi');

/** The name of the volume driver for `--driver`, which is the name of the socket. */
export const driverName = 'loopcsi';

export interface Plugin {
  readonly directory: string;
  readonly poolPath: string;
  endpoint(): string;
  start(): Promise<void>;
  stop(): Promise<void>;
  kill(): Promise<void>;
  log(): Promise<string>;
  /** Runs the command line against this driver. */
  loopcsi(...args: readonly string[]): Promise<CommandResult>;
}

export async function startPlugin(
  lab: Lab,
  node: NodeSpace,
  options: { nodeId: string; xfsBytes?: bigint },
): Promise<Plugin> {
  const directory = join(node.directory, 'driver');
  await mkdir(directory, { recursive: true });
  const poolPath = join(directory, 'pool');
  if (options.xfsBytes !== undefined) await makeXfs(lab, directory, options.xfsBytes);
  let running: DriverProcess | undefined;
  const now = (): DriverProcess => {
    if (running === undefined) throw new Error('the driver was not started');
    return running;
  };
  const start = async (): Promise<void> => {
    const flags = [
      `--node-id=${options.nodeId}`,
      `--pool=default=${poolPath},create,overcommit=20`,
      `--docker-socket=${join(node.plugins, `${driverName}.sock`)}`,
      `--mount-dir=${join(directory, 'mounts')}`,
      '--http-address=off',
    ];
    // In the mount namespace of dockerd, as on a real machine, so that each sees the other's mounts.
    running = await startDriver(directory, flags, { enter: node.enter });
  };
  lab.atEnd(async () => running?.stop());
  await start();
  return {
    directory,
    poolPath,
    endpoint: () => now().endpoint,
    start,
    stop: () => now().stop(),
    kill: () => now().kill(),
    log: () => now().log(),
    loopcsi: (...args) => attempt(launcher, [...args, `--endpoint=unix://${now().endpoint}`]),
  };
}

/** A pool that can share blocks, at `DIRECTORY/pool`. */
async function makeXfs(lab: Lab, directory: string, sizeBytes: bigint): Promise<void> {
  await makePoolFs(directory, { poolFs: 'xfs', poolFsBytes: sizeBytes });
  lab.atEnd(async () => {
    await run('umount', ['--detach-loop', join(directory, 'pool')]);
    // An unmount completes in the background, in every mount namespace that has a copy.
    await eventually(
      "the pool's disk to be detached",
      async () => ((await devicesBelow(directory)).length === 0 ? true : undefined),
      { everyMs: 20 },
    );
  });
}
