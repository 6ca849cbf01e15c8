/** Looks up volumes and snapshots, which users can specify by id, by name, or by claim or VolumeSnapshot (`namespace/name`). */
import type { Snapshot, Volume } from '../csi/admin-types.ts';
import type { Progress } from './progress.ts';
import type { Session } from './session.ts';

/** Small pages keep each response fast, even with thousands of volumes. */
const pageSize = 200;

/** Returns a field that the driver always sets, although protobuf makes it optional. */
export function requireField<T>(value: T | null, name: string): T {
  if (value === null) throw new Error(`the driver's answer contains no ${name}`);
  return value;
}

/** Throws a gRPC error NOT_FOUND if there is no such volume, INVALID_ARGUMENT if a claim has several. */
export async function getVolume(session: Session, name: string): Promise<Volume> {
  const { admin } = await session.driver();
  const { volume } = await admin.GetVolume({ volume_id: name });
  return requireField(volume, 'volume');
}

/** Throws a gRPC error NOT_FOUND if there is no such snapshot. */
export async function getSnapshot(session: Session, idOrName: string): Promise<Snapshot> {
  const { admin } = await session.driver();
  const { snapshot } = await admin.GetSnapshot({ snapshot_id: idOrName });
  return requireField(snapshot, 'snapshot');
}

/** Lists the volumes of one pool, or of all pools if `pool` is ''. `withFilesystem` also asks for the usage of filesystems. */
export async function listAllVolumes(
  session: Session,
  { pool = '', withFilesystem = false } = {},
): Promise<readonly Volume[]> {
  const { admin } = await session.driver();
  return collectPages(async (page) => {
    const request = { ...page, pool, with_filesystem: withFilesystem };
    const { volumes, next_token } = await admin.ListVolumes(request);
    return { entries: volumes, next_token };
  });
}

/** Lists the snapshots of one volume in one pool; '' means any volume or pool. */
export async function listAllSnapshots(
  session: Session,
  filter: { readonly sourceVolumeId: string; readonly pool: string },
): Promise<readonly Snapshot[]> {
  const { admin } = await session.driver();
  const { sourceVolumeId: source_volume_id, pool } = filter;
  return collectPages(async (page) => {
    const { snapshots, next_token } = await admin.ListSnapshots({
      ...page,
      source_volume_id,
      pool,
    });
    return { entries: snapshots, next_token };
  });
}

export interface PageRequest {
  readonly max_entries: number;
  readonly starting_token: string;
}

/** Loads all pages of a list. */
export async function collectPages<T>(
  load: (request: PageRequest) => Promise<{ entries: readonly T[]; next_token: string }>,
): Promise<readonly T[]> {
  const all: T[] = [];
  let starting_token = '';
  do {
    const page = await load({ max_entries: pageSize, starting_token });
    all.push(...page.entries);
    starting_token = page.next_token;
  } while (starting_token !== '');
  return all;
}

/** Returns the progress of the data copy for a volume or snapshot that is being created; undefined if no copy is running. */
export async function findCopyProgress(
  session: Session,
  target: { readonly volume_name: string } | { readonly snapshot_name: string },
): Promise<Progress | undefined> {
  const { admin } = await session.driver();
  const { done_bytes, total_bytes } = await admin.GetProgress(target);
  return total_bytes > 0n ? { doneBytes: done_bytes, totalBytes: total_bytes } : undefined;
}
