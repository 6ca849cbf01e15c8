import { parseGroupId, parseSnapshotId, requireOwnNodeTag } from '../../ids.ts';
import type { GroupRecord } from '../../state/records.ts';
import { reloadSetAside } from '../attachment/duplicates.ts';
import type { Domain } from '../domain.ts';
import { withReason } from '../engine/failures.ts';
import type { Call } from '../engine/operations.ts';
import type { FoundSnapshot } from '../pool/pools.ts';
import { removeSnapshot } from './delete.ts';
import { requireSameMembers } from './group-get.ts';
import { removeMembersOf } from './group-settle.ts';

/**
 * CSI spec, DeleteVolumeGroupSnapshot: deletes the record of the group first, then its members. After a crash in between, recovery
 * removes the members. Throws `busy` while a member is being restored or compared.
 */
export async function deleteGroupSnapshot(
  domain: Domain,
  call: Call,
  groupId: string,
  snapshotIds: readonly string[],
): Promise<void> {
  const id = parseGroupId(groupId);
  if (id === undefined) return;
  requireOwnNodeTag(id, { nodeTag: domain.settings.nodeTag, kind: 'group snapshot' });
  await domain.operations.run(
    domain,
    call,
    {
      name: 'DeleteVolumeGroupSnapshot',
      lane: { kind: 'group', id },
      exclusive: [`group:${id}`, ...snapshotIds.map((one) => `snapshot:${one}`)],
      request: { id, snapshotIds },
    },
    async (domain, operation) => {
      await reloadSetAside(domain, { area: 'groups', id });
      for (const one of snapshotIds) {
        const member = parseSnapshotId(one);
        if (member !== undefined) await reloadSetAside(domain, { area: 'snapshots', id: member });
      }
      const found = domain.pools.findGroup(id);
      if (found === undefined) {
        domain.pools.requireAllServed();
        // An earlier delete was interrupted after it had removed the record.
        await removeMembersOf(domain, id);
        return;
      }
      const { pool, record } = found;
      requireSameMembers(record, snapshotIds);
      const members = findMembers(domain, record);
      for (const member of members) member.pool.requireServed();
      operation.beginEffects();
      const about = { subject: `group snapshot '${id}'`, disk: pool };
      await withReason(domain, about, async (domain) => {
        await domain.trash.discard(domain.host, pool, 'groups', id);
        await domain.reached('group:record-discarded');
        for (const member of members) {
          await removeSnapshot(domain, member.pool, member.record.id);
          await domain.reached('group:member-discarded');
        }
      });
    },
  );
}

/** Members that an operator has removed manually are left out: they must not block the deletion of the others. */
function findMembers(domain: Domain, record: GroupRecord): readonly FoundSnapshot[] {
  return record.snapshotIds.flatMap((id) => domain.pools.findSnapshot(id) ?? []);
}
