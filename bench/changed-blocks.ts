/** Measures what changed blocks save: the time in which a backup tool finds and reads them, beside that of the whole volume. */
import { randomBytes } from 'node:crypto';
import { type FileHandle, mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { GiB, MiB } from '../src/units.ts';
import { asMarkdown, elapsedMs, median } from './measure.ts';
import {
  asBlock,
  createVolume,
  fillRange,
  imageOf,
  type Rig,
  takeSnapshot,
  withRig,
} from './rig.ts';

const rounds = 5;
const bytes = 10n * GiB;
const medianOf = (values: readonly number[]): string => median(values).toFixed(1);

interface Range {
  readonly byte_offset: bigint;
  readonly size_bytes: bigint;
}

async function changedRanges(rig: Rig, base: string, target: string): Promise<readonly Range[]> {
  const ids = { base_snapshot_id: base, target_snapshot_id: target };
  const ranges: Range[] = [];
  for await (const message of rig.metadata.GetMetadataDelta(ids))
    ranges.push(...message.block_metadata);
  return ranges;
}

/** Overwrites runs of that length, evenly spread. */
async function change(image: string, runs: number, runBytes: number): Promise<void> {
  const file = await open(image, 'r+');
  try {
    const step = Math.floor(Number(bytes) / runs / 4096) * 4096;
    const data = randomBytes(runBytes);
    for (let i = 0; i < runs; i += 1) {
      data.writeUInt32LE(i);
      await file.write(data, 0, runBytes, i * step);
    }
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Measures GetMetadataDelta for a full 10 GiB image with 1,000 changed extents, and cmp of two images of that size. */
async function benchDelta(rig: Rig, source: string): Promise<string> {
  const image = imageOf(rig, 'volumes', source);
  const base = await takeSnapshot(rig, 'base', source);
  const same = await takeSnapshot(rig, 'same', source);
  await change(image, 1000, 4096);
  const target = await takeSnapshot(rig, 'target', source);
  const deltas: number[] = [];
  let ranges = 0;
  for (let round = 0; round < rounds; round += 1) {
    deltas.push(
      await elapsedMs(async () => {
        ranges = (await changedRanges(rig, base, target)).length;
      }),
    );
  }
  // cmp gets two equal snapshots, because it stops at the first difference, and cmp -l would write megabytes of text.
  const cmpMs = await elapsedMs(() =>
    execa('cmp', [imageOf(rig, 'snapshots', base), imageOf(rig, 'snapshots', same)]),
  );
  const row = [
    String(ranges),
    medianOf(deltas),
    cmpMs.toFixed(0),
    (cmpMs / median(deltas)).toFixed(0),
  ];
  return asMarkdown(['ranges', 'GetMetadataDelta, ms', 'cmp of the images, ms', 'speed-up'], [row]);
}

/** Restores the snapshot as a block volume, as backup tools do, and works with its device. */
async function withDevice<T>(
  rig: Rig,
  snapshotId: string,
  work: (path: string) => Promise<T>,
): Promise<T> {
  const volume_id = await createVolume(rig, 'read', { bytes, kind: 'block', snapshotId });
  const staging_target_path = join(rig.directory, 'staging');
  const target_path = join(rig.directory, 'device');
  await mkdir(staging_target_path, { recursive: true });
  const request = { volume_id, staging_target_path, volume_capability: asBlock };
  await rig.node.NodeStageVolume(request);
  await rig.node.NodePublishVolume({ ...request, target_path });
  try {
    return await work(target_path);
  } finally {
    await rig.node.NodeUnpublishVolume({ volume_id, target_path });
    await rig.node.NodeUnstageVolume({ volume_id, staging_target_path });
    await rig.controller.DeleteVolume({ volume_id });
  }
}

const pieceBytes = Number(MiB);

async function readRanges(file: FileHandle, ranges: readonly Range[]): Promise<void> {
  const buffer = Buffer.alloc(pieceBytes);
  for (const { byte_offset, size_bytes } of ranges) {
    for (let at = 0; at < Number(size_bytes); at += pieceBytes) {
      const length = Math.min(pieceBytes, Number(size_bytes) - at);
      const { bytesRead } = await file.read(buffer, 0, length, Number(byte_offset) + at);
      if (bytesRead !== length) throw new Error(`${bytesRead} of ${length} bytes were read`);
    }
  }
}

/** The time in which the ranges are read from the disk: the device passes the cache of the image by, and its own is empty. */
async function timeReading(device: string, ranges: readonly Range[]): Promise<number> {
  await execa('blockdev', ['--flushbufs', device]);
  const file = await open(device, 'r');
  try {
    return await elapsedMs(() => readRanges(file, ranges));
  } finally {
    await file.close();
  }
}

/** Measures the finding and reading of changes of about 1 %, alternating with the same number of bytes in one piece, and with all. */
async function benchIncremental(rig: Rig, source: string): Promise<string> {
  const rows: string[][] = [];
  for (const [runs, runBytes] of [
    [102, pieceBytes],
    [1638, 65_536],
    [26_214, 4096],
  ] as const) {
    const base = await takeSnapshot(rig, `base-${runs}`, source);
    await change(imageOf(rig, 'volumes', source), runs, runBytes);
    const target = await takeSnapshot(rig, `target-${runs}`, source);
    const times = {
      find: [] as number[],
      read: [] as number[],
      piece: [] as number[],
      all: [] as number[],
    };
    await withDevice(rig, target, async (device) => {
      for (let round = 0; round < rounds; round += 1) {
        let ranges: readonly Range[] = [];
        times.find.push(
          await elapsedMs(async () => {
            ranges = await changedRanges(rig, base, target);
          }),
        );
        const found = ranges.reduce((sum, { size_bytes }) => sum + size_bytes, 0n);
        if (found !== BigInt(runs * runBytes)) throw new Error(`${found} bytes have changed`);
        times.read.push(await timeReading(device, ranges));
        const piece = { byte_offset: 0n, size_bytes: found };
        times.piece.push(await timeReading(device, [piece]));
        times.all.push(await timeReading(device, [{ byte_offset: 0n, size_bytes: bytes }]));
      }
    });
    const both = times.find.map((ms, i) => ms + (times.read[i] ?? Number.NaN));
    const ratios = both.map((ms, i) => (times.all[i] ?? Number.NaN) / ms);
    rows.push([
      `${runs} × ${runBytes / 1024} KiB`,
      ...[times.find, times.read, times.piece, times.all].map(medianOf),
      median(ratios).toFixed(1),
    ]);
    await rig.controller.DeleteSnapshot({ snapshot_id: base });
    await rig.controller.DeleteSnapshot({ snapshot_id: target });
  }
  const head = [
    'changed',
    'found, ms',
    'read, ms',
    'as many bytes in one piece, ms',
    'all 10 GiB, ms',
    'all / (found + read)',
  ];
  return asMarkdown(head, rows);
}

export async function benchChangedBlocks(directory: string): Promise<string> {
  const xfs = { name: 'xfs', poolFs: 'xfs', poolFsBytes: 40n * GiB } as const;
  const parts = await withRig(directory, xfs, async (rig) => {
    const source = await createVolume(rig, 'source', { bytes, kind: 'block' });
    await fillRange(imageOf(rig, 'volumes', source), { from: 0n, bytes });
    return [
      'Changes of about 1 % of a full 10 GiB volume, found and read from a block volume of the snapshot:\n',
      await benchIncremental(rig, source),
      '\nComparison of two snapshots of a full 10 GiB image with 1,000 changed extents:\n',
      await benchDelta(rig, source),
    ];
  });
  return parts.join('\n');
}
