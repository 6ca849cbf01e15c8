import { mkdir, mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import { type Client, makeClient } from '../../src/csi/client.ts';
import type { Partially } from '../../src/csi/rpc-types.ts';
import type { VolumeCapability } from '../../src/csi/types.ts';
import { MiB } from '../../src/units.ts';
import { type DriverProcess, portOf, startDriver } from './driver.ts';
import { makePoolFs, removeAll } from './scratch-pool.ts';

/** Maximum duration of a call while another one hangs; long enough for a busy machine. */
export const boundMs = 15_000;
export const capability = {
  access_mode: { mode: 'SINGLE_NODE_MULTI_WRITER' },
  access_type: 'mount',
  mount: {},
} as const;
const blockCapability = {
  access_mode: capability.access_mode,
  access_type: 'block',
  block: {},
} as const;

export interface TwoPoolsOptions {
  /** Mounts the filesystem of the pool `hung` at `DIRECTORY/pool`; a new ext4 if not given. */
  readonly preparePool?: (directory: string) => Promise<void>;
}

/** A driver with two pools: `hung`, whose filesystem a test can freeze or stall, and `good`. */
export class TwoPools {
  readonly directory: string;
  driver!: DriverProcess;
  controller!: Client<'csi.v1.Controller'>;
  node!: Client<'csi.v1.Node'>;
  identity!: Client<'csi.v1.Identity'>;
  admin!: Client<'loopcsi.v1.Admin'>;

  private constructor(directory: string) {
    this.directory = directory;
  }

  static async make(options: TwoPoolsOptions = {}): Promise<TwoPools> {
    const directory = await mkdtemp(join(tmpdir(), 'loopcsi-isolation-'));
    try {
      if (options.preparePool === undefined) await makePoolFs(directory, { poolFs: 'ext4' });
      else await options.preparePool(directory);
      await mkdir(join(directory, 'good'));
      const both = new TwoPools(directory);
      await both.start();
      return both;
    } catch (error) {
      await removeAll(directory);
      throw error;
    }
  }

  async start(): Promise<void> {
    this.driver = await startDriver(this.directory, [
      '--http-address=127.0.0.1:0',
      `--pool=hung=${join(this.directory, 'pool')},create,overcommit=20`,
      `--pool=good=${join(this.directory, 'good')},create,overcommit=20`,
    ]);
    const address = `unix://${this.driver.endpoint}`;
    this.controller = makeClient('csi.v1.Controller', address);
    this.node = makeClient('csi.v1.Node', address);
    this.identity = makeClient('csi.v1.Identity', address);
    this.admin = makeClient('loopcsi.v1.Admin', address);
  }

  /** Status and text of the HTTP listener's response. Throws when it takes longer than the bound. */
  async http(path: string): Promise<{ readonly status: number; readonly text: string }> {
    const url = `http://127.0.0.1:${await portOf(this.driver, 'httpPort')}${path}`;
    const answer = await fetch(url, { signal: AbortSignal.timeout(boundMs) });
    return { status: answer.status, text: await answer.text() };
  }

  async create(name: string, pool: string, timeoutMs = boundMs): Promise<string> {
    return this.#create(name, { pool, timeoutMs, capability });
  }

  async createBlock(name: string, pool: string): Promise<string> {
    return this.#create(name, { pool, timeoutMs: boundMs, capability: blockCapability });
  }

  async #create(
    name: string,
    asked: { pool: string; timeoutMs: number; capability: Partially<VolumeCapability> },
  ): Promise<string> {
    const { pool, timeoutMs } = asked;
    const { volume } = await this.controller.CreateVolume(
      {
        name,
        capacity_range: { required_bytes: 32n * MiB },
        volume_capabilities: [asked.capability],
        parameters: { pool },
      },
      { timeoutMs },
    );
    return volume?.volume_id ?? '';
  }

  async stage(volume_id: string): Promise<string> {
    const staging_target_path = this.stagingPathOf(volume_id);
    await mkdir(staging_target_path, { recursive: true });
    const request = { volume_id, staging_target_path, volume_capability: capability };
    await this.node.NodeStageVolume(request, { timeoutMs: boundMs });
    return staging_target_path;
  }

  stagingPathOf(volume_id: string): string {
    return join(this.directory, `staging-${volume_id}`);
  }

  async stageBlock(volume_id: string, timeoutMs = boundMs): Promise<string> {
    const staging_target_path = this.stagingPathOf(volume_id);
    await mkdir(staging_target_path, { recursive: true });
    const request = { volume_id, staging_target_path, volume_capability: blockCapability };
    await this.node.NodeStageVolume(request, { timeoutMs });
    return staging_target_path;
  }

  /** Runs a volume's whole life cycle, with each call limited to the bound. */
  async live(name: string): Promise<void> {
    const within = { timeoutMs: boundMs };
    const volume_id = await this.create(name, 'good');
    const staging_target_path = await this.stage(volume_id);
    const target_path = join(this.directory, `target-${name}`);
    await this.node.NodePublishVolume(
      { volume_id, staging_target_path, target_path, volume_capability: capability },
      within,
    );
    await this.node.NodeGetVolumeStats({ volume_id, volume_path: target_path }, within);
    await this.controller.GetCapacity({ parameters: { pool: 'good' } }, within);
    await this.node.NodeUnpublishVolume({ volume_id, target_path }, within);
    await this.node.NodeUnstageVolume({ volume_id, staging_target_path }, within);
    await this.controller.DeleteVolume({ volume_id }, within);
  }

  async end(): Promise<readonly string[]> {
    for (const client of [this.controller, this.node, this.identity, this.admin]) client.close();
    await this.driver.stop();
    return removeAll(this.directory);
  }
}

/** The code that a call ended with. */
export async function codeOf(call: Promise<unknown>): Promise<number> {
  return call.then(
    () => status.OK,
    (error: unknown) => Number((error as { code?: unknown }).code ?? -1),
  );
}
