/** Runs the steps of the demo. */
import { statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import { retry } from '../../src/async.ts';
import { formatBytes } from '../../src/units.ts';
import { type RunningDriver, startDriver } from './driver.ts';
import type { Report } from './report.ts';
import { findLeftovers, forceRemove, type Scratch } from './scratch.ts';
import { fill, Writer, type WrittenFiles, writeDevice, writeFiles } from './workload.ts';

const MiB = 1024n * 1024n;
const busyTimeoutMs = 20_000;

const volumes = [
  { name: 'documents', format: 'ext4', bytes: 256n * MiB },
  { name: 'database', format: 'xfs', bytes: 400n * MiB },
  { name: 'device', format: 'block', bytes: 128n * MiB },
] as const;
type Volume = (typeof volumes)[number];

export class Demo {
  readonly #scratch: Scratch;
  readonly #report: Report;
  readonly #signal: AbortSignal;
  readonly #writer: Writer;
  readonly #ids = new Map<string, string>();
  #driver: RunningDriver | undefined;
  #files: WrittenFiles | undefined;
  #snapshotId: string | undefined;

  constructor(scratch: Scratch, report: Report, signal: AbortSignal) {
    this.#scratch = scratch;
    this.#report = report;
    this.#signal = signal;
    this.#writer = new Writer(join(this.#targetOf('database'), 'journal'));
  }

  #targetOf(name: string): string {
    return join(this.#scratch.directory, `mnt-${name}`);
  }

  get #running(): RunningDriver {
    if (this.#driver === undefined) throw new Error('no driver is running');
    return this.#driver;
  }

  #idOf(name: string): string {
    return this.#ids.get(name) ?? name;
  }

  async run(): Promise<void> {
    this.#report.title('Volumes');
    await this.#start('start the driver: loopcsi serve');
    for (const volume of volumes) await this.#create(volume);
    for (const volume of volumes) await this.#mount(volume);
    this.#report.title('Data');
    await this.#write();
    await this.#snapshot();
    await this.#restore();
    await this.#fillUp();
    this.#report.title('Growth and restart during writes');
    await this.#expand();
    await this.#restart();
    await this.#remount();
    this.#report.title('Removal');
    await this.#remove();
  }

  async #start(description: string): Promise<void> {
    await this.#report.step(description, async () => {
      this.#driver = await startDriver(this.#scratch.directory);
      const { pools } = await this.#driver.admin.ListPools({});
      const [pool] = pools;
      if (pool?.state !== 'SERVED') throw new Error(pool?.reason ?? 'the driver has no pool');
      return `pool in ${pool.path} on ${pool.fs_type}, with a capacity of ${formatBytes(pool.room_bytes)}`;
    });
  }

  async #create({ name, format, bytes }: Volume): Promise<void> {
    await this.#report.step(`create '${name}': ${formatBytes(bytes)}, ${format}`, async () => {
      const access_mode = { mode: 'SINGLE_NODE_MULTI_WRITER' } as const;
      const { volume } = await this.#running.controller.CreateVolume({
        name,
        capacity_range: { required_bytes: bytes, limit_bytes: 0n },
        volume_capabilities: [
          format === 'block'
            ? { access_mode, access_type: 'block', block: {} }
            : { access_mode, access_type: 'mount', mount: { fs_type: format } },
        ],
      });
      const id = volume?.volume_id ?? '';
      this.#ids.set(name, id);
      const created = (await this.#running.admin.GetVolume({ volume_id: id })).volume;
      return `${formatBytes(created?.allocated_bytes ?? 0n)} allocated on the disk so far`;
    });
  }

  async #mount({ name }: Volume): Promise<void> {
    await this.#report.step(`mount '${name}'`, async () => {
      const volume_id = this.#idOf(name);
      await this.#running.admin.MountVolume({ volume_id, target_path: this.#targetOf(name) });
      const { volume } = await this.#running.admin.GetVolume({ volume_id });
      const io = volume?.direct_io === true ? 'direct I/O' : 'buffered I/O';
      return `${volume?.loop_device ?? ''}, ${io}`;
    });
  }

  async #write(): Promise<void> {
    await this.#report.step('write files, sync each of them, and read them back', async () => {
      this.#files = await writeFiles(this.#targetOf('documents'), 100);
      await this.#files.verify();
      return `${this.#files.count} files, ${formatBytes(BigInt(this.#files.bytes))}, all intact`;
    });
    await this.#report.step('write to the block device and read it back', async () => {
      await writeDevice(this.#targetOf('device'), 16);
      return '16 MiB, all intact';
    });
  }

  async #snapshot(): Promise<void> {
    await this.#report.step("snapshot 'documents' while it is mounted", async () => {
      const { snapshot } = await this.#running.controller.CreateSnapshot({
        source_volume_id: this.#idOf('documents'),
        name: 'documents-then',
        // If the pool cannot share blocks, the volume stays frozen during the copy, which is short here.
        parameters: { freeze: 'yes' },
      });
      this.#snapshotId = snapshot?.snapshot_id;
      const taken = await this.#running.admin.GetSnapshot({ snapshot_id: this.#snapshotId ?? '' });
      return `frozen for ${taken.snapshot?.frozen_ms ?? 0n} ms`;
    });
  }

  async #restore(): Promise<void> {
    await this.#report.step(
      "restore the snapshot to 'restored', mount it, and read the files",
      async () => {
        const target = this.#targetOf('restored');
        const { volume } = await this.#running.controller.CreateVolume({
          name: 'restored',
          volume_content_source: {
            type: 'snapshot',
            snapshot: { snapshot_id: this.#snapshotId ?? '' },
          },
          volume_capabilities: [
            {
              access_mode: { mode: 'SINGLE_NODE_MULTI_WRITER' },
              access_type: 'mount',
              mount: { fs_type: 'ext4' },
            },
          ],
        });
        const volume_id = volume?.volume_id ?? '';
        this.#ids.set('restored', volume_id);
        await this.#running.admin.MountVolume({ volume_id, target_path: target });
        await this.#files?.verify(target);
        return 'all intact; source and copy are mounted at the same time';
      },
    );
  }

  async #fillUp(): Promise<void> {
    await this.#report.step("fill 'documents' until it is full", async () => {
      const before = await this.#scratch.freeBytes();
      const bytes = await fill(join(this.#targetOf('documents'), 'filler'), this.#signal);
      await writeFiles(join(this.#targetOf('database')), 3);
      await this.#files?.verify();
      const used = before - (await this.#scratch.freeBytes());
      return [
        `ENOSPC after ${formatBytes(BigInt(bytes))}; the other files are intact, and 'database' is still writable`,
        `it used ${formatBytes(used > 0n ? used : 0n)} of the host's disk, which still has ${formatBytes(await this.#scratch.freeBytes())} free`,
      ].join('\n');
    });
  }

  async #expand(): Promise<void> {
    await this.#report.step(
      "double the size of 'database' while it is being written to",
      async () => {
        this.#writer.start();
        await this.#writer.advance(50);
        const before = await sizeOf(this.#targetOf('database'));
        await this.#running.admin.ExpandVolume({
          volume_id: this.#idOf('database'),
          size_bytes: 800n * MiB,
        });
        await this.#writer.advance(50);
        const after = await sizeOf(this.#targetOf('database'));
        if (after <= before) throw new Error('the filesystem did not grow');
        return `the filesystem grew from ${formatBytes(before)} to ${formatBytes(after)}; the writer never stopped`;
      },
    );
  }

  async #restart(): Promise<void> {
    await this.#report.step('kill the driver (SIGKILL) while volumes stay mounted', async () => {
      const { pid } = this.#running;
      await this.#running.end('SIGKILL');
      this.#driver = undefined;
      await this.#writer.advance(50);
      await this.#files?.verify();
      return `process ${pid} was killed; writes and reads continue`;
    });
    await this.#start('start the driver again');
    await this.#report.step('check that nothing was lost', async () => {
      const { volumes: found } = await this.#running.admin.ListVolumes({});
      const mounted = found.filter(({ published_at }) => published_at.length > 0);
      if (mounted.length !== this.#ids.size) throw new Error('a volume was lost');
      const unhealthy = found.filter(({ problems }) => problems.length > 0);
      const blocks = await this.#writer.finish();
      return `${mounted.length} volumes mounted, ${unhealthy.length} with problems; all ${blocks} blocks of the writer are intact`;
    });
  }

  async #remount(): Promise<void> {
    await this.#report.step(
      "unmount and remount 'documents', and read all files again",
      async () => {
        const volume_id = this.#idOf('documents');
        await retryWhileBusy(() => this.#running.admin.UnmountVolume({ volume_id }));
        await this.#running.admin.MountVolume({
          volume_id,
          target_path: this.#targetOf('documents'),
        });
        await this.#files?.verify();
        return 'all intact';
      },
    );
  }

  async #remove(): Promise<void> {
    await this.#report.step('unmount and delete everything', async () => {
      await this.#removeVolumes();
      const { volumes: found } = await this.#running.admin.ListVolumes({});
      if (found.length > 0) throw new Error('a volume still exists');
      return '';
    });
  }

  async #removeVolumes(): Promise<void> {
    for (const volume_id of this.#ids.values()) {
      await retryWhileBusy(() => this.#running.admin.UnmountVolume({ volume_id }));
      await this.#running.controller.DeleteVolume({ volume_id });
    }
    if (this.#snapshotId === undefined) return;
    await this.#running.controller.DeleteSnapshot({ snapshot_id: this.#snapshotId });
  }

  /** Removes everything, whether or not the demo succeeded. Returns what the driver left behind, if it was running. */
  async cleanUp(): Promise<readonly string[]> {
    await this.#writer.stop();
    const { directory } = this.#scratch;
    let left: readonly string[] = [];
    if (this.#driver !== undefined) {
      await this.#removeVolumes().catch(() => undefined);
      await this.#driver.end('SIGTERM');
      left = await findLeftovers(directory);
    }
    await forceRemove(directory);
    return left;
  }
}

async function sizeOf(path: string): Promise<bigint> {
  const { blocks, bsize } = await statfs(path, { bigint: true });
  return blocks * bsize;
}

/**
 * Repeats a call that fails with ABORTED, as an orchestrator does. While a container starts, its mount namespace briefly contains a
 * copy of every mount.
 */
async function retryWhileBusy<T>(call: () => Promise<T>): Promise<T> {
  const isTransient = (error: unknown): boolean =>
    error instanceof Error && 'code' in error && error.code === status.ABORTED;
  return retry(call, { isTransient, timeoutMs: busyTimeoutMs, pauseMs: 100 });
}
