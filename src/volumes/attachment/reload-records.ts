import { setTimeout as delay } from 'node:timers/promises';
import { messageOf } from '../../errors.ts';
import type { Domain } from '../domain.ts';
import { ephemeralIdFor, parseVolumeId } from '../ids.ts';
import type { RecordArea } from '../pool/layout.ts';
import type { Pool } from '../pool/pool.ts';

const retryMs = 1_000;

interface Entry {
  readonly area: RecordArea;
  readonly id: string;
}

/**
 * Reads again what an operation had locked (`volume:ID`), when a call of it that hung has returned: a record may have been
 * replaced, or an entry renamed, after the caller was told that the call hangs. Only what is in memory: what was made that late
 * is found by the next call that wants to make it.
 */
export async function reloadLocked(domain: Domain, locks: readonly string[]): Promise<void> {
  const entries = locks.flatMap((key) => entryOf(key, domain.settings.nodeTag) ?? []);
  await Promise.all(
    domain.pools.all.flatMap((pool) =>
      entries
        .filter(({ area, id }) => pool.indexOf(area).get(id) !== undefined)
        .map((entry) => readEntryAgain(domain, pool, entry)),
    ),
  );
}

/** Inline volumes are locked by the kubelet's id. */
function entryOf(key: string, nodeTag: string): Entry | undefined {
  const colon = key.indexOf(':');
  const id = key.slice(colon + 1);
  switch (key.slice(0, colon)) {
    case 'volume':
      return parseVolumeId(id) === undefined
        ? { area: 'ephemeral', id: ephemeralIdFor(id, nodeTag) }
        : { area: 'volumes', id };
    case 'snapshot':
      return { area: 'snapshots', id };
    case 'group':
      return { area: 'groups', id };
    default:
      return undefined;
  }
}

/** Goes on until it is read: one that is opened anew reads everything itself. */
async function readEntryAgain(domain: Domain, pool: Pool, { area, id }: Entry): Promise<void> {
  const { openings } = pool;
  while (pool.isOpen && pool.openings === openings) {
    try {
      await domain.ownedBy(`settle ${id}`, () => pool.loadEntry(area, id));
      if (pool.indexOf(area).get(id) === undefined) pool.forget(area, id);
      pool.nodeStates.delete(id);
      pool.space.invalidate();
      return;
    } catch (error) {
      domain.log.warn(
        { pool: pool.name, id, problem: messageOf(error) },
        'a record was not read again',
      );
      await delay(retryMs, undefined, { ref: false });
    }
  }
}
