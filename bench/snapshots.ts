import { randomBytes } from 'node:crypto';
import { mkdir, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { GiB, MiB } from '../src/units.ts';
import { asMarkdown, elapsedMs, median } from './measure.ts';
import {
  asMount,
  createVolume,
  fillRange,
  imageOf,
  type Rig,
  takeSnapshot,
  withRig,
} from './rig.ts';

const rounds = 7;

/** Measures the duration of cp, with an fsync of the new file and of its directory. */
async function timeCp(flag: string, from: string, to: string): Promise<number> {
  const directory = join(to, '..');
  await mkdir(directory, { recursive: true });
  const cpMs = await elapsedMs(() =>
    execa('sh', ['-c', `cp ${flag} "$0" "$1" && sync "$1" "$2"`, from, to, directory]),
  );
  await rm(to);
  return cpMs;
}

const medianOf = (values: readonly number[]): string => median(values).toFixed(1);

/** Measures snapshots and restores of 1 GiB of data, alternating with cp. */
async function benchCopies(rig: Rig, cpFlag: string): Promise<string[][]> {
  const rows: string[][] = [];
  for (const kind of ['block', 'mount'] as const) {
    const source = await createVolume(rig, `source-${kind}`, { bytes: 2n * GiB, kind });
    const image = imageOf(rig, 'volumes', source);
    // A new ext4 of this size has no metadata in these ranges, so overwriting them keeps it consistent.
    await fillRange(image, { from: GiB + 128n * MiB, bytes: GiB - 256n * MiB });
    await fillRange(image, { from: 640n * MiB, bytes: 256n * MiB });
    const cpTimes: number[] = [];
    const snapshotTimes: number[] = [];
    const restoreTimes: number[] = [];
    for (let round = 0; round < rounds; round += 1) {
      cpTimes.push(await timeCp(cpFlag, image, join(rig.directory, 'pool', 'bench', 'copy')));
      const name = `${kind}-${round}`;
      let snapshotId = '';
      snapshotTimes.push(
        await elapsedMs(async () => {
          snapshotId = await takeSnapshot(rig, name, source);
        }),
      );
      let volume_id = '';
      restoreTimes.push(
        await elapsedMs(async () => {
          volume_id = await createVolume(rig, name, { bytes: 2n * GiB, kind, snapshotId });
        }),
      );
      await rig.controller.DeleteVolume({ volume_id });
      await rig.controller.DeleteSnapshot({ snapshot_id: snapshotId });
    }
    const ratio = (values: readonly number[]): string =>
      median(values.map((value, i) => value / (cpTimes[i] ?? Number.NaN))).toFixed(2);
    const row = (call: string, times: readonly number[]): string[] => {
      return [kind, call, medianOf(times), medianOf(cpTimes), ratio(times)];
    };
    rows.push(row('CreateSnapshot', snapshotTimes), row('CreateVolume from it', restoreTimes));
    await rig.controller.DeleteVolume({ volume_id: source });
  }
  return rows;
}

/** Creates and mounts an ext4 volume. */
async function mountVolume(rig: Rig, name: string, bytes: bigint): Promise<string> {
  const volume_id = await createVolume(rig, name, { bytes, kind: 'mount' });
  const staging_target_path = join(rig.directory, `staging-${name}`);
  const target_path = join(rig.directory, `target-${name}`);
  await mkdir(staging_target_path);
  const staging = { volume_id, staging_target_path, volume_capability: asMount };
  await rig.node.NodeStageVolume(staging);
  await rig.node.NodePublishVolume({ ...staging, target_path });
  return volume_id;
}

async function unmountVolume(rig: Rig, name: string, volume_id: string): Promise<void> {
  const staging_target_path = join(rig.directory, `staging-${name}`);
  const target_path = join(rig.directory, `target-${name}`);
  await rig.node.NodeUnpublishVolume({ volume_id, target_path });
  await rig.node.NodeUnstageVolume({ volume_id, staging_target_path });
}

/** Measures how long one volume, and a group of four volumes, are frozen while a writer writes to each volume. */
async function benchFreeze(rig: Rig): Promise<string> {
  const names = ['a', 'b', 'c', 'd'];
  const ids = await Promise.all(names.map((name) => mountVolume(rig, name, GiB)));
  const stop = new AbortController();
  const writers = names.map((name) =>
    writeUntil(join(rig.directory, `target-${name}`, 'file'), stop.signal),
  );
  const alone: number[] = [];
  const together: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    const snapshot_id = await takeSnapshot(rig, `alone-${round}`, ids[0] ?? '');
    const { snapshot: one } = await rig.admin.GetSnapshot({ snapshot_id });
    alone.push(Number(one?.frozen_ms ?? 0n));
    const { group_snapshot: group } = await rig.group.CreateVolumeGroupSnapshot({
      name: `group-${round}`,
      source_volume_ids: ids,
    });
    const [member] = group?.snapshots ?? [];
    const request = { snapshot_id: member?.snapshot_id ?? '' };
    const { snapshot: first } = await rig.admin.GetSnapshot(request);
    together.push(Number(first?.frozen_ms ?? 0n));
  }
  stop.abort();
  await Promise.all(writers);
  await Promise.all(names.map((name, i) => unmountVolume(rig, name, ids[i] ?? '')));
  const row = (name: string, values: readonly number[]): string[] => [
    name,
    median(values).toFixed(0),
    Math.max(...values).toFixed(0),
  ];
  const rows = [row('one ext4 volume', alone), row('group of four', together)];
  return asMarkdown(['frozen volumes', 'median, ms', 'maximum, ms'], rows);
}

