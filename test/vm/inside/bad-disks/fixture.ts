import { mkdir, mkdtemp, readdir, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { execa } from 'execa';
import { type Client, makeClient } from '../../../../src/csi/client.ts';
import { MiB } from '../../../../src/units.ts';
import { runCommand } from '../../../helpers/command-line.ts';
import { type DriverProcess, startDriver } from '../../../helpers/driver.ts';
import { devicesBelow, removeAll } from '../../../helpers/scratch-pool.ts';
import { until } from '../../../helpers/until.ts';
import { attempt } from './attempt.ts';
import { MappedDisk } from './mapped-disk.ts';

/** The filesystems of the pool on the bad disk, with their mount options. */
const poolTypes = {
  ext4: { fsType: 'ext4', mountOptions: 'errors=remount-ro' },
  'ext4 that continues after errors': { fsType: 'ext4', mountOptions: 'errors=continue' },
  XFS: { fsType: 'xfs', mountOptions: 'defaults' },
  btrfs: { fsType: 'btrfs', mountOptions: 'defaults' },
} as const;
export type PoolType = keyof typeof poolTypes;

/** Wrong statements about a volume whose disk fails, or about its pool. */
export const wrongStatements =
  /damaged|DATA_LOSS|is gone|is missing|does not exist|truncated|no valid/;

/** The message for a pool whose filesystem the kernel has stopped. */
export const poolHasFailed =
  /pool 'bad': the filesystem of \S+ has failed or is read-only .*check its disk and the kernel's log.*unmount, check and mount it again/;

const capability = {
  access_mode: { mode: 'SINGLE_NODE_MULTI_WRITER' },
  access_type: 'mount',
  mount: { fs_type: 'ext4' },
} as const;

/** Longer than any call of the driver waits for a disk, so that every call gets an answer from the driver. */
const timeoutMs = 15 * 60_000;

/** A driver with a pool, `bad`, on a disk that can fail, and a pool, `good`, on another disk. */
export class Fixture {
  readonly directory: string;
  readonly disk: MappedDisk;
  readonly #poolType: PoolType;
  #driver: DriverProcess | undefined;
  controller!: Client<'csi.v1.Controller'>;
  node!: Client<'csi.v1.Node'>;

  private constructor(directory: string, disk: MappedDisk, poolType: PoolType) {
    this.directory = directory;
    this.disk = disk;
    this.#poolType = poolType;
  }

  /** Runs the test, and fails if it leaves a mount, a loop device or a mapped device. */
  static async use(
    t: ExecutionContext,
    poolType: PoolType,
    run: (fixture: Fixture) => Promise<void>,
  ): Promise<void> {
    t.timeout(20 * 60_000);
    const directory = await mkdtemp(join(tmpdir(), 'loopcsi-bad-disk-'));
    const disk = await MappedDisk.make('bad', '/dev/vm/bad');
    const fixture = new Fixture(directory, disk, poolType);
    try {
      await fixture.#start();
      await run(fixture);
      t.deepEqual(await fixture.#clear(), []);
    } catch (error) {
      // Logged here, because a failure of the assertion below would replace this error.
      t.log(String(error));
      t.log((await fixture.#driver?.log())?.split('\n').slice(-15).join('\n') ?? 'no driver');
      throw error;
    } finally {
      t.deepEqual(await fixture.#end(), []);
    }
  }

  async #start(): Promise<void> {
    for (const name of ['pool', 'good', 'staging']) await mkdir(join(this.directory, name));
    const { fsType } = poolTypes[this.#poolType];
    const overwrite = fsType === 'ext4' ? '-F' : '-f';
    await execa(`mkfs.${fsType}`, ['-q', overwrite, this.disk.path]);
    await this.mountPool();
    await this.#startDriver();
  }

  async #startDriver(): Promise<void> {
    this.#driver = await startDriver(this.directory, [
      '--http-address=off',
      `--pool=bad=${this.poolPath},create,overcommit=20`,
      `--pool=good=${join(this.directory, 'good')},create,overcommit=20`,
    ]);
    const address = `unix://${this.#driver.endpoint}`;
    this.controller = makeClient('csi.v1.Controller', address);
    this.node = makeClient('csi.v1.Node', address);
  }

  async #stopDriver(): Promise<void> {
    for (const client of [this.controller, this.node]) client.close();
    await this.#driver?.stop();
    this.#driver = undefined;
  }

  async restartDriver(): Promise<void> {
    await this.#stopDriver();
    await this.#startDriver();
  }

  /** Returns the output of the command `loopcsi`. Throws if its exit code is neither 0 nor `may`. */
  async command(args: readonly string[], may = 0): Promise<string> {
    const { endpoint = '' } = this.#driver ?? {};
    const { exitCode, stdout, stderr } = await runCommand(endpoint, ...args);
    if (exitCode !== 0 && exitCode !== may) throw new Error(`${args.join(' ')}: ${stderr}`);
    return stdout;
  }

  get poolPath(): string {
    return join(this.directory, 'pool');
  }

  async mountPool(): Promise<void> {
    const { fsType, mountOptions } = poolTypes[this.#poolType];
    await execa('mount', ['-t', fsType, '-o', mountOptions, this.disk.path, this.poolPath]);
  }

  async create(name: string, pool: 'bad' | 'good' = 'bad', snapshot_id?: string): Promise<string> {
    const { volume } = await this.controller.CreateVolume(
      {
        name,
        capacity_range: { required_bytes: 32n * MiB },
        volume_capabilities: [capability],
        parameters: { pool },
        volume_content_source:
          snapshot_id === undefined ? null : { type: 'snapshot', snapshot: { snapshot_id } },
      },
      { timeoutMs },
    );
    return volume?.volume_id ?? '';
  }

  async snapshot(source_volume_id: string): Promise<string> {
    const request = { source_volume_id, name: 'cut' };
    const { snapshot } = await this.controller.CreateSnapshot(request, { timeoutMs });
    return snapshot?.snapshot_id ?? '';
  }

  /** The path of a file of a volume, or of its directory. */
  pathOf(volume_id: string, file = ''): string {
    return join(this.poolPath, 'volumes', volume_id, file);
  }

  imageOf(volume_id: string): string {
    return this.pathOf(volume_id, 'disk.img');
  }

  imageOfSnapshot(snapshot_id: string): string {
    return join(this.poolPath, 'snapshots', snapshot_id, 'disk.img');
  }

  stagingPathOf(volume_id: string): string {
    return join(this.directory, 'staging', volume_id);
  }

  async stage(volume_id: string): Promise<void> {
    const staging_target_path = this.stagingPathOf(volume_id);
    await mkdir(staging_target_path, { recursive: true });
    const request = { volume_id, staging_target_path, volume_capability: capability };
    await this.node.NodeStageVolume(request, { timeoutMs });
  }

  /** Makes a volume, stages it and writes its file. */
  async createInUse(name: string, pool: 'bad' | 'good' = 'bad'): Promise<string> {
    const volume_id = await this.create(name, pool);
    await this.stage(volume_id);
    await this.write(volume_id);
    return volume_id;
  }

  async unstage(volume_id: string): Promise<void> {
    const staging_target_path = this.stagingPathOf(volume_id);
    await this.node.NodeUnstageVolume({ volume_id, staging_target_path }, { timeoutMs });
  }

  /** Writes a file and calls fsync, as a pod does. */
  async write(volume_id: string): Promise<void> {
    await writeFile(this.#fileIn(volume_id), contentOf(volume_id), { flush: true });
  }

  /** Writes the same bytes into the same blocks again, and calls fsync. */
  async overwrite(volume_id: string): Promise<void> {
    await writeFile(this.#fileIn(volume_id), contentOf(volume_id), { flag: 'r+', flush: true });
  }

  /** Throws if the file of `write` has changed; a restored volume has the file of its source. */
  async verify(volume_id: string, source = volume_id): Promise<void> {
    const found = await readFile(this.#fileIn(volume_id));
    if (!found.equals(contentOf(source))) throw new Error(`the file in ${volume_id} has changed`);
  }

  #fileIn(volume_id: string): string {
    return join(this.stagingPathOf(volume_id), 'file');
  }

  async expand(volume_id: string): Promise<void> {
    const capacity_range = { required_bytes: 64n * MiB };
    await this.controller.ControllerExpandVolume({ volume_id, capacity_range }, { timeoutMs });
    const volume_path = this.stagingPathOf(volume_id);
    await this.node.NodeExpandVolume({ volume_id, volume_path, capacity_range }, { timeoutMs });
  }

  async delete(volume_id: string): Promise<void> {
    await this.controller.DeleteVolume({ volume_id }, { timeoutMs });
  }

  async deleteSnapshot(snapshot_id: string): Promise<void> {
    await this.controller.DeleteSnapshot({ snapshot_id }, { timeoutMs });
  }

  /** Creates, stages, unstages and deletes a volume in the other pool; returns the duration in milliseconds. */
  async liveInGoodPool(name: string): Promise<number> {
    const startedAtMs = Date.now();
    const volume_id = await this.createInUse(name, 'good');
    await this.unstage(volume_id);
    await this.delete(volume_id);
    return Date.now() - startedAtMs;
  }

  /** All conditions of a volume and of the pools, as `STATUS REASON: MESSAGE`. */
  async health(volume_id: string): Promise<readonly string[]> {
    const { volume_health } = await this.node.NodeGetVolumeHealth({ volume_id }, { timeoutMs });
    const ofVolume = (volume_health?.health_statuses ?? []).map(
      ({ status, reason, message }) => `${String(status)} ${reason}: ${message}`,
    );
    return [...ofVolume, ...(await this.poolHealth())];
  }

  async poolHealth(): Promise<readonly string[]> {
    const { backend_health } = await this.node.NodeGetStorageHealth({}, { timeoutMs });
    return backend_health.map(
      ({ status, reason, message }) => `${String(status)} ${reason}: ${message}`,
    );
  }

  async isServed(): Promise<boolean> {
    return !(await this.poolHealth()).some((condition) => condition.includes(' PoolNotServed: '));
  }

  /** Whether the kernel has stopped the pool's filesystem: it refuses changes although its disk works. */
  async poolIsStopped(): Promise<boolean> {
    const trial = join(this.poolPath, 'trial');
    const script = 'mkdir "$1" && sync "$1" && rmdir "$1"';
    return (await execa('sh', ['-c', script, 'sh', trial], { reject: false })).exitCode !== 0;
  }

  /** Remounts the pool's filesystem as writable; the kernel may refuse it. */
  async mountReadWrite(): Promise<'done' | 'refused'> {
    const options = ['--options', 'remount,rw'];
    const { exitCode } = await execa('mount', [...options, this.poolPath], { reject: false });
    return exitCode === 0 ? 'done' : 'refused';
  }

  /** The steps of docs/operations.md, "A disk fails", after the pool's volumes were unstaged. */
  async remountPool(): Promise<void> {
    await until('the pool is unmounted', async () => {
      return (await execa('umount', [this.poolPath], { reject: false })).exitCode === 0;
    });
    await this.#checkPool();
    await this.mountPool();
  }

  async #checkPool(): Promise<void> {
    switch (poolTypes[this.#poolType].fsType) {
      case 'ext4': {
        const { exitCode } = await execa('e2fsck', ['-f', '-p', this.disk.path], { reject: false });
        if (exitCode === undefined || exitCode > 1)
          throw new Error(`e2fsck ended with ${String(exitCode)}`);
        return;
      }
      case 'btrfs':
        await execa('btrfs', ['check', this.disk.path]);
        return;
      case 'xfs':
      // XFS is checked by its mount, which replays the log.
    }
  }

  /** Unstages and deletes all volumes. Returns the leftovers in the pools. */
  async #clear(): Promise<readonly string[]> {
    for (const volume_id of await readdir(join(this.directory, 'staging'))) {
      await this.unstage(volume_id);
    }
    for (const { volume } of (await this.controller.ListVolumes({})).entries) {
      await this.delete(volume?.volume_id ?? '');
    }
    await until('the trash is empty', async () => (await this.#entriesOf('trash')).length === 0);
    const devices = await devicesBelow(this.directory);
    return [
      ...(await this.halfMade()),
      ...devices.map(({ device, image }) => `${device} on ${image}`),
    ];
  }

  async halfMade(): Promise<readonly string[]> {
    return this.#entriesOf('tmp');
  }

  async #entriesOf(area: 'tmp' | 'trash'): Promise<readonly string[]> {
    const pools = [this.poolPath, join(this.directory, 'good')];
    const found = await Promise.all(pools.map((pool) => readdir(join(pool, area))));
    return found.flat();
  }

  async #end(): Promise<readonly string[]> {
    await this.disk.recover();
    if (this.#driver !== undefined) await this.#stopDriver();
    const left = await removeAll(this.directory);
    await this.disk.remove();
    return left;
  }
}

const contentOf = (volume_id: string): Buffer => Buffer.alloc(512 * 1024, `of ${volume_id} `);

/** Repeats a call, as its caller would, until it succeeds. */
export async function untilDone(what: string, work: () => Promise<unknown>): Promise<void> {
  let last = '';
  try {
    await until(
      what,
      async () => {
        const { code, message } = await attempt(work);
        last = `${code} ${message}`;
        return code === 'OK';
      },
      15_000,
    );
  } catch (error) {
    throw new Error(`${what}: ${last}`, { cause: error });
  }
}
