/** Volumes and snapshots by what a person types: an id or a name. */
import type { Snapshot, Volume } from '../csi/admin-types.ts';
import type { Progress } from './progress.ts';
import type { Session } from './session.ts';

/** Entries of one page: small enough that a driver with very many answers the first ones soon. */
const pageSize = 200;

/** Fails with NOT_FOUND. */
export async function findVolume(session: Session, idOrName: string): Promise<Volume> {
  const { admin } = await session.driver();
  const { volume } = await admin.GetVolume({ volume_id: idOrName });
  if (volume === null) throw new Error('the driver answered no volume');
  return volume;
}

/** Fails with NOT_FOUND. */
export async function findSnapshot(session: Session, idOrName: string): Promise<Snapshot> {
  const { admin } = await session.driver();
  const { snapshot } = await admin.GetSnapshot({ snapshot_id: idOrName });
  if (snapshot === null) throw new Error('the driver answered no snapshot');
  return snapshot;
}

/** Every volume, page by page. */
export async function allVolumes(session: Session, pool: string): Promise<readonly Volume[]> {
  const { admin } = await session.driver();
  const volumes: Volume[] = [];
  let token = '';
  do {
    const page = await admin.ListVolumes({ max_entries: pageSize, starting_token: token, pool });
    volumes.push(...page.volumes);
    token = page.next_token;
  } while (token !== '');
  return volumes;
}

/** Every snapshot of one volume (its id) or, for '', of all. */
export async function allSnapshots(
  session: Session,
  filter: { readonly sourceVolumeId: string; readonly pool: string },
): Promise<readonly Snapshot[]> {
  const { admin } = await session.driver();
  const snapshots: Snapshot[] = [];
  let token = '';
  do {
    const page = await admin.ListSnapshots({
      max_entries: pageSize,
      starting_token: token,
      source_volume_id: filter.sourceVolumeId,
      pool: filter.pool,
    });
    snapshots.push(...page.snapshots);
    token = page.next_token;
  } while (token !== '');
  return snapshots;
}

/** How far the copy for something is that is being made; undefined when the driver copies nothing for it. */
export async function lookAtCopy(
  session: Session,
  made: { readonly volume_name: string } | { readonly snapshot_name: string },
): Promise<Progress | undefined> {
  const { admin } = await session.driver();
  const { done_bytes, total_bytes } = await admin.GetProgress(made);
  return total_bytes > 0n ? { doneBytes: done_bytes, totalBytes: total_bytes } : undefined;
}
