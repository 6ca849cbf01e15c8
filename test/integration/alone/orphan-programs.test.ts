/**
 * Programs that outlive their driver. Alone: a process that polls stops each program within milliseconds of its start, which fails
 * while others use the processors.
 */
import { mkdir, mkdtemp, readdir, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { kill } from 'node:process';
import { status } from '@grpc/grpc-js';
import type { ExecutionContext } from 'ava';
import { execa } from 'execa';
import { type Client, makeClient } from '../../../src/csi/client.ts';
import { GiB, MiB } from '../../../src/units.ts';
import { type DriverProcess, startDriver, withoutSysResource } from '../../helpers/driver.ts';
import { onNode } from '../../helpers/on-node.ts';
import { removeAll } from '../../helpers/scratch-pool.ts';
import { stopProgram } from '../../helpers/stop-program.ts';
import { until } from '../../helpers/until.ts';

const files = 40;
const capabilityOf = (fs_type: string) => ({
  access_type: 'mount' as const,
  mount: { fs_type, mount_flags: [], volume_mount_group: '' },
  access_mode: { mode: 'SINGLE_NODE_WRITER' as const },
});

const start = (directory: string): Promise<DriverProcess> =>
  startDriver(directory, ['--http-address=off'], { enter: withoutSysResource });

/** A driver that is killed and started again, its clients, and the programs that it leaves running. */
class Fixture {
  readonly directory: string;
  readonly #t: ExecutionContext;
  readonly #orphans: number[] = [];
  #driver: DriverProcess;
  #controller: Client<'csi.v1.Controller'>;
  #node: Client<'csi.v1.Node'>;

  private constructor(t: ExecutionContext, directory: string, driver: DriverProcess) {
    this.#t = t;
    this.directory = directory;
    this.#driver = driver;
    this.#controller = makeClient('csi.v1.Controller', `unix://${driver.endpoint}`);
    this.#node = makeClient('csi.v1.Node', `unix://${driver.endpoint}`);
  }

  static async open(t: ExecutionContext): Promise<Fixture> {
    const directory = await mkdtemp(join(tmpdir(), 'loopcsi-test-'));
    const fixture = new Fixture(t, directory, await start(directory));
    t.teardown(async () => {
      for (const pid of fixture.#orphans) end(pid);
      await fixture.#driver.kill();
      fixture.#controller.close();
      fixture.#node.close();
      const left = await removeAll(directory);
      if (left.length > 0) throw new Error(`left over: ${left.join(', ')}`);
    });
    await mkdir(join(directory, 'staging'));
    return fixture;
  }

  get staging(): string {
    return join(this.directory, 'staging');
  }

  create(name: string, fsType: string, sizeBytes: bigint, snapshotId?: string) {
    return this.#controller.CreateVolume({
      name,
      capacity_range: { required_bytes: sizeBytes },
      volume_capabilities: [capabilityOf(fsType)],
      ...(snapshotId === undefined
        ? {}
        : {
            volume_content_source: {
              type: 'snapshot' as const,
              snapshot: { snapshot_id: snapshotId },
            },
          }),
    });
  }

  snapshot(name: string, source_volume_id: string) {
    return this.#controller.CreateSnapshot({ name, source_volume_id });
  }

  clone(name: string, volume_id: string) {
    return this.#controller.CreateVolume({
      name,
      volume_capabilities: [capabilityOf('ext4')],
      volume_content_source: { type: 'volume', volume: { volume_id } },
    });
  }

  expand(volume_id: string, sizeBytes: bigint) {
    return this.#controller.ControllerExpandVolume({
      volume_id,
      capacity_range: { required_bytes: sizeBytes },
    });
  }

  remove(volume_id: string) {
    return this.#controller.DeleteVolume({ volume_id });
  }

  stage(volume_id: string) {
    return this.#node.NodeStageVolume({
      volume_id,
      staging_target_path: this.staging,
      volume_capability: capabilityOf('ext4'),
    });
  }

  unstage(volume_id: string) {
    return this.#node.NodeUnstageVolume({ volume_id, staging_target_path: this.staging });
  }

  /** Stops the program in the middle of that call, kills the driver, and starts another one. */
  async orphan(program: string, call: () => Promise<unknown>): Promise<number> {
    const { stopped } = await stopProgram(this.#driver.pid, program);
    const answer = call().catch((error: unknown) => error);
    const { pid } = await stopped;
    this.#orphans.push(pid);
    await this.#driver.kill();
    this.#t.true((await answer) instanceof Error);
    this.#controller.close();
    this.#node.close();
    this.#driver = await start(this.directory);
    this.#controller = makeClient('csi.v1.Controller', `unix://${this.#driver.endpoint}`);
    this.#node = makeClient('csi.v1.Node', `unix://${this.#driver.endpoint}`);
    return pid;
  }

  /** Asserts that each call returns ABORTED and names the program and its process ID. */
  async refuses(calls: Record<string, () => Promise<unknown>>, program: string, pid: number) {
    for (const [name, call] of Object.entries(calls)) {
      const error = await this.#t.throwsAsync(call(), undefined, name);
      this.#t.is((error as { code?: unknown } | undefined)?.code, status.ABORTED, name);
      this.#t.regex(error?.message ?? '', new RegExp(`${program} \\(process ${pid}\\)`), name);
    }
    const log = await this.#driver.log();
    const lines = log.split('\n').filter((line) => line.includes(`"pid":${pid}`));
    this.#t.true(
      lines.some((line) => line.includes(`"program":"${program}"`)),
      'the start logged the program',
    );
  }

  /** Continues the program and waits until it ends. */
  async resume(pid: number): Promise<void> {
    kill(pid, 'SIGCONT');
    await until('the program has ended', () => hasEnded(pid));
  }

  imageOf(volumeId: string): string {
    return join(this.directory, 'pool', 'volumes', volumeId, 'disk.img');
  }
}

