import { mkdir, mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { type Client, makeClient } from '../../src/csi/client.ts';
import type { Partially } from '../../src/csi/rpc-types.ts';
import type { VolumeCapability } from '../../src/csi/types.ts';
import { GiB } from '../../src/units.ts';
import { type Certificates, writeTlsFiles } from '../helpers/certificates.ts';
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

/** The driver and pool that a row of the matrix needs. */
export interface TestNodeOptions {
  readonly poolFs: PoolFs;
  /** Runs the driver as it is shipped, which cannot be armed. */
  readonly isPlain?: boolean;
  /** Certificates with which it serves its network address, for a controller and other nodes; by default it has none. */
  readonly certificates?: Certificates;
  /** Mounts the pool's filesystem at `DIRECTORY/pool` if it is not one that `makePoolFs` makes. */
  readonly preparePool?: (directory: string) => Promise<void>;
  readonly flags?: ((directory: string) => readonly string[]) | undefined;
  /** Command prefix that gives the driver other capabilities or namespaces. */
  readonly enter?: readonly string[];
}

export type Capability = Partially<VolumeCapability>;

export const writer = { mode: 'SINGLE_NODE_WRITER' } as const;
export const sharing = { mode: 'SINGLE_NODE_MULTI_WRITER' } as const;

export function mountCapability(fsType = '', mountFlags: readonly string[] = []): Capability {
  return {
    access_mode: sharing,
    access_type: 'mount',
    mount: { fs_type: fsType, mount_flags: mountFlags },
  };
}

export const blockCapability: Capability = {
  access_mode: sharing,
  access_type: 'block',
  block: {},
};

/** Mounts the filesystem of that device as the pool. */
export function poolOn(
  device: string,
  mountFlags: readonly string[] = [],
): (directory: string) => Promise<void> {
  return async (directory) => {
    await mkdir(join(directory, 'pool'));
    await execa('mount', [...mountFlags, device, join(directory, 'pool')]);
  };
}

/** Undoes a call, whether or not the call was completed. It is idempotent; the newest call is undone first. */
type Undo = () => Promise<unknown>;

/**
 * A node with a driver process that can be killed at a chosen moment, and its clients. It records every call, so that all of
 * them can be undone through the driver.
 */
export class TestNode {
  readonly directory: string;
  readonly options: TestNodeOptions;
  driver!: DriverProcess;
  controller!: Client<'csi.v1.Controller'>;
  groups!: Client<'csi.v1.GroupController'>;
  node!: Client<'csi.v1.Node'>;
  admin!: Client<'loopcsi.v1.Admin'>;
  readonly #undo: Undo[] = [];

  private constructor(directory: string, options: TestNodeOptions) {
    this.directory = directory;
    this.options = options;
  }

  static async make(options: TestNodeOptions): Promise<TestNode> {
    const directory = await mkdtemp(join(tmpdir(), 'loopcsi-crash-'));
    const testNode = new TestNode(directory, options);
    if (options.preparePool === undefined) {
      await makePoolFs(directory, { poolFs: options.poolFs, poolFsBytes: 16n * GiB });
    } else {
      await options.preparePool(directory);
    }
    for (const below of ['staging', 'targets', 'tls']) await mkdir(testNode.pathOf(below));
    const { certificates } = options;
    if (certificates !== undefined) {
      const { agent, authority } = certificates;
      await writeTlsFiles(testNode.pathOf('tls'), agent, authority.certificate);
    }
    await testNode.start();
    return testNode;
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
      ...(this.options.certificates === undefined
        ? []
        : ['--agent-address=127.0.0.1:0', `--tls-dir=${this.pathOf('tls')}`]),
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

  /** Starts the driver without waiting until it is ready. */
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

  /** Traces calls under the name `round` from now on; the driver kills itself at `moment`. */
  async arm(round: string, moment?: Moment): Promise<void> {
    await arm(this.directory, round, moment);
  }

  /** Starts a new driver, which is not armed, after the old one was killed. */
  async restart(): Promise<void> {
    await disarm(this.directory);
    await this.start();
  }

  /** Ends the driver with SIGTERM and starts it again, still armed. */
  async stopAndStart(): Promise<void> {
    await this.driver.stop();
    await this.start();
  }

  /** Ends the driver and starts it with another node id and only the default pool. */
  async startAs(nodeId: string): Promise<void> {
    await this.driver.stop();
    const pool = `--pool=default=${this.poolPath},create,overcommit=20`;
    const flags = ['--http-address=off', pool, `--node-id=${nodeId}`];
    this.driver = await startDriver(this.directory, flags, this.#driverOptions);
    this.#connect();
  }

  /** Ends the driver and deletes its pool's entries and its state directory. */
  async stopAndForget(): Promise<void> {
    await this.driver.stop();
    for (const entry of await readdir(this.poolPath)) {
      await rm(join(this.poolPath, entry), { recursive: true });
    }
    await rm(this.pathOf('state'), { recursive: true, force: true });
  }

  /** Unmounts and deletes the embedded pool, whose mount outlives the driver. */
  async dropEmbedded(): Promise<void> {
    const directory = this.pathOf('embedded');
    for (const target of (await mountsBelow(directory)).reverse()) await execa('umount', [target]);
    for (const { device } of await devicesBelow(directory)) {
      await execa('losetup', ['--detach', device]);
    }
    await rm(directory, { recursive: true, force: true });
  }

  /** Records how to undo a call that is about to be made. */
  recordUndo(undo: Undo): void {
    this.#undo.push(undo);
  }

  async docker(call: string, body: Readonly<Record<string, unknown>>) {
    return dockerCall(this.dockerSocket, call, body);
  }

  /** Undoes everything through the driver's calls. */
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
