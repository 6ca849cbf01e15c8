import { randomBytes } from 'node:crypto';
import { mkdir, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { makeClient } from '../src/csi/client.ts';
import { GiB, MiB } from '../src/units.ts';
import { startDriver } from '../test/helpers/driver.ts';
import { makeGround, type PoolGround } from '../test/helpers/ground.ts';
import { asMarkdown, median } from './measure.ts';

const rounds = 7;
const access_mode = { mode: 'SINGLE_NODE_WRITER' } as const;
const asBlock = { access_mode, access_type: 'block', block: {} } as const;
const asMount = { access_mode, access_type: 'mount', mount: { fs_type: 'ext4' } } as const;

/** A driver with one pool on a ground of its own, and what the bench asks of it. */
interface Stage {
  readonly directory: string;
  readonly controller: ReturnType<typeof makeClient<'csi.v1.Controller'>>;
  readonly node: ReturnType<typeof makeClient<'csi.v1.Node'>>;
  readonly group: ReturnType<typeof makeClient<'csi.v1.GroupController'>>;
  readonly metadata: ReturnType<typeof makeClient<'csi.v1.SnapshotMetadata'>>;
  readonly admin: ReturnType<typeof makeClient<'loopcsi.v1.Admin'>>;
}

async function onStage<T>(
  parent: string,
  options: { name: string; ground: PoolGround; groundBytes: bigint; pool?: string },
  work: (stage: Stage) => Promise<T>,
): Promise<T> {
  const directory = join(parent, options.name);
  await mkdir(directory);
  await makeGround(directory, options);
  const flags = options.pool === undefined ? [] : [`--pool=${options.pool}`];
  const driver = await startDriver(directory, [
    '--log-level=warn',
    ...flags.map((flag) => flag.replace('DIR', join(directory, 'pool'))),
  ]);
  const address = `unix://${driver.endpoint}`;
  const stage = {
    directory,
    controller: makeClient('csi.v1.Controller', address),
    node: makeClient('csi.v1.Node', address),
    group: makeClient('csi.v1.GroupController', address),
    metadata: makeClient('csi.v1.SnapshotMetadata', address),
    admin: makeClient('loopcsi.v1.Admin', address),
  };
  try {
    return await work(stage);
  } finally {
    const { directory: _, ...clients } = stage;
    for (const client of Object.values(clients)) client.close();
    await driver.stop();
  }
}

async function makeVolume(
  { controller }: Stage,
  name: string,
  options: { bytes: bigint; kind: 'block' | 'mount'; snapshotId?: string },
): Promise<string> {
  const { bytes, kind, snapshotId } = options;
  const { volume } = await controller.CreateVolume({
    name,
    capacity_range: { required_bytes: bytes },
    volume_capabilities: [kind === 'block' ? asBlock : asMount],
    ...(snapshotId === undefined
      ? {}
      : { volume_content_source: { type: 'snapshot', snapshot: { snapshot_id: snapshotId } } }),
  });
  return volume?.volume_id ?? '';
}

/** Takes a snapshot and waits until it is ready to use. */
async function snapshot({ controller, admin }: Stage, name: string, volumeId: string) {
  const { snapshot: made } = await controller.CreateSnapshot({
    name,
    source_volume_id: volumeId,
  });
  const snapshot_id = made?.snapshot_id ?? '';
  if (made?.ready_to_use === false) {
    for await (const { ready } of admin.WatchSnapshot({ snapshot_id })) if (ready) break;
  }
  return snapshot_id;
}

function imageOf({ directory }: Stage, area: string, id: string): string {
  return join(directory, 'pool', area, id, 'disk.img');
}

/** Fills a file with data from `from` on, past the page cache's reach: synced, then as warm as the next reader makes it. */
async function fill(path: string, range: { from: bigint; bytes: bigint }): Promise<void> {
  const block = randomBytes(Number(8n * MiB));
  const file = await open(path, 'r+');
  try {
    for (let at = 0n; at < range.bytes; at += 8n * MiB) {
      block.writeBigUInt64LE(at, 0);
      await file.write(block, 0, block.length, Number(range.from + at));
    }
    await file.sync();
  } finally {
    await file.close();
  }
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const from = performance.now();
  await work();
  return performance.now() - from;
}

/** cp with fsync of the new file and of its directory, as one shell command. */
async function copyByHand(how: string, from: string, to: string): Promise<number> {
  const directory = join(to, '..');
  await mkdir(directory, { recursive: true });
  const ms = await timed(() =>
    execa('sh', ['-c', `cp ${how} "$0" "$1" && sync "$1" "$2"`, from, to, directory]),
  );
  await rm(to);
  return ms;
}

const ms = (values: readonly number[]): string => median(values).toFixed(1);

/** Snapshot and restore of 1 GiB of data, each round beside cp. */
async function benchCopies(stage: Stage, how: string): Promise<string[][]> {
  const rows: string[][] = [];
  for (const kind of ['block', 'mount'] as const) {
    const source = await makeVolume(stage, `source-${kind}`, { bytes: 2n * GiB, kind });
    const image = imageOf(stage, 'volumes', source);
    // Behind everything that a fresh ext4 of this size holds, so that it stays sound.
    await fill(image, { from: GiB + 128n * MiB, bytes: GiB - 256n * MiB });
    await fill(image, { from: 640n * MiB, bytes: 256n * MiB });
    const byHand: number[] = [];
    const taken: number[] = [];
    const restored: number[] = [];
    for (let round = 0; round < rounds; round += 1) {
      byHand.push(await copyByHand(how, image, join(stage.directory, 'pool', 'bench', 'copy')));
      const name = `${kind}-${round}`;
      let snapshotId = '';
      taken.push(
        await timed(async () => {
          snapshotId = await snapshot(stage, name, source);
        }),
      );
      let volume_id = '';
      restored.push(
        await timed(async () => {
          volume_id = await makeVolume(stage, name, { bytes: 2n * GiB, kind, snapshotId });
        }),
      );
      await stage.controller.DeleteVolume({ volume_id });
      await stage.controller.DeleteSnapshot({ snapshot_id: snapshotId });
    }
    const ratio = (values: readonly number[]): string =>
      median(values.map((value, i) => value / (byHand[i] ?? Number.NaN))).toFixed(2);
    rows.push([kind, 'CreateSnapshot', ms(taken), ms(byHand), ratio(taken)]);
    rows.push([kind, 'CreateVolume from it', ms(restored), ms(byHand), ratio(restored)]);
    await stage.controller.DeleteVolume({ volume_id: source });
  }
  return rows;
}

/** The delta of two snapshots of a 10 GiB image full of data with 1,000 changed extents, beside a comparison by reading. */
async function benchDelta(stage: Stage): Promise<string> {
  const bytes = 10n * GiB;
  const source = await makeVolume(stage, 'delta', { bytes, kind: 'block' });
  const image = imageOf(stage, 'volumes', source);
  await fill(image, { from: 0n, bytes });
  const base = await snapshot(stage, 'base', source);
  const same = await snapshot(stage, 'same', source);
  const file = await open(image, 'r+');
  const step = Number(bytes / 1000n / 4096n) * 4096;
  for (let i = 0; i < 1000; i += 1) await file.write(randomBytes(4096), 0, 4096, i * step);
  await file.sync();
  await file.close();
  const target = await snapshot(stage, 'target', source);
  const deltas: number[] = [];
  let ranges = 0;
  for (let round = 0; round < rounds; round += 1) {
    ranges = 0;
    deltas.push(
      await timed(async () => {
        const ids = { base_snapshot_id: base, target_snapshot_id: target };
        for await (const message of stage.metadata.GetMetadataDelta(ids)) {
          ranges += message.block_metadata.length;
        }
      }),
    );
  }
  // Equal ones: cmp ends at the first difference, and with -l it writes megabytes of text.
  const compared = await timed(() =>
    execa('cmp', [imageOf(stage, 'snapshots', base), imageOf(stage, 'snapshots', same)]),
  );
  const row = [
    String(ranges),
    ms(deltas),
    compared.toFixed(0),
    (compared / median(deltas)).toFixed(0),
  ];
  return asMarkdown(
    ['ranges', 'GetMetadataDelta, ms', 'cmp of the whole, ms', 'times faster'],
    [row],
  );
}

async function mounted(stage: Stage, name: string, bytes: bigint): Promise<string> {
  const volume_id = await makeVolume(stage, name, { bytes, kind: 'mount' });
  const staging_target_path = join(stage.directory, `staging-${name}`);
  const target_path = join(stage.directory, `target-${name}`);
  await mkdir(staging_target_path);
  const at = { volume_id, staging_target_path, volume_capability: asMount };
  await stage.node.NodeStageVolume(at);
  await stage.node.NodePublishVolume({ ...at, target_path });
  return volume_id;
}

async function unmounted(stage: Stage, name: string, volume_id: string): Promise<void> {
  const staging_target_path = join(stage.directory, `staging-${name}`);
  const target_path = join(stage.directory, `target-${name}`);
  await stage.node.NodeUnpublishVolume({ volume_id, target_path });
  await stage.node.NodeUnstageVolume({ volume_id, staging_target_path });
}

/** How long writers stand still: one volume and four together, each with a writer. */
async function benchFreeze(stage: Stage): Promise<string> {
  const names = ['a', 'b', 'c', 'd'];
  const ids = await Promise.all(names.map((name) => mounted(stage, name, GiB)));
  const stop = new AbortController();
  const writers = names.map((name) =>
    writeOn(join(stage.directory, `target-${name}`, 'file'), stop.signal),
  );
  const alone: number[] = [];
  const together: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    const snapshot_id = await snapshot(stage, `alone-${round}`, ids[0] ?? '');
    const { snapshot: one } = await stage.admin.GetSnapshot({ snapshot_id });
    alone.push(Number(one?.frozen_ms ?? 0n));
    const { group_snapshot: made } = await stage.group.CreateVolumeGroupSnapshot({
      name: `group-${round}`,
      source_volume_ids: ids,
    });
    const [member] = made?.snapshots ?? [];
    const asked = { snapshot_id: member?.snapshot_id ?? '' };
    const { snapshot: first } = await stage.admin.GetSnapshot(asked);
    together.push(Number(first?.frozen_ms ?? 0n));
  }
  stop.abort();
  await Promise.all(writers);
  await Promise.all(names.map((name, i) => unmounted(stage, name, ids[i] ?? '')));
  const row = (what: string, values: readonly number[]): string[] => [
    what,
    median(values).toFixed(0),
    Math.max(...values).toFixed(0),
  ];
  const rows = [row('one ext4 volume', alone), row('four together', together)];
  return asMarkdown(['stood still', 'median, ms', 'longest, ms'], rows);
}

