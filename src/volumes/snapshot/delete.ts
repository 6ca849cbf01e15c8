import { VolumeError } from '../../errors.ts';
import { parseSnapshotId, requireOwnNodeTag, type SnapshotId } from '../../ids.ts';
import { reloadSetAside } from '../attachment/duplicates.ts';
import type { Domain } from '../domain.ts';
import { withReason } from '../engine/failures.ts';
import type { Call } from '../engine/operations.ts';
import type { Pool } from '../pool/pool.ts';
import { requireRemovable, setAsideError } from '../pool/set-aside.ts';

/**
 * CSI spec, DeleteSnapshot. An unknown snapshot counts as deleted, but only if every pool is served. Throws `busy` while the
 * snapshot is being restored or compared, `invalid` for a member of a group, `wrong-state` for a snapshot of another node, a
 * duplicate, or a snapshot that a later version of the driver wrote.
 */
export async function deleteSnapshot(
  domain: Domain,
  call: Call,
  snapshotId: string,
): Promise<void> {
  const id = parseSnapshotId(snapshotId);
  if (id === undefined) return;
  requireOwnNodeTag(id, { nodeTag: domain.settings.nodeTag, kind: 'snapshot' });
  const lane = { kind: 'snapshot', id } as const;
  // A CreateSnapshot in progress is cancelled: this call is refused as busy, and its retry finds nothing left.
  domain.operations.abort(lane, 'CreateSnapshot', `snapshot '${id}' is being deleted`);
  await domain.operations.run(
    domain,
    call,
    { name: 'DeleteSnapshot', lane, exclusive: [`snapshot:${id}`], request: id },
    async (domain, operation) => {
      await reloadSetAside(domain, { area: 'snapshots', id });
      const pool = poolOf(domain, id);
      if (pool === undefined) {
        domain.pools.requireAllServed();
        await domain.trash.syncDiscarded();
        return;
      }
      pool.requireServed();
      const aside = pool.snapshots.aside.get(id);
      requireRemovable(aside);
      if (aside?.kind === 'undecided') throw setAsideError(aside);
      requireNotMember(pool, id);
      operation.beginEffects();
      await removeSnapshot(domain, pool, id);
    },
  );
}

/** Aborts the copy of the snapshot, if one runs, and moves it to the trash; its blocks are freed later. */
export async function removeSnapshot(domain: Domain, pool: Pool, id: SnapshotId): Promise<void> {
  await withReason(domain, { subject: `snapshot '${id}'`, disk: pool }, async (domain) => {
    await domain.snapshotCopies.abort(id);
    // A copy that failed in the meantime has already removed it.
    if (pool.snapshots.get(id) === undefined && !pool.snapshots.aside.has(id)) return;
    await domain.trash.discard(domain.host, pool, 'snapshots', id);
    // Wakes callers that watch its copy.
    domain.snapshotCopies.notifyProgress();
  });
}

/** The pool whose snapshot with that id is used; if there is none, a pool that has set one aside. */
function poolOf({ pools }: Domain, id: SnapshotId): Pool | undefined {
  const aside = pools.findSetAside('snapshots', id);
  const kept = aside.find(({ why }) => why.kind !== 'unreadable') ?? aside[0];
  return kept?.pool ?? pools.all.find(({ snapshots }) => snapshots.get(id) !== undefined);
}

function requireNotMember(pool: Pool, id: SnapshotId): void {
  const groupId = pool.snapshots.get(id)?.groupId ?? null;
  if (groupId === null) return;
  throw new VolumeError(
    'invalid',
    `snapshot '${id}' is a member of group snapshot '${groupId}' and cannot be deleted alone; delete the group`,
  );
}