/** It no longer exists, or is a zombie. */
async function hasEnded(pid: number): Promise<boolean> {
  const text = await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => ') X');
  return /\) [ZX]/.test(text);
}

function end(pid: number): void {
  try {
    kill(pid, 'SIGKILL');
  } catch {
    // It has ended.
  }
}

async function writeFiles(directory: string): Promise<void> {
  for (let index = 0; index < files; index += 1) {
    await writeFile(join(directory, `file-${index}`), `content ${index}`, { flush: true });
  }
}

async function hasFiles(t: ExecutionContext, directory: string): Promise<void> {
  for (let index = 0; index < files; index += 1) {
    t.is(await readFile(join(directory, `file-${index}`), 'utf8'), `content ${index}`);
  }
}

async function stagedOnce(fixture: Fixture): Promise<string> {
  const made = await fixture.create('v', 'ext4', 64n * MiB);
  const id = made.volume?.volume_id ?? '';
  await fixture.stage(id);
  await writeFiles(fixture.staging);
  await fixture.unstage(id);
  return id;
}

for (const { program, prepare } of [
  { program: 'resize2fs', prepare: (fixture: Fixture, id: string) => fixture.expand(id, 2n * GiB) },
  {
    program: 'e2fsck',
    prepare: (fixture: Fixture, id: string) =>
      execa('debugfs', ['-w', '-R', 'set_super_value state 2', fixture.imageOf(id)]),
  },
]) {
  onNode(
    `while ${program} of a killed driver has an image open, no driver changes that image`,
    async (t) => {
      const fixture = await Fixture.open(t);
      const id = await stagedOnce(fixture);
      await prepare(fixture, id);
      const pid = await fixture.orphan(program, () => fixture.stage(id));
      const before = await readFile(fixture.imageOf(id).replace('disk.img', 'volume.json'), 'utf8');
      await fixture.refuses(
        {
          stage: () => fixture.stage(id),
          'stage again': () => fixture.stage(id),
          expand: () => fixture.expand(id, 3n * GiB),
          snapshot: () => fixture.snapshot('s', id),
          clone: () => fixture.clone('c', id),
          delete: () => fixture.remove(id),
        },
        program,
        pid,
      );
      const after = await readFile(fixture.imageOf(id).replace('disk.img', 'volume.json'), 'utf8');
      t.is(after, before, 'the record is unchanged');
      await fixture.unstage(id);
      await fixture.resume(pid);
      await fixture.stage(id);
      await hasFiles(t, fixture.staging);
      await fixture.unstage(id);
      t.is((await execa('e2fsck', ['-fn', fixture.imageOf(id)], { reject: false })).exitCode, 0);
      await fixture.remove(id);
    },
  );
}

onNode(
  'while xfs_db of a killed driver works on a restored image, the restore is neither repeated nor removed',
  async (t) => {
    const fixture = await Fixture.open(t);
    const made = await fixture.create('source', 'xfs', 300n * MiB);
    const source = made.volume?.volume_id ?? '';
    const created = await fixture.snapshot('s', source);
    const snapshotId = created.snapshot?.snapshot_id ?? '';
    const restore = () => fixture.create('restored', 'xfs', 300n * MiB, snapshotId);
    const pid = await fixture.orphan('xfs_db', restore);
    const id = source.replace('source', 'restored');
    const temporary = join(fixture.directory, 'pool', 'tmp');
    t.is((await readdir(temporary)).length, 1, 'the program keeps its image');
    await fixture.refuses({ restore, delete: () => fixture.remove(id) }, 'xfs_db', pid);
    await fixture.resume(pid);
    await restore();
    t.deepEqual(await readdir(temporary), []);
    t.is((await execa('xfs_repair', ['-n', fixture.imageOf(id)], { reject: false })).exitCode, 0);
    for (const one of [id, source]) await fixture.remove(one);
  },
);
