import { setTimeout as delay } from 'node:timers/promises';
import { messageOf } from '../../errors.ts';
import {
  type EntryId,
  ephemeralIdFor,
  parseGroupId,
  parseSnapshotId,
  parseVolumeId,
} from '../../ids.ts';
import type { Domain } from '../domain.ts';
import { inLane } from '../engine/lanes.ts';
import type { RecordArea } from '../pool/layout.ts';
import type { Pool } from '../pool/pool.ts';

const retryMs = 1_000;

interface Entry {
  readonly area: RecordArea;
  readonly id: EntryId;
}

/**
 * Reloads the records that an operation had locked, after its hung kernel call has returned: that call may have replaced a record
 * or renamed an entry after the operation had failed. Only records that are in memory are reloaded; an entry that was created this
 * late is found by the next call that creates it.
 */
export async function reloadLocked(domain: Domain, locks: readonly string[]): Promise<void> {
  const entries = locks.flatMap((key) => lockedEntry(key, domain.settings.nodeTag) ?? []);
  await Promise.all(
    domain.pools.all.flatMap((pool) =>
      entries
        .filter(({ area, id }) => pool.indexOf(area).get(id) !== undefined)
        .map((entry) => reloadEntry(domain, pool, entry)),
    ),
  );
}

/** Inline volumes are locked by the id that the kubelet chose. */
function lockedEntry(key: string, nodeTag: string): Entry | undefined {
  const colon = key.indexOf(':');
  const id = key.slice(colon + 1);
  switch (key.slice(0, colon)) {
    case 'volume': {
      const volumeId = parseVolumeId(id);
      return volumeId === undefined
        ? { area: 'ephemeral', id: ephemeralIdFor(id, nodeTag) }
        : { area: 'volumes', id: volumeId };
    }
    case 'snapshot':
      return entryIn('snapshots', parseSnapshotId(id));
    case 'group':
      return entryIn('groups', parseGroupId(id));
    default:
      return undefined;
  }
}

function entryIn(area: RecordArea, id: EntryId | undefined): Entry | undefined {
  return id === undefined ? undefined : { area, id };
}

/** Retries until the record is read, or the pool is opened again, which reads all records. */
async function reloadEntry(domain: Domain, pool: Pool, { area, id }: Entry): Promise<void> {
  const { openings } = pool;
  while (pool.isOpen && pool.openings === openings) {
    try {
      const { host } = inLane(domain, { kind: 'recover', id, pool: pool.name });
      await pool.loadEntry(host.files, area, id);
      if (pool.indexOf(area).get(id) === undefined) pool.forget(area, id);
      pool.nodeStates.delete(id);
      pool.laterNodeStates.delete(id);
      pool.space.invalidate();
      return;
    } catch (error) {
      domain.log.warn(
        { pool: pool.name, id, problem: messageOf(error) },
        'a record could not be reloaded',
      );
      await delay(retryMs, undefined, { ref: false });
    }
  }
}
