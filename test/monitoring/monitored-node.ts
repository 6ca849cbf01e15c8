import { mkdir, mkdtemp, statfs, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { type Client, makeClient } from '../../src/csi/client.ts';
import type { LoopDevice } from '../../src/host/host.ts';
import { makeRealHost } from '../../src/host/real-host.ts';
import { GiB, MiB } from '../../src/units.ts';
import { type DriverProcess, startDriver } from '../helpers/driver.ts';
import { httpFlag, metricsUrl, scrape } from '../helpers/scrape.ts';
import { makePoolFs, removeAll } from '../helpers/scratch-pool.ts';
import { scaledMs } from '../helpers/slowness.ts';
import { StalledFuse } from '../helpers/stalled-fuse.ts';
import { until } from '../helpers/until.ts';

const capability = {
  access_mode: { mode: 'SINGLE_NODE_WRITER' },
  access_type: 'mount',
  mount: { fs_type: 'ext4' },
} as const;

/**
 * A driver with three pools: `disk` has few inodes, `thin` promises more than it has and freezes for at most ten seconds, and
 * `hung` can be stalled.
 */
export class MonitoredNode {
  readonly #directory: string;
  readonly #host = makeRealHost();
  #driver: DriverProcess | undefined;
  #controller: Client<'csi.v1.Controller'> | undefined;
  #node: Client<'csi.v1.Node'> | undefined;
  #admin: Client<'loopcsi.v1.Admin'> | undefined;
  #fuse: StalledFuse | undefined;
  #unused: LoopDevice | undefined;
  #url = '';

  private constructor(directory: string) {
    this.#directory = directory;
  }

  /** The test's teardown ends it. */
  static async start(
    t: ExecutionContext,
    { hasHungPool = false }: { readonly hasHungPool?: boolean } = {},
  ): Promise<MonitoredNode> {
    const node = new MonitoredNode(await mkdtemp(join(tmpdir(), 'loopcsi-alerts-')));
    t.teardown(() => node.#end());
    for (const name of ['disk', 'thin', 'hung']) await mkdir(node.pathOf(name));
    await makePoolFs(node.pathOf('disk'), {
      poolFs: 'ext4',
      poolFsBytes: 2n * GiB,
      poolFsOptions: ['-m', '0', '-N', '2048'],
    });
    await makePoolFs(node.pathOf('thin'), {
      poolFs: 'ext4',
      poolFsBytes: GiB,
      poolFsOptions: ['-m', '0'],
    });
    if (hasHungPool) node.#fuse = await StalledFuse.mount(node.pathOf('hung'));
    await node.start();
    return node;
  }

  async start(): Promise<void> {
    const pool = (name: string, options = ''): string =>
      `--pool=${name}=${join(this.pathOf(name), 'pool')},create${options}`;
    this.#driver = await startDriver(this.#directory, [
      httpFlag,
      pool('disk', ',reserve=5%'),
      pool('thin', ',reserve=0,overcommit=4'),
      ...(this.#fuse === undefined ? [] : [pool('hung')]),
      `--guard-freeze-limit=${scaledMs(10_000)}ms`,
    ]);
    this.#url = await metricsUrl(this.#driver);
    const address = `unix://${this.#driver.endpoint}`;
    this.#controller = makeClient('csi.v1.Controller', address);
    this.#node = makeClient('csi.v1.Node', address);
    this.#admin = makeClient('loopcsi.v1.Admin', address);
  }

  async stop(): Promise<void> {
    this.#controller?.close();
    this.#node?.close();
    this.#admin?.close();
    await this.#driver?.stop();
  }

  get pid(): number {
    return this.#driver?.pid ?? 0;
  }

  get controller(): Client<'csi.v1.Controller'> {
    if (this.#controller === undefined) throw new Error('the driver was not started');
    return this.#controller;
  }

  /** The address of /metrics. */
  get url(): string {
    return this.#url;
  }

  pathOf(name: string): string {
    return join(this.#directory, name);
  }

  entryOf(pool: string, volumeId: string): string {
    return join(this.pathOf(pool), 'pool', 'volumes', volumeId);
  }

  scrape(): Promise<string> {
    return scrape(this.#url);
  }

  /** Returns undefined if the driver does not answer. */
  async scrapeIfUp(): Promise<string | undefined> {
    return this.scrape().catch(() => undefined);
  }

  async scrapeUntil(pattern: RegExp): Promise<string> {
    let text = '';
    const shows = async (): Promise<boolean> => {
      text = await this.scrape();
      return pattern.test(text);
    };
    await until(`a scrape shows ${pattern}`, shows, 120_000);
    return text;
  }

  async volume(
    name: string,
    pool: string,
    mib: number,
    parameters: Readonly<Record<string, string>> = {},
  ): Promise<string> {
    const { volume } = await this.controller.CreateVolume({
      name,
      capacity_range: { required_bytes: BigInt(mib) * MiB },
      volume_capabilities: [capability],
      parameters: { ...parameters, pool },
    });
    return volume?.volume_id ?? '';
  }

  async stage(volume_id: string, staging_target_path: string): Promise<void> {
    const request = { volume_id, staging_target_path, volume_capability: capability };
    await this.#node?.NodeStageVolume(request, { timeoutMs: 90_000 });
  }

  async trim(volume_id: string): Promise<void> {
    await this.#admin?.TrimVolume({ volume_id });
  }

  /** Creates and stages a volume, and returns the path of its filesystem. */
  async mountedVolume(name: string, pool: string, mib: number): Promise<string> {
    const volumeId = await this.volume(name, pool, mib);
    const path = this.pathOf(`staging-${name}`);
    await this.makeAndStage(volumeId, path);
    return path;
  }

  async makeAndStage(volumeId: string, path: string): Promise<void> {
    await mkdir(path);
    await this.stage(volumeId, path);
  }

  /** Makes empty files, until the filesystem has no more inodes. */
  async makeFiles(directory: string, count: number): Promise<void> {
    const names = Array.from({ length: count }, (_, i) => join(directory, `file-${i}`));
    await Promise.allSettled(names.map((name) => writeFile(name, '')));
  }

  /** Promises and allocates all that the pool may promise, except for some MiB. */
  async promiseRest(pool: string, exceptMib: number): Promise<void> {
    const { available_capacity } = await this.controller.GetCapacity({ parameters: { pool } });
    const mib = Number(available_capacity / MiB) - exceptMib;
    await this.volume('rest', pool, mib, { provisioning: 'thick' });
  }

  /** Bytes of a pool's filesystem that can be allocated, except for some MiB. */
  async freeBytes(pool: string, exceptMib: number): Promise<bigint> {
    const { bavail, bsize } = await statfs(join(this.pathOf(pool), 'pool'), { bigint: true });
    return bavail * bsize - BigInt(exceptMib) * MiB;
  }

  /** Attaches a volume that nothing uses, as a crash between attach and mount leaves it. */
  async attachUnused(pool: string, volumeId: string): Promise<void> {
    this.#unused = await this.#host.loops.attach(join(this.entryOf(pool, volumeId), 'disk.img'), {
      sectorSize: 4096,
      readOnly: false,
      directIo: true,
      discard: true,
      label: volumeId,
    });
  }

  async detachUnused(): Promise<void> {
    if (this.#unused !== undefined) await this.#host.loops.detach(this.#unused);
    this.#unused = undefined;
  }

  stall(): void {
    this.#fuse?.stall();
  }

  resume(): void {
    this.#fuse?.resume();
  }

  async #end(): Promise<void> {
    this.resume();
    await this.detachUnused();
    await this.stop();
    await removeAll(this.#directory);
    await this.#fuse?.ended();
  }
}
