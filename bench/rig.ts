/** A driver with one pool, for the sections that measure its snapshots. */
import { randomBytes } from 'node:crypto';
import { mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import { makeClient } from '../src/csi/client.ts';
import { MiB } from '../src/units.ts';
import { startDriver } from '../test/helpers/driver.ts';
import { makePoolFs, type PoolFs } from '../test/helpers/scratch-pool.ts';

const access_mode = { mode: 'SINGLE_NODE_WRITER' } as const;
export const asBlock = { access_mode, access_type: 'block', block: {} } as const;
export const asMount = { access_mode, access_type: 'mount', mount: { fs_type: 'ext4' } } as const;

/** A running driver with one pool on its own filesystem. */
export interface Rig {
  readonly directory: string;
  readonly controller: ReturnType<typeof makeClient<'csi.v1.Controller'>>;
  readonly node: ReturnType<typeof makeClient<'csi.v1.Node'>>;
  readonly group: ReturnType<typeof makeClient<'csi.v1.GroupController'>>;
  readonly metadata: ReturnType<typeof makeClient<'csi.v1.SnapshotMetadata'>>;
  readonly admin: ReturnType<typeof makeClient<'loopcsi.v1.Admin'>>;
}

export async function withRig<T>(
  parent: string,
  options: { name: string; poolFs: PoolFs; poolFsBytes: bigint; pool?: string },
  work: (rig: Rig) => Promise<T>,
): Promise<T> {
  const directory = join(parent, options.name);
  await mkdir(directory);
  await makePoolFs(directory, options);
  const flags = options.pool === undefined ? [] : [`--pool=${options.pool}`];
  const driver = await startDriver(directory, [
    '--log-level=warn',
    ...flags.map((flag) => flag.replace('DIR', join(directory, 'pool'))),
  ]);
  const address = `unix://${driver.endpoint}`;
  const rig = {
    directory,
    controller: makeClient('csi.v1.Controller', address),
    node: makeClient('csi.v1.Node', address),
    group: makeClient('csi.v1.GroupController', address),
    metadata: makeClient('csi.v1.SnapshotMetadata', address),
    admin: makeClient('loopcsi.v1.Admin', address),
  };
  try {
    return await work(rig);
  } finally {
    const { directory: _, ...clients } = rig;
    for (const client of Object.values(clients)) client.close();
    await driver.stop();
  }
}

/** Returns the id. */
export async function createVolume(
  { controller }: Rig,
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

/** Waits until the snapshot is ready to use. */
export async function takeSnapshot({ controller, admin }: Rig, name: string, volumeId: string) {
  const { snapshot: created } = await controller.CreateSnapshot({
    name,
    source_volume_id: volumeId,
  });
  const snapshot_id = created?.snapshot_id ?? '';
  if (created?.ready_to_use === false) {
    for await (const { ready } of admin.WatchSnapshot({ snapshot_id })) if (ready) break;
  }
  return snapshot_id;
}

export function imageOf({ directory }: Rig, area: string, id: string): string {
  return join(directory, 'pool', area, id, 'disk.img');
}

/** Fills a range of a file with distinct blocks, and syncs the file. */
export async function fillRange(
  path: string,
  range: { from: bigint; bytes: bigint },
): Promise<void> {
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
