/** What the node with the record of a group has decided, carried out on the nodes that have other members of it. */
import { VolumeError } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import { type GroupId, parseGroupId, parseSnapshotId, type SnapshotId } from '../../ids.ts';
import { readRecord, type SnapshotRecord, snapshotRecord } from '../../state/records.ts';
import type { Domain } from '../domain.ts';
import { withReason } from '../engine/failures.ts';
import type { Call } from '../engine/operations.ts';
import type { GroupState } from '../model.ts';
import { rewriteRecord } from '../pool/commit.ts';
import type { Pool } from '../pool/pool.ts';
import { removeSnapshot } from './delete.ts';
import { findGroup } from './group-get.ts';

/**
 * Whether the group exists, on the node that keeps its record. `running` as long as a commit is possible, also by a call that hangs. Throws
 * `unavailable` while a pool that may have it is not served.
 */
export async function findGroupState(domain: Domain, groupId: string): Promise<GroupState> {
  const id = parseGroupId(groupId);
  if (id === undefined) return { kind: 'none' };
  const { operations, pools } = domain;
  // Asked first: the commit may come at any time while the group is being taken, and never afterwards.
  if (operations.locks.lockedBy(`group:${id}`) !== undefined) return { kind: 'running' };
  const found = await findGroup(domain, id);
  if (found !== undefined) {
    await found.pool.sync();
    return { kind: 'exists', attempt: found.record.attempt };
  }
  pools.requireAllServed();
  return { kind: 'none' };
}

/**
 * The group of that attempt was committed: its members on this node are used from now on. Throws `wrong-state` if one of `snapshotIds` is
 * not there.
 */
export async function settleGroupPart(
  domain: Domain,
  call: Call,
  request: {
    readonly groupId: string;
    readonly attempt: string;
    readonly snapshotIds: readonly string[];
  },
): Promise<void> {
  const { attempt, snapshotIds } = request;
  await withPart(domain, call, { name: 'SettleGroupPart', ...request }, async (domain, id) => {
    for (const { pool, record } of await undecidedMembers(domain, id)) {
      const { prepared } = record;
      if (prepared !== undefined && prepared !== null && prepared.attempt !== attempt) continue;
      await withReason(domain, { subject: `snapshot '${record.id}'`, disk: pool }, (domain) =>
        rewriteRecord(
          domain.host.files,
          { pool, area: 'snapshots', schema: snapshotRecord },
          { ...record, prepared: null },
        ),
      );
      await domain.reached('group:member-settled');
    }
    for (const one of snapshotIds) requireMember(domain, id, one);
  });
}

function requireMember({ pools }: Domain, groupId: GroupId, snapshotId: string): void {
  if (pools.findSnapshotRecord(snapshotId)?.groupId === groupId) return;
  pools.requireAllServed();
  throw new VolumeError(
    'wrong-state',
    `snapshot '${snapshotId}' of group snapshot '${groupId}' is not on this node any more, so the group is incomplete; delete the group, and take it again`,
  );
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
  const { attempt } = request;
  await withPart(domain, call, { name: 'RemoveGroupPart', ...request }, async (domain, id) => {
    for (const { pool, record } of await undecidedMembers(domain, id)) {
      if (attempt !== undefined && record.prepared?.attempt !== attempt) continue;
      await removeSnapshot(domain, pool, record.id);
      await domain.reached('group:member-discarded');
    }
    if (attempt === undefined) {
      await removeMembersOf(domain, id);
      domain.pools.requireAllServed();
    }
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

/** Locks the part. An id that this driver cannot have made has none. */
async function withPart(
  domain: Domain,
  call: Call,
  plan: {
    readonly name: string;
    readonly groupId: string;
    readonly attempt: string | undefined;
    readonly snapshotIds: readonly string[];
  },
  work: (domain: Domain, id: GroupId) => Promise<void>,
): Promise<void> {
  const { name, groupId, snapshotIds } = plan;
  const id = parseGroupId(groupId);
  if (id === undefined) return;
  // The periodic check of entries that are set aside leaves locked ones alone.
  const undecided = undecidedIds(domain, id).map((one) => one.id);
  const members = [...new Set<string>([...undecided, ...snapshotIds])];
  await domain.operations.run(
    domain,
    call,
    {
      name,
      lane: { kind: 'group', id },
      exclusive: [`group:${id}`, ...members.map((one) => `snapshot:${one}`)],
      request: plan,
    },
    async (domain) => work(domain, id),
  );
}

function undecidedIds(
  { pools }: Domain,
  groupId: GroupId,
): readonly { readonly pool: Pool; readonly id: SnapshotId }[] {
  return pools.served.flatMap((pool) =>
    [...pool.snapshots.aside].flatMap(([name, { group }]) => {
      const id = parseSnapshotId(name);
      return id === undefined || group?.groupId !== groupId ? [] : [{ pool, id }];
    }),
  );
}

async function undecidedMembers(
  domain: Domain,
  groupId: GroupId,
): Promise<readonly { readonly pool: Pool; readonly record: SnapshotRecord }[]> {
  const found: { pool: Pool; record: SnapshotRecord }[] = [];
  for (const { pool, id } of undecidedIds(domain, groupId)) {
    const path = pool.recordPathOf('snapshots', id);
    try {
      found.push({ pool, record: await readRecord(domain.host.files, snapshotRecord, path) });
    } catch (error) {
      if (!hasErrno(error, 'ENOENT')) throw error;
      pool.forget('snapshots', id);
    }
  }
  return found;
}
