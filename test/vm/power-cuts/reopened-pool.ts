/** A disk in the state that a power cut left, mounted as a pool of a driver in this process. */
import { mkdir, mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import type { FsType, Host } from '../../../src/host/host.ts';
import { createLog } from '../../../src/observe/log.ts';
import { type OpenedVolumes, openVolumes } from '../../../src/volumes/open.ts';
import { poolDefaults } from '../../../src/volumes/pool/settings.ts';
import { checkers, type PoolPaths } from '../../crash/invariants.ts';
import { testSettings } from '../../helpers/scratch-node.ts';
import { devicesBelow, removeAll } from '../../helpers/scratch-pool.ts';
import { until } from '../../helpers/until.ts';
import type { ReplayedDisk } from './replay.ts';

const mountOptions = { ext4: [], xfs: ['-o', 'nouuid'], btrfs: [] } as const;

/** Only one disk at a time: btrfs treats two devices with the same UUID as one filesystem. */
export class ReopenedPool implements PoolPaths {
  readonly directory: string;
  readonly #filesystem: FsType;
  readonly #host: Host;

  private constructor(directory: string, filesystem: FsType, host: Host) {
    this.directory = directory;
    this.#filesystem = filesystem;
    this.#host = host;
  }

  /** Mounts the disk below `scratch`, which replays its journal. */
  static async mount(
    disk: ReplayedDisk,
    options: { scratch: string; filesystem: FsType; host: Host },
  ): Promise<ReopenedPool> {
    const { scratch, filesystem, host } = options;
    const directory = await mkdtemp(join(scratch, 'loopcsi-power-cut-'));
    const pool = new ReopenedPool(directory, filesystem, host);
    try {
      await mkdir(pool.poolPath);
      disk.writeTo(pool.#image);
      const { stdout: device } = await execa('losetup', ['--find', '--show', pool.#image]);
      await execa('mount', [
        ...['-t', filesystem],
        ...mountOptions[filesystem],
        device,
        pool.poolPath,
      ]);
    } catch (error) {
      await removeAll(directory);
      throw error;
    }
    return pool;
  }

  get poolPath(): string {
    return join(this.directory, 'pool');
  }

  /** The name that the tests use for the image of a pool's filesystem. */
  get #image(): string {
    return join(this.directory, 'pool-fs.img');
  }

  /** Starts the driver as after a boot: no state exists outside the pool. */
  async open(): Promise<OpenedVolumes> {
    return openVolumes({
      host: this.#host,
      log: createLog({ level: 'silent' }),
      stateDir: join(this.directory, 'state'),
      settings: testSettings,
      kubeletDir: undefined,
      pools: [
        {
          ...poolDefaults,
          name: 'default',
          path: this.poolPath,
          create: true,
          overcommitPerMille: 20_000,
        },
      ],
    });
  }

  /** Unmounts the pool and runs the checker of its filesystem; returns the errors that the checker found. */
  async unmountAndCheck(): Promise<readonly string[]> {
    await until(`${this.poolPath} is unmounted`, async () => {
      const { exitCode } = await execa('umount', [this.poolPath], { reject: false });
      return exitCode === 0;
    });
    for (const { device } of await devicesBelow(this.directory)) {
      await execa('losetup', ['--detach', device]);
    }
    // A mount namespace copied meanwhile keeps mount and device in use, and the checker would report its late writes as damage.
    await until(`nothing uses ${this.#image}`, async () => {
      return (await devicesBelow(this.directory)).length === 0;
    });
    const { exitCode, stdout, stderr } = await checkers[this.#filesystem](this.#image);
    if (exitCode === 0) return [];
    return [`checker of the pool's ${this.#filesystem}: ${String(exitCode)}: ${stdout}${stderr}`];
  }

  /** Removes the pool in any state; returns the mounts and devices that the driver left. */
  async remove(): Promise<readonly string[]> {
    return removeAll(this.directory);
  }
}
