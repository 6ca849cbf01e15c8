import { mkdir, mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { type Client, makeClient } from '../../src/csi/client.ts';
import type { Partially } from '../../src/csi/rpc-types.ts';
import type { VolumeCapability } from '../../src/csi/types.ts';
import { GiB } from '../../src/units.ts';
import { type DriverProcess, spawnDriver, startDriver, untilReady } from '../helpers/driver.ts';
import {
  devicesBelow,
  makePoolFs,
  mountsBelow,
  type PoolFs,
  removeAll,
} from '../helpers/scratch-pool.ts';
import { dockerCall } from './docker-client.ts';
import { arm, controlVariable, disarm, type Moment } from './fault-moments.ts';

const program = join(import.meta.dirname, 'driver-entry.js');

/** What a row of the matrix says of the driver that it needs. */
export interface WorldOptions {
  readonly poolFs: PoolFs;
  /** The driver as it is shipped, which cannot be armed. */
  readonly isPlain?: boolean;
  /** Brings the pool's ground to `DIRECTORY/pool`, where that is not one of the usual ones. */
  readonly preparePool?: (directory: string) => Promise<void>;
  readonly flags?: ((directory: string) => readonly string[]) | undefined;
  /** What goes before the driver's command, so that it has other rights or namespaces. */
  readonly enter?: readonly string[];
}

export type Capability = Partially<VolumeCapability>;

export const writer = { mode: 'SINGLE_NODE_WRITER' } as const;
export const sharing = { mode: 'SINGLE_NODE_MULTI_WRITER' } as const;

export function mountCapability(fsType = ''): Capability {
  return { access_mode: sharing, access_type: 'mount', mount: { fs_type: fsType } };
}

export const blockCapability: Capability = {
  access_mode: sharing,
  access_type: 'block',
  block: {},
};

/** Lays the ground: what is on that device, mounted as the pool. */
export function poolOn(
  device: string,
  mountFlags: readonly string[] = [],
): (directory: string) => Promise<void> {
  return async (directory) => {
    await mkdir(join(directory, 'pool'));
    await execa('mount', [...mountFlags, device, join(directory, 'pool')]);
  };
}

/** How to take back what a call may have done: newest first, each idempotent, whether or not the call came to its end. */
type Undo = () => Promise<unknown>;

/**
 * A node with a driver process that can be killed at a moment, its clients, and everything that was ever asked of it, so that
 * all can be taken back through the driver's own calls.
 */
export class World {
  readonly directory: string;
  readonly options: WorldOptions;
  driver!: DriverProcess;
  controller!: Client<'csi.v1.Controller'>;
  groups!: Client<'csi.v1.GroupController'>;
  node!: Client<'csi.v1.Node'>;
  admin!: Client<'loopcsi.v1.Admin'>;
  readonly #undo: Undo[] = [];

  private constructor(directory: string, options: WorldOptions) {
    this.directory = directory;
    this.options = options;
  }

  static async make(options: WorldOptions): Promise<World> {
    const directory = await mkdtemp(join(tmpdir(), 'loopcsi-crash-'));
    const world = new World(directory, options);
    if (options.preparePool === undefined) {
      await makePoolFs(directory, { poolFs: options.poolFs, poolFsBytes: 16n * GiB });
    } else {
      await options.preparePool(directory);
    }
    for (const below of ['staging', 'targets']) await mkdir(world.pathOf(below));
    await world.start();
    return world;
  }

  pathOf(...names: readonly string[]): string {
    return join(this.directory, ...names);
  }

  get poolPath(): string {
    return this.pathOf('pool');
  }

  get dockerSocket(): string {
    return this.pathOf('docker.sock');
  }

  get #flags(): readonly string[] {
    return [
      '--http-address=off',
      `--docker-socket=${this.dockerSocket}`,
      `--mount-dir=${this.pathOf('docker')}`,
      '--shutdown-timeout=4s',
      ...(this.options.flags?.(this.directory) ?? []),
    ];
  }

  get #driverOptions() {
    const { isPlain = false, enter = [] } = this.options;
    if (isPlain) return { enter };
    return { program, environment: { [controlVariable]: this.directory }, enter };
  }

  async start(): Promise<void> {
    await untilReady(await this.startWithoutWaiting());
  }

  /** A start that is not waited for. */
  async startWithoutWaiting(): Promise<DriverProcess> {
    this.driver = await spawnDriver(this.directory, this.#flags, this.#driverOptions);
    this.#connect();
    return this.driver;
  }

  #connect(): void {
    this.#disconnect();
    const address = `unix://${this.driver.endpoint}`;
    this.controller = makeClient('csi.v1.Controller', address);
    this.groups = makeClient('csi.v1.GroupController', address);
    this.node = makeClient('csi.v1.Node', address);
    this.admin = makeClient('loopcsi.v1.Admin', address);
  }

  #disconnect(): void {
    for (const client of [this.controller, this.groups, this.node, this.admin]) client?.close();
  }

  /** Calls from now on are traced under this name, and the driver dies at `moment`. */
  async arm(round: string, moment?: Moment): Promise<void> {
    await arm(this.directory, round, moment);
  }

  /** After the driver's death: a new one, not armed. */
  async restart(): Promise<void> {
    await disarm(this.directory);
    await this.start();
  }

  /** Ends the driver as SIGTERM does, and starts it again, still armed. */
  async stopAndStart(): Promise<void> {
    await this.driver.stop();
    await this.start();
  }

  /** Ends the driver and starts it as another node, with the usual pool alone. */
  async startAs(nodeId: string): Promise<void> {
    await this.driver.stop();
    const pool = `--pool=default=${this.poolPath},create,overcommit=20`;
    const flags = ['--http-address=off', pool, `--node-id=${nodeId}`];
    this.driver = await startDriver(this.directory, flags, this.#driverOptions);
    this.#connect();
  }

  /** Ends the driver, and the pool and what the node knows of it are gone. */
  async stopAndForget(): Promise<void> {
    await this.driver.stop();
    for (const entry of await readdir(this.poolPath)) {
      await rm(join(this.poolPath, entry), { recursive: true });
    }
    await rm(this.pathOf('state'), { recursive: true, force: true });
  }

  /** Takes the embedded pool away, image and all; its mount outlives the driver. */
  async dropEmbedded(): Promise<void> {
    const directory = this.pathOf('embedded');
    for (const target of (await mountsBelow(directory)).reverse()) await execa('umount', [target]);
    for (const { device } of await devicesBelow(directory)) {
      await execa('losetup', ['--detach', device]);
    }
    await rm(directory, { recursive: true, force: true });
  }

  /** Remembers how to take back a call that is about to be made. */
  undoLater(undo: Undo): void {
    this.#undo.push(undo);
  }

  async docker(call: string, body: Readonly<Record<string, unknown>>) {
    return dockerCall(this.dockerSocket, call, body);
  }

  /** Takes everything back through the driver's calls. */
  async clear(): Promise<void> {
    for (let undo = this.#undo.pop(); undo !== undefined; undo = this.#undo.pop()) await undo();
  }

  async stagingPathOf(volumeId: string): Promise<string> {
    const path = this.pathOf('staging', volumeId);
    await mkdir(path, { recursive: true });
    return path;
  }

  async exists(path: string): Promise<boolean> {
    return stat(path).then(
      () => true,
      () => false,
    );
  }

  async end(): Promise<readonly string[]> {
    this.#disconnect();
    await this.driver.stop().catch(() => undefined);
    await this.dropEmbedded();
    return removeAll(this.directory);
  }
}
