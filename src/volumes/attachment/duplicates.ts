import { join } from 'node:path';
import { withTimeout } from '../../async.ts';
import { messageOf } from '../../errors.ts';
import { duplicateRecord, writeRecord } from '../../state/records.ts';
import type { Domain } from '../domain.ts';
import { entryFiles, type RecordArea, recordAreas } from '../pool/layout.ts';
import type { Pool } from '../pool/pool.ts';
import { duplicateMessage } from '../pool/set-aside.ts';

/** Inline volumes are excluded: the kubelet chooses their ids, and their data ends with their pod. */
type NamedArea = Exclude<RecordArea, 'ephemeral'>;
const namedAreas = recordAreas.filter((area): area is NamedArea => area !== 'ephemeral');

/** A pool whose disk hangs delays the others by at most this time. */
const othersTimeoutMs = 5_000;

/** Kind of the lock of an entry, by area. */
const lockKindOf = {
  volumes: 'volume',
  ephemeral: 'volume',
  snapshots: 'snapshot',
  groups: 'group',
} as const satisfies Record<RecordArea, string>;

/**
 * Ids are unique across pools, but an id may have been created again while the pool that has it was not served. From then on
 * the driver uses one of the two entries, always the same one. It records the other one as a duplicate, on the disk too, and
 * only an operator removes that.
 */
export async function setDuplicatesAside(domain: Domain, pool: Pool): Promise<void> {
  await waitForOtherPools(domain, pool);
  for (const area of namedAreas) {
    const { aside } = pool.indexOf(area);
    const ids = [...pool.indexOf(area).values()].map(({ id }) => id);
    for (const id of [...ids, ...aside.keys()]) await setDuplicateAside(domain, pool, { area, id });
  }
}

/** Pools are opened concurrently, and the choice between two entries must not depend on which pool is read first. */
async function waitForOtherPools({ pools }: Domain, pool: Pool): Promise<void> {
  const others = pools.all.filter((one) => one !== pool).map(({ firstRead }) => firstRead);
  await withTimeout(Promise.all(others), othersTimeoutMs);
}

async function setDuplicateAside(
  domain: Domain,
  pool: Pool,
  entry: { readonly area: NamedArea; readonly id: string },
): Promise<void> {
  for (const other of domain.pools.all) {
    if (other === pool || !hasEntry(other, entry) || !hasEntry(pool, entry)) continue;
    const isOther = await isOtherUsed(domain, { pool, other }, entry);
    await setAside(
      domain,
      isOther ? { used: other, duplicate: pool } : { used: pool, duplicate: other },
      entry,
    );
  }
}

/** An entry whose record cannot be read counts too: it may be the one in use. */
function hasEntry(pool: Pool, { area, id }: { area: NamedArea; id: string }): boolean {
  const index = pool.indexOf(area);
  return index.get(id) !== undefined || index.aside.get(id)?.kind === 'unreadable';
}

/** Symmetric, since both pools may be opened at the same time. The other pool wins at once if calls may already use it. */
async function isOtherUsed(
  domain: Domain,
  { pool, other }: { readonly pool: Pool; readonly other: Pool },
  { area, id }: { readonly area: NamedArea; readonly id: string },
): Promise<boolean> {
  const [ours, theirs] = [pool.indexOf(area).get(id), other.indexOf(area).get(id)];
  if (ours === undefined || theirs === undefined) return ours === undefined;
  if (other.isOpen || other.marker === undefined) return true;
  if (pool.wasServed !== other.wasServed) return other.wasServed;
  if (area === 'volumes') {
    const isAttached = await isInUse(domain, pool, id);
    if (isAttached !== (await isInUse(domain, other, id))) return !isAttached;
  }
  // The entry that was created later was used last.
  if (ours.createdAtMs !== theirs.createdAtMs) return theirs.createdAtMs > ours.createdAtMs;
  return domain.pools.all.indexOf(other) < domain.pools.all.indexOf(pool);
}

async function isInUse({ host }: Domain, pool: Pool, id: string): Promise<boolean> {
  try {
    const image = await host.files.imageStatus(pool.imagePathOf('volumes', id));
    return (await host.loops.findByImage(image)).length > 0;
  } catch {
    return false;
  }
}

async function setAside(
  domain: Domain,
  { used, duplicate }: { readonly used: Pool; readonly duplicate: Pool },
  { area, id }: { readonly area: NamedArea; readonly id: string },
): Promise<void> {
  const { host, log } = domain;
  const path = duplicate.pathOf(area, id);
  const message = duplicateMessage(path, { id, usedPoolName: used.name });
  duplicate.indexOf(area).setAside(id, { kind: 'duplicate', message });
  log.error({ pool: duplicate.name, id, problem: message }, 'an id was found in two pools');
  const value = {
    schemaVersion: 1 as const,
    usedPool: used.marker?.uuid ?? '',
    usedPoolName: used.name,
  };
  try {
    await writeRecord(host.files, join(path, entryFiles.duplicate), {
      schema: duplicateRecord,
      value,
    });
  } catch (error) {
    const problem = `${messageOf(error)}; move ${path} out of the pool before the next start of the driver`;
    log.error({ pool: duplicate.name, id, problem }, 'a duplicate could not be recorded');
  }
}

/** Reads what was set aside under that id again: an operator may have moved or repaired it. */
export async function reloadSetAside(
  domain: Domain,
  entry: { readonly area: RecordArea; readonly id: string },
): Promise<void> {
  for (const pool of domain.pools.served) await reloadEntry(domain, pool, entry);
}

/** The same for every entry of a pool that is set aside and not locked by a call. */
export async function reloadAllSetAside(domain: Domain, pool: Pool): Promise<void> {
  for (const area of recordAreas) {
    for (const id of [...pool.indexOf(area).aside.keys()]) {
      if (domain.operations.locks.holderOf(`${lockKindOf[area]}:${id}`) !== undefined) continue;
      await reloadEntry(domain, pool, { area, id });
    }
  }
}

async function reloadEntry(
  domain: Domain,
  pool: Pool,
  { area, id }: { readonly area: RecordArea; readonly id: string },
): Promise<void> {
  const index = pool.indexOf(area);
  if (!pool.isServed || !index.aside.has(id)) return;
  await pool.loadEntry(area, id);
  if (index.aside.has(id)) return;
  domain.log.info({ pool: pool.name, id, area }, 'an entry that was set aside can be used again');
  if (area !== 'ephemeral') await setDuplicateAside(domain, pool, { area, id });
}
