import { mkdir, mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import test from 'ava';
import { execa } from 'execa';
import { type Client, makeClient } from '../../src/csi/client.ts';
import { MiB } from '../../src/units.ts';
import { type DriverProcess, startDriver } from '../helpers/driver.ts';
import { makeGround, removeAll } from '../helpers/ground.ts';
import { isRoot, needsRoot } from '../helpers/scratch-node.ts';

const onNode = isRoot ? test.serial : test.serial.skip;
if (!isRoot) test(`skipped: ${needsRoot}`, (t) => t.pass());

/** What nobody may wait longer for while something else hangs; generous, for a busy machine. */
const boundMs = 15_000;
const capability = {
  access_mode: { mode: 'SINGLE_NODE_MULTI_WRITER' },
  access_type: 'mount',
  mount: {},
} as const;

/** A driver with a pool on a filesystem that can be frozen under it, and one beside it. */
class TwoPools {
  readonly directory: string;
  readonly driver: DriverProcess;
  readonly controller: Client<'csi.v1.Controller'>;
  readonly node: Client<'csi.v1.Node'>;
  readonly identity: Client<'csi.v1.Identity'>;

  private constructor(directory: string, driver: DriverProcess) {
    const address = `unix://${driver.endpoint}`;
    this.directory = directory;
    this.driver = driver;
    this.controller = makeClient('csi.v1.Controller', address);
    this.node = makeClient('csi.v1.Node', address);
    this.identity = makeClient('csi.v1.Identity', address);
  }

  static async make(): Promise<TwoPools> {
    const directory = await mkdtemp(join(tmpdir(), 'loopcsi-isolation-'));
    await makeGround(directory, { ground: 'ext4' });
    await mkdir(join(directory, 'good'));
    const driver = await startDriver(directory, [
      '--http-address=off',
      `--pool=hung=${join(directory, 'pool')},create,overcommit=20`,
      `--pool=good=${join(directory, 'good')},create,overcommit=20`,
    ]);
    return new TwoPools(directory, driver);
  }

  async create(name: string, pool: string, timeoutMs = boundMs): Promise<string> {
    const { volume } = await this.controller.CreateVolume(
      {
        name,
        capacity_range: { required_bytes: 32n * MiB },
        volume_capabilities: [capability],
        parameters: { pool },
      },
      { timeoutMs },
    );
    return volume?.volume_id ?? '';
  }

  async stage(volume_id: string): Promise<string> {
    const staging_target_path = join(this.directory, `staging-${volume_id}`);
    await mkdir(staging_target_path, { recursive: true });
    const request = { volume_id, staging_target_path, volume_capability: capability };
    await this.node.NodeStageVolume(request, { timeoutMs: boundMs });
    return staging_target_path;
  }

  /** A whole life, each call within the bound. */
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
    await this.controller.ListVolumes({}, within);
    await this.controller.GetCapacity({ parameters: { pool: 'good' } }, within);
    await this.node.NodeUnpublishVolume({ volume_id, target_path }, within);
    await this.node.NodeUnstageVolume({ volume_id, staging_target_path }, within);
    await this.controller.DeleteVolume({ volume_id }, within);
  }

  async end(): Promise<readonly string[]> {
    for (const client of [this.controller, this.node, this.identity]) client.close();
    await this.driver.stop();
    return removeAll(this.directory);
  }
}

/** The code that a call ended with. */
async function codeOf(call: Promise<unknown>): Promise<number> {
  return call.then(
    () => status.OK,
    (error: unknown) => Number((error as { code?: unknown }).code ?? -1),
  );
}

onNode('a pool whose disk hangs stops no other pool, and goes on when its disk does', async (t) => {
  t.timeout(5 * 60_000);
  const both = await TwoPools.make();
  const ground = join(both.directory, 'pool');
  try {
    const staged = await both.create('staged', 'hung');
    const volume_path = await both.stage(staged);
    const deleted = await both.create('deleted', 'hung');
    await execa('fsfreeze', ['--freeze', ground]);
    const hung: Promise<number>[] = [];
    try {
      // More than libuv has threads by default, and more than the gate lets through for one owner.
      for (let index = 0; index < 12; index += 1) {
        hung.push(codeOf(both.create(`hung-${index}`, 'hung', 20_000)));
      }
      hung.push(
        codeOf(both.controller.DeleteVolume({ volume_id: deleted }, { timeoutMs: 20_000 })),
      );
      for (let round = 0; round < 3; round += 1) {
        await both.live(`good-${round}`);
        await both.identity.Probe({}, { timeoutMs: boundMs });
        const stats = both.node.NodeGetVolumeStats(
          { volume_id: staged, volume_path },
          { timeoutMs: boundMs },
        );
        t.not(await codeOf(stats), status.DEADLINE_EXCEEDED, 'stats answer, whatever they say');
      }
      for (const code of await Promise.all(hung)) {
        t.true(
          [status.DEADLINE_EXCEEDED, status.ABORTED, status.UNAVAILABLE].includes(code),
          `hung calls do not claim success: ${code}`,
        );
      }
    } finally {
      await execa('fsfreeze', ['--unfreeze', ground]);
    }
    // The same calls again, as their callers make them, succeed once the disk answers.
    for (const giveUpAt = Date.now() + 60_000; Date.now() < giveUpAt; ) {
      const again = await codeOf(both.create('hung-0', 'hung'));
      if (again === status.OK) break;
      t.true([status.ABORTED, status.UNAVAILABLE].includes(again), `after the thaw: ${again}`);
    }
    for (let index = 0; index < 12; index += 1) {
      const volume_id = await both.create(`hung-${index}`, 'hung');
      await both.controller.DeleteVolume({ volume_id }, { timeoutMs: boundMs });
    }
    await both.controller.DeleteVolume({ volume_id: deleted });
    await both.node.NodeUnstageVolume({ volume_id: staged, staging_target_path: volume_path });
    await both.controller.DeleteVolume({ volume_id: staged });
    t.deepEqual((await both.controller.ListVolumes({})).entries, []);
  } finally {
    await execa('fsfreeze', ['--unfreeze', ground], { reject: false });
    t.deepEqual(await both.end(), []);
  }
});

onNode('a volume that stands still stops no other one of its pool', async (t) => {
  t.timeout(3 * 60_000);
  const both = await TwoPools.make();
  try {
    const frozen = await both.create('frozen', 'good');
    const path = await both.stage(frozen);
    await execa('fsfreeze', ['--freeze', path]);
    const stuck = codeOf(
      both.node.NodeExpandVolume(
        { volume_id: frozen, volume_path: path, capacity_range: { required_bytes: 64n * MiB } },
        { timeoutMs: 20_000 },
      ),
    );
    await both.live('beside');
    await both.node.NodeGetVolumeStats(
      { volume_id: frozen, volume_path: path },
      { timeoutMs: boundMs },
    );
    await stuck;
    // It thaws what it unmounts: an end is always possible.
    await both.node.NodeUnstageVolume(
      { volume_id: frozen, staging_target_path: path },
      { timeoutMs: 60_000 },
    );
    await both.controller.DeleteVolume({ volume_id: frozen });
  } finally {
    t.deepEqual(await both.end(), []);
  }
});