async function writeUntil(path: string, stop: AbortSignal): Promise<void> {
  const file = await open(path, 'w');
  const page = randomBytes(4096);
  for (let i = 0; !stop.aborted; i = (i + 1) % 4096) await file.write(page, 0, 4096, i * 4096);
  await file.close();
}

/** Measures sequential writes in MiB/s, and synced 4 KiB writes in milliseconds. */
async function measureWrites(rig: Rig): Promise<readonly [string, string]> {
  const id = await mountVolume(rig, 'speed', 2n * GiB);
  const target = join(rig.directory, 'target-speed');
  const sequential: number[] = [];
  const synced: number[] = [];
  for (let round = 0; round < 3; round += 1) {
    const dd = ['if=/dev/zero', `of=${target}/big`, 'bs=1M', 'count=512', 'conv=fsync'];
    sequential.push(512 / ((await elapsedMs(() => execa('dd', dd))) / 1000));
    const file = await open(join(target, 'small'), 'w');
    const page = randomBytes(4096);
    for (let i = 0; i < 200; i += 1) {
      synced.push(
        await elapsedMs(async () => {
          await file.write(page, 0, 4096, i * 4096);
          await file.sync();
        }),
      );
    }
    await file.close();
  }
  await unmountVolume(rig, 'speed', id);
  return [median(sequential).toFixed(0), median(synced).toFixed(2)];
}

async function benchEmbedded(directory: string): Promise<string> {
  const plain = { name: 'plain', poolFs: 'ext4', poolFsBytes: 8n * GiB } as const;
  const embedded = {
    ...plain,
    name: 'embedded',
    pool: 'default=DIR,create,reflink=6Gi,overcommit=2',
  };
  const rows = [
    ['ext4 directory', ...(await withRig(directory, plain, measureWrites))],
    ['embedded pool in an ext4 directory', ...(await withRig(directory, embedded, measureWrites))],
  ];
  return asMarkdown(
    ['pool', 'sequential write with fsync, MiB/s', '4 KiB write with fsync, ms'],
    rows,
  );
}

/** Measures snapshots, restores, freezes and an embedded pool, and compares them with the same work without the driver. */
export async function benchSnapshots(directory: string): Promise<string> {
  const head = ['volume', 'call', 'driver, ms', 'cp, ms', 'ratio'];
  const xfs = { name: 'xfs', poolFs: 'xfs', poolFsBytes: 40n * GiB } as const;
  const onXfs = await withRig(directory, xfs, async (rig) => [
    'On XFS, compared with `cp --reflink=always` and an fsync of the file and its directory:\n',
    asMarkdown(head, await benchCopies(rig, '--reflink=always')),
    '\nDuration of the freeze, with a writer on each volume:\n',
    await benchFreeze(rig),
  ]);
  const ext4 = { name: 'ext4', poolFs: 'ext4', poolFsBytes: 16n * GiB } as const;
  const onExt4 = await withRig(directory, ext4, async (rig) => [
    '\nOn ext4, compared with `cp --sparse=always` and an fsync of the file and its directory:\n',
    asMarkdown(head, await benchCopies(rig, '--sparse=always')),
  ]);
  const cost = `\nWrites to an ext4 volume:\n\n${await benchEmbedded(directory)}`;
  return [...onXfs, ...onExt4, cost].join('\n');
}
