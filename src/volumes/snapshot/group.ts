import { VolumeError } from '../../errors.ts';
import type { GroupRecord } from '../../state/records.ts';
import { reloadSetAside } from '../attachment/duplicates.ts';
import type { Domain } from '../domain.ts';
import { withReason } from '../engine/failures.ts';
import type { Call } from '../engine/operations.ts';
import { type GroupId, parseGroupId, parseSnapshotId, requireOurs, tagOf } from '../ids.ts';
import type { GroupSnapshot, Snapshot } from '../model.ts';
import type { FoundSnapshot } from '../pool/pools.ts';
import { removeSnapshot } from './delete.ts';

export function groupOf(domain: Domain, record: GroupRecord): GroupSnapshot {
  const snapshots = record.snapshotIds.map((id): Snapshot => {
    const found = domain.pools.getSnapshot(id);
    return { record: found.record, pool: found.pool.name };
  });
  return { record, snapshots };
}

export function sameMembers(a: readonly string[], b: readonly string[]): boolean {
  return [...a].sort().join('\n') === [...b].sort().join('\n');
}

/** CSI spec, GetVolumeGroupSnapshot. */
export function getGroupSnapshot(
  domain: Domain,
  groupId: string,
  snapshotIds: readonly string[],
): GroupSnapshot {
  const id = requireOurs<GroupId>(groupId, {
    nodeTag: domain.settings.nodeTag,
    kind: 'group snapshot',
  });
  const found = domain.pools.findGroup(id);
  if (found === undefined) {
    domain.pools.requireAllServed();
    throw new VolumeError('not-found', `group snapshot '${groupId}' does not exist on this node`);
  }
  requireItsMembers(found.record, snapshotIds);
  return groupOf(domain, found.record);
}

function requireItsMembers(record: GroupRecord, snapshotIds: readonly string[]): void {
  if (sameMembers(record.snapshotIds, snapshotIds)) return;
  throw new VolumeError(
    'invalid',
    `the members of group snapshot '${record.id}' are ${record.snapshotIds.join(', ')}, asked was ${snapshotIds.join(', ') || 'none'}`,
  );
}

/**
 * CSI spec, DeleteVolumeGroupSnapshot: the group first, which takes its members with it even when a crash comes in between,
 * then the members. Throws `busy` while one is restored or compared.
 */
export async function deleteGroupSnapshot(
  domain: Domain,
  call: Call,
  groupId: string,
  snapshotIds: readonly string[],
): Promise<void> {
  const id = parseGroupId(groupId);
  if (id === undefined) return;
  const { nodeTag } = domain.settings;
  if (tagOf(id) !== nodeTag) {
    throw new VolumeError(
      'wrong-state',
      `group snapshot '${id}' belongs to the node with tag ${tagOf(id)}, this one is ${nodeTag}; delete it there`,
    );
  }
  await domain.operations.run(
    {
      name: 'DeleteVolumeGroupSnapshot',
      owner: `group ${id}`,
      exclusive: [`group:${id}`, ...snapshotIds.map((one) => `snapshot:${one}`)],
      request: { id, snapshotIds },
    },
    call,
    async (operation) => {
      await reloadSetAside(domain, { area: 'groups', id });
      for (const one of snapshotIds) {
        await reloadSetAside(domain, { area: 'snapshots', id: one });
      }
      const found = domain.pools.findGroup(id);
      if (found === undefined) {
        domain.pools.requireAllServed();
        await removeMembersOf(domain, id);
        return;
      }
      const { pool, record } = found;
      requireItsMembers(record, snapshotIds);
      // One that is gone, removed by hand, must not keep the rest.
      const members = record.snapshotIds.flatMap((one) => {
        const member = findMember(domain, one);
        return member === undefined ? [] : [member];
      });
      for (const member of members) member.pool.requireServed();
      operation.beginEffects();
      await withReason(`group snapshot '${id}'`, pool, async () => {
        await domain.trash.discard(pool, 'groups', id);
        await domain.reached('group:record-discarded');
        for (const member of members) {
          await removeSnapshot(domain, member.pool, member.record.id);
          await domain.reached('group:member-discarded');
        }
      });
    },
  );
}

function findMember(domain: Domain, snapshotId: string): FoundSnapshot | undefined {
  const id = parseSnapshotId(snapshotId);
  return id === undefined ? undefined : domain.pools.findSnapshot(id);
}

/** Members whose group has gone already: an earlier delete ended between its record and them. */
async function removeMembersOf(domain: Domain, groupId: string): Promise<void> {
  for (const pool of domain.pools.all) {
    for (const record of [...pool.snapshots.values()]) {
      if (record.groupId === groupId) await removeSnapshot(domain, pool, record.id);
    }
  }
}
