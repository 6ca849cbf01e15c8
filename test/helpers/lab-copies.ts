/** Copies between the nodes of a lab. */
import { createHash, randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import type { Client } from '../../src/csi/client.ts';
import { nodeTagOf, volumeIdFor } from '../../src/ids.ts';
import { MiB } from '../../src/units.ts';
import { codeOf } from './csi-server.ts';
import { clientAt, type Lab, type LabNode, onlyOn, untilAllReady } from './lab.ts';
import { scaledMs } from './slowness.ts';
import { until } from './until.ts';

export type Controller = Client<'csi.v1.Controller'>;

export const limit = () => ({ timeoutMs: scaledMs(60_000) });

export const access_mode = { mode: 'SINGLE_NODE_WRITER' as const };
export const block = { access_mode, access_type: 'block' as const, block: {} };
export const xfs = { access_mode, access_type: 'mount' as const, mount: { fs_type: 'xfs' } };

export function requestFor(name: string, capability: typeof block | typeof xfs, bytes: bigint) {
  return { name, volume_capabilities: [capability], capacity_range: { required_bytes: bytes } };
}

export function from(snapshot_id: string) {
  return { volume_content_source: { type: 'snapshot', snapshot: { snapshot_id } } as const };
}

export function imageOf({ directory }: LabNode, area: 'volumes' | 'snapshots', id: string): string {
  return join(directory, 'pool', area, id, 'disk.img');
}

export async function hashOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

/** Writes random bytes at these offsets, in MiB. Nothing uses the volume. */
export async function fill(image: string, offsets: readonly number[], count = 1): Promise<void> {
  const file = await open(image, 'r+');
  try {
    for (const offset of offsets) {
      const bytes = randomBytes(count * 1024 * 1024);
      await file.write(bytes, 0, bytes.length, offset * 1024 * 1024);
    }
    await file.sync();
  } finally {
    await file.close();
  }
}

/** The first two nodes of a lab that is ready, and an empty volume on the first one. */
export async function withSource(
  t: ExecutionContext,
  lab: Lab,
  { capability, bytes }: { capability: typeof block | typeof xfs; bytes: bigint },
) {
  const [one, two] = lab.nodes;
  if (one === undefined || two === undefined) throw new Error('no lab');
  const controller = clientAt(t, 'csi.v1.Controller', lab.endpoint);
  await untilAllReady(controller);
  await controller.CreateVolume({ ...requestFor('source', capability, bytes), ...onlyOn(one) });
  return { controller, one, two, source: volumeIdFor('source', nodeTagOf(one.id)) };
}

export async function snapshotOf(controller: Controller, name: string, source_volume_id: string) {
  const { snapshot } = await controller.CreateSnapshot({ name, source_volume_id }, limit());
  const snapshot_id = snapshot?.snapshot_id ?? '';
  await until(
    'the snapshot is ready',
    async () => (await controller.GetSnapshot({ snapshot_id })).snapshot?.ready_to_use ?? false,
  );
  return snapshot_id;
}

export async function leftIn({ directory }: LabNode): Promise<readonly string[]> {
  return readdir(join(directory, 'pool', 'tmp'));
}

/** Slow enough to be interrupted. */
export const slow = ['--transfer-rate=24Mi'];
const slowBytes = 320n * MiB;

/** The first node has a snapshot with much data; a restore of it on the second is under way, and some of it is on the disk. */
export async function midway(t: ExecutionContext, lab: Lab) {
  const given = { capability: block, bytes: slowBytes };
  const { controller, one, two, source } = await withSource(t, lab, given);
  await fill(imageOf(one, 'volumes', source), [0, 80, 160], 60);
  const snapshot_id = await snapshotOf(controller, 'snap', source);
  const request = { ...requestFor('copy', block, slowBytes), ...onlyOn(two), ...from(snapshot_id) };
  const begun = codeOf(controller.CreateVolume(request, limit()));
  await until('a part of the copy is kept', async () => {
    const [entry] = await leftIn(two);
    if (entry === undefined) return false;
    return (await readdir(join(two.directory, 'pool', 'tmp', entry))).includes('restore.json');
  });
  const finish = async (): Promise<void> => {
    await begun;
    const again = async (): Promise<string> => codeOf(controller.CreateVolume(request, limit()));
    await until('the repeated call succeeds', async () => (await again()) === 'OK', 120_000);
    const copy = imageOf(two, 'volumes', volumeIdFor('copy', nodeTagOf(two.id)));
    t.is(await hashOf(copy), await hashOf(imageOf(one, 'snapshots', snapshot_id)));
    t.deepEqual(await leftIn(two), []);
    t.deepEqual(await leftIn(one), []);
    await controller.DeleteSnapshot({ snapshot_id }, limit());
  };
  return { controller, one, two, snapshotId: snapshot_id, request, begun, finish };
}

/** The driver says that it has kept a copy, and how much of it. */
export async function isResumed({ directory }: LabNode): Promise<boolean> {
  const log = await readFile(join(directory, 'driver.log'), 'utf8');
  return /"doneBytes":"?\d{8}.*an interrupted copy was kept/.test(log);
}
