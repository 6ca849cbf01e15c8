import { createHash } from 'node:crypto';
import { open, readFile } from 'node:fs/promises';
import type { FsType } from '../../src/host/host.ts';
import { MiB } from '../../src/units.ts';
import type {
  BlockRange,
  BlockRanges,
  CreateSnapshotInput,
  CreateVolumeInput,
  Snapshot,
  VolumeSource,
} from '../../src/volumes/model.ts';
import { call, mountVolume, type ScratchNode, volumeInput } from './scratch-node.ts';
import type { PoolFs } from './scratch-pool.ts';

/** Pool filesystems on which snapshots differ: ext4 copies, xfs shares blocks, btrfs also has its own address space. */
export const snapshotPoolFs = ['ext4', 'xfs', 'btrfs'] as const satisfies readonly PoolFs[];

/** Sizes of small volumes, above each filesystem's minimum. */
export const smallBytes = { ext4: 64n * MiB, xfs: 320n * MiB, btrfs: 256n * MiB } as const;

export function snapshotInput(
  name: string,
  sourceVolumeId: string,
  options: Partial<CreateSnapshotInput> = {},
): CreateSnapshotInput {
  return { name, sourceVolumeId, settings: { freeze: false }, parameters: {}, ...options };
}

export async function takeSnapshot(
  node: ScratchNode,
  name: string,
  volumeId: string,
  options: Partial<CreateSnapshotInput> = {},
): Promise<Snapshot> {
  return node.volumes.createSnapshot(call(), snapshotInput(name, volumeId, options));
}

/** Creates a volume and returns its id. */
export async function makeVolume(
  node: ScratchNode,
  name: string,
  options: Partial<CreateVolumeInput> & { sizeBytes?: bigint } = {},
): Promise<string> {
  const { record } = await node.volumes.createVolume(call(), volumeInput(name, options));
  return record.id;
}

/** Creates, stages and publishes a filesystem volume. */
export async function makeMounted(node: ScratchNode, name: string, fsType: FsType) {
  const id = await makeVolume(node, name, { fsType, sizeBytes: smallBytes[fsType] });
  return { id, paths: await mountVolume(node, id) };
}

export async function restore(
  node: ScratchNode,
  name: string,
  source: VolumeSource,
  options: Partial<CreateVolumeInput> & { sizeBytes?: bigint } = {},
): Promise<string> {
  return makeVolume(node, name, { isFsTypeUnset: true, source, ...options });
}

/** Writes a file; without `sync` its bytes may be in the page cache only. */
export async function writeText(path: string, text: string, sync = false): Promise<void> {
  const file = await open(path, 'w');
  try {
    await file.writeFile(text);
    if (sync) await file.sync();
  } finally {
    await file.close();
  }
}

/** The hash of the first bytes, by default of all. */
export async function hashOf(path: string, bytes?: number): Promise<string> {
  return createHash('sha256')
    .update((await readFile(path)).subarray(0, bytes))
    .digest('hex');
}

/** Collects all ranges of a stream. Throws if they do not ascend or if they overlap. */
export async function collect(ranges: BlockRanges): Promise<readonly BlockRange[]> {
  const all: BlockRange[] = [];
  for await (const batch of ranges.batches) {
    for (const range of batch) {
      const before = all.at(-1);
      if (before !== undefined && range.offset <= before.offset + before.length) {
        throw new Error(`${range.offset} does not come after ${before.offset}+${before.length}`);
      }
      all.push(range);
    }
  }
  return all;
}

export function imageOf(node: ScratchNode, area: 'volumes' | 'snapshots', id: string): string {
  return `${node.poolPath}/${area}/${id}/disk.img`;
}
