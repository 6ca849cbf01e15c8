/** What the node with the record of a group has decided, carried out on the nodes that have other members of it. */
import { type GroupId, parseGroupId, parseSnapshotId } from '../../ids.ts';
import { readRecord, type SnapshotRecord, snapshotRecord } from '../../state/records.ts';
import type { Domain } from '../domain.ts';
import { withReason } from '../engine/failures.ts';
import type { Call } from '../engine/operations.ts';
import type { GroupState } from '../model.ts';
import { rewriteRecord } from '../pool/commit.ts';
import type { Pool } from '../pool/pool.ts';
import { removeSnapshot } from './delete.ts';

/** Whether the group exists, on the node that keeps its record. Throws `unavailable` while a pool that may have it is not served. */
export function findGroupState({ operations, pools }: Domain, groupId: string): GroupState {
  const id = parseGroupId(groupId);
  if (id === undefined) return { kind: 'none' };
  // Asked first: the commit may come at any time while the group is being taken, and never afterwards.
  if (operations.nameOf({ kind: 'group', id }) !== undefined) return { kind: 'running' };
  const found = pools.findGroup(id);
  if (found !== undefined) return { kind: 'exists', attempt: found.record.attempt };
  pools.requireAllServed();
  return { kind: 'none' };
}

/** The group of that attempt was committed: its members on this node are used from now on. */
export async function settleGroupPart(
  domain: Domain,
  call: Call,
  { groupId, attempt }: { readonly groupId: string; readonly attempt: string },
): Promise<void> {
  await withPart(domain, call, { name: 'SettleGroupPart', groupId }, async (domain, id) => {
    for (const { pool, record } of await undecidedMembers(domain, id)) {
      if (record.prepared?.attempt !== attempt) continue;
      await withReason(domain, { subject: `snapshot '${record.id}'`, disk: pool }, (domain) =>
        rewriteRecord(
          domain.host.files,
          { pool, area: 'snapshots', schema: snapshotRecord },
          { ...record, prepared: null },
        ),
      );
      await domain.reached('group:member-settled');
    }
    domain.pools.requireAllServed();
  });
}

/**
 * Removes the members of a group that does not exist. With an attempt, only those that this attempt has prepared; otherwise all, because
 * the group was deleted. Throws `busy` while one of `snapshotIds` is being restored or compared.
 */
export async function removeGroupPart(
  domain: Domain,
  call: Call,
  request: {
    readonly groupId: string;
    readonly attempt: string | undefined;
    readonly snapshotIds: readonly string[];
  },
): Promise<void> {
  const { groupId, attempt, snapshotIds } = request;
  const plan = { name: 'RemoveGroupPart', groupId, snapshotIds };
  await withPart(domain, call, plan, async (domain, id) => {
    for (const { pool, record } of await undecidedMembers(domain, id)) {
      if (attempt !== undefined && record.prepared?.attempt !== attempt) continue;
      await removeSnapshot(domain, pool, record.id);
      await domain.reached('group:member-discarded');
    }
    if (attempt === undefined) await removeMembersOf(domain, id);
    domain.pools.requireAllServed();
    await domain.trash.syncDiscarded();
  });
}

/** Removes the members of a group whose record is gone. */
export async function removeMembersOf(domain: Domain, groupId: GroupId): Promise<void> {
  for (const pool of domain.pools.all) {
    for (const record of [...pool.snapshots.values()]) {
      if (record.groupId === groupId) await removeSnapshot(domain, pool, record.id);
    }
  }
}

/** An id that this driver cannot have made has no part. */
async function withPart(
  domain: Domain,
  call: Call,
  plan: {
    readonly name: string;
    readonly groupId: string;
    readonly snapshotIds?: readonly string[];
  },
  work: (domain: Domain, id: GroupId) => Promise<void>,
): Promise<void> {
  const { name, groupId, snapshotIds = [] } = plan;
  const id = parseGroupId(groupId);
  if (id === undefined) return;
  await domain.operations.run(
    domain,
    call,
    {
      name,
      lane: { kind: 'group', id },
      exclusive: [`group:${id}`, ...snapshotIds.map((one) => `snapshot:${one}`)],
      request: plan,
    },
    async (domain) => work(domain, id),
  );
}

async function undecidedMembers(
  domain: Domain,
  groupId: GroupId,
): Promise<readonly { readonly pool: Pool; readonly record: SnapshotRecord }[]> {
  const found: { pool: Pool; record: SnapshotRecord }[] = [];
  for (const pool of domain.pools.served) {
    for (const [name, { group }] of pool.snapshots.aside) {
      const id = parseSnapshotId(name);
      if (group?.groupId !== groupId || id === undefined) continue;
      const path = pool.recordPathOf('snapshots', id);
      found.push({ pool, record: await readRecord(domain.host.files, snapshotRecord, path) });
    }
  }
  return found;
}