async function writeOn(path: string, stop: AbortSignal): Promise<void> {
  const file = await open(path, 'w');
  const page = randomBytes(4096);
  for (let i = 0; !stop.aborted; i = (i + 1) % 4096) await file.write(page, 0, 4096, i * 4096);
  await file.close();
}

/** What a volume loses when its pool lies in an image of its own. */
async function writeSpeeds(stage: Stage): Promise<readonly [string, string]> {
  const id = await mounted(stage, 'speed', 2n * GiB);
  const target = join(stage.directory, 'target-speed');
  const sequential: number[] = [];
  const synced: number[] = [];
  for (let round = 0; round < 3; round += 1) {
    const dd = ['if=/dev/zero', `of=${target}/big`, 'bs=1M', 'count=512', 'conv=fsync'];
    sequential.push(512 / ((await timed(() => execa('dd', dd))) / 1000));
    const file = await open(join(target, 'small'), 'w');
    const page = randomBytes(4096);
    for (let i = 0; i < 200; i += 1) {
      synced.push(
        await timed(async () => {
          await file.write(page, 0, 4096, i * 4096);
          await file.sync();
        }),
      );
    }
    await file.close();
  }
  await unmounted(stage, 'speed', id);
  return [median(sequential).toFixed(0), median(synced).toFixed(2)];
}

