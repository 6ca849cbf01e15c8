/** Names of objects of the driver, for completion. */
import type { Volume } from '../../csi/admin-types.ts';
import type { Client } from '../../csi/client.ts';
import { formatPromisedSize } from '../output.ts';
import { ownerTextOf } from '../owner-format.ts';
import { shellWordOf } from '../printable.ts';
import { formatOf } from '../volume-format.ts';
import type { Candidate, NameKind } from './candidates.ts';

type Admin = Pick<
  Client<'loopcsi.v1.Admin'>,
  'ListVolumes' | 'ListSnapshots' | 'ListGroupSnapshots' | 'ListPools'
>;

/** More names are of no use on a terminal, and would take longer to load. */
const maxNames = 500;
const page = { max_entries: maxNames, starting_token: '' };

/** Returns at most 500 names of this kind, which a driver knows. */
export async function namesOf(
  admin: Admin,
  kind: Exclude<NameKind, 'controlled-nodes'>,
): Promise<readonly Candidate[]> {
  switch (kind) {
    case 'volumes':
      return volumeNames(admin);
    case 'claims':
      return claimNames(admin);
    case 'snapshots':
      return snapshotNames(admin);
    case 'pools':
      return (await admin.ListPools({})).pools.map(({ name, path }) => ({
        value: name,
        description: path,
      }));
    case 'groups':
      return groupNames(admin);
    case 'sources':
      return [
        ...(await snapshotNames(admin)).map((one) => ({ ...one, value: `snapshot:${one.value}` })),
        ...(await volumeNames(admin)).map((one) => ({ ...one, value: `volume:${one.value}` })),
      ];
  }
}

/** The names of volumes and their claims. */
async function volumeNames(admin: Admin): Promise<readonly Candidate[]> {
  const { volumes } = await admin.ListVolumes({ ...page, pool: '' });
  return volumes.flatMap((volume) => {
    const description = descriptionOf(volume);
    const name = shellWordOf({ name: volume.name, id: volume.volume_id });
    const claim = isOfClaim(volume) ? [ownerTextOf(volume)] : [];
    return [name, ...claim].map((value) => ({ value, description }));
  });
}

async function claimNames(admin: Admin): Promise<readonly Candidate[]> {
  const { volumes } = await admin.ListVolumes({ ...page, pool: '' });
  return volumes.filter(isOfClaim).map((volume) => ({
    value: ownerTextOf(volume),
    description: descriptionOf(volume),
  }));
}

function descriptionOf(volume: Volume): string {
  return `${formatPromisedSize(volume.size_bytes)} ${formatOf(volume)} in pool ${volume.pool}`;
}

function isOfClaim({ owner }: Volume): boolean {
  return owner !== null && owner.claim !== '';
}

async function snapshotNames(admin: Admin): Promise<readonly Candidate[]> {
  const { snapshots } = await admin.ListSnapshots({ ...page, source_volume_id: '', pool: '' });
  return snapshots.map((snapshot) => ({
    value: shellWordOf({ name: snapshot.name, id: snapshot.snapshot_id }),
    description: `of ${snapshot.source_volume_id}, ${formatPromisedSize(snapshot.size_bytes)}`,
  }));
}

async function groupNames(admin: Admin): Promise<readonly Candidate[]> {
  const { group_snapshots: groups } = await admin.ListGroupSnapshots({});
  return groups.map(({ name, group_snapshot_id: id, source_volume_ids }) => ({
    value: shellWordOf({ name, id }),
    description: `of ${source_volume_ids.join(', ')}`,
  }));
}
