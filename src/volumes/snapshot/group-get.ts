import { VolumeError } from '../../errors.ts';
import { type GroupId, requireOwnId } from '../../ids.ts';
import type { GroupRecord } from '../../state/records.ts';
import { reloadSetAside } from '../attachment/duplicates.ts';
import type { Domain } from '../domain.ts';
import { inLane, onDiskOf } from '../engine/lanes.ts';
import type { GroupSnapshot, Snapshot } from '../model.ts';
import type { Pools } from '../pool/pools.ts';

export function groupOf(pools: Pools, record: GroupRecord): GroupSnapshot {
  const elsewhere = new Set<string>(record.elsewhere.map(({ snapshotId }) => snapshotId));
  const own = record.snapshotIds.filter((id) => !elsewhere.has(id));
  const snapshots = own.map((id): Snapshot => {
    const found = pools.getSnapshot(id);
    return { record: found.record, pool: found.pool.name };
  });
  return { record, snapshots };
}

export function areSameMembers(a: readonly string[], b: readonly string[]): boolean {
  return [...a].sort().join('\n') === [...b].sort().join('\n');
}

/**
 * The record of a group, also if it is on the disk only: a rename that hung may have succeeded after its call had failed. Throws the error of a
 * record that is set aside.
 */
export async function findGroup(
  domain: Domain,
  id: GroupId,
): Promise<ReturnType<Pools['findGroup']>> {
  await reloadSetAside(domain, { area: 'groups', id });
  for (const pool of domain.pools.served) {
    if (pool.groups.get(id) !== undefined || pool.groups.aside.has(id)) continue;
    const { host } = onDiskOf(inLane(domain, { kind: 'check', id }), pool);
    await pool.loadEntry(host.files, 'groups', id);
  }
  return domain.pools.findGroup(id);
}

/** CSI spec, GetVolumeGroupSnapshot. */
export function getGroupSnapshot(
  domain: Domain,
  groupId: string,
  snapshotIds: readonly string[],
): GroupSnapshot {
  const id = requireOwnId<GroupId>(groupId, {
    nodeTag: domain.settings.nodeTag,
    kind: 'group snapshot',
  });
  const found = domain.pools.findGroup(id);
  if (found === undefined) {
    domain.pools.requireAllServed();
    throw new VolumeError('not-found', `group snapshot '${groupId}' does not exist on this node`);
  }
  requireSameMembers(found.record, snapshotIds);
  return groupOf(domain.pools, found.record);
}

export function requireSameMembers(record: GroupRecord, snapshotIds: readonly string[]): void {
  if (areSameMembers(record.snapshotIds, snapshotIds)) return;
  throw new VolumeError(
    'invalid',
    `the members of group snapshot '${record.id}' are ${record.snapshotIds.join(', ')}, but the request names ${snapshotIds.join(', ') || 'none'}`,
  );
}

/** The records of all groups of served pools, sorted by id. */
export function listGroupRecords(pools: Pools): readonly GroupRecord[] {
  return pools.all
    .flatMap(({ groups }) => [...groups.values()])
    .sort((a, b) => (a.id < b.id ? -1 : 1));
}