async function benchEmbedded(directory: string): Promise<string> {
  const plain = { name: 'plain', ground: 'ext4', groundBytes: 8n * GiB } as const;
  const embedded = {
    ...plain,
    name: 'embedded',
    pool: 'default=DIR,create,reflink=6Gi,overcommit=2',
  };
  const rows = [
    ['ext4 directory', ...(await onStage(directory, plain, writeSpeeds))],
    ['embedded pool in it', ...(await onStage(directory, embedded, writeSpeeds))],
  ];
  return asMarkdown(
    ['pool', 'sequential write with fsync, MiB/s', '4 KiB write and fsync, ms'],
    rows,
  );
}

/** Snapshots, restores, deltas, freezes and the embedded pool, each beside what can be had without the driver. */
export async function benchSnapshots(directory: string): Promise<string> {
  const head = ['volume', 'call', 'driver, ms', 'cp, ms', 'ratio'];
  const xfs = { name: 'xfs', ground: 'xfs', groundBytes: 40n * GiB } as const;
  const onXfs = await onStage(directory, xfs, async (stage) => [
    'On XFS, beside `cp --reflink=always` with fsync of file and directory:\n',
    asMarkdown(head, await benchCopies(stage, '--reflink=always')),
    '\nWriters stand still, with one writer a volume:\n',
    await benchFreeze(stage),
    '\nTwo snapshots of a 10 GiB image full of data with 1,000 changed extents:\n',
    await benchDelta(stage),
  ]);
  const ext4 = { name: 'ext4', ground: 'ext4', groundBytes: 16n * GiB } as const;
  const onExt4 = await onStage(directory, ext4, async (stage) => [
    '\nOn ext4, beside `cp --sparse=always` with fsync of file and directory:\n',
    asMarkdown(head, await benchCopies(stage, '--sparse=always')),
  ]);
  const cost = `\nWrites to an ext4 volume:\n\n${await benchEmbedded(directory)}`;
  return [...onXfs, ...onExt4, cost].join('\n');
}
