import { join } from 'node:path';
import { withTimeout } from '../../async.ts';
import { messageOf } from '../../errors.ts';
import type { EntryId, EntryName } from '../../ids.ts';
import { duplicateRecord, writeRecord } from '../../state/records.ts';
import type { Domain } from '../domain.ts';
import { entryFiles, type RecordArea, recordAreas } from '../pool/layout.ts';
import type { Pool } from '../pool/pool.ts';
import { duplicateMessage } from '../pool/set-aside.ts';
import { poolAnswerTimeoutMs } from '../pool/thresholds.ts';

/** Inline volumes are excluded: the kubelet chooses their ids, and their data ends with their pod. */
type NamedArea = Exclude<RecordArea, 'ephemeral'>;
const namedAreas = recordAreas.filter((area): area is NamedArea => area !== 'ephemeral');

interface NamedEntry {
  readonly area: NamedArea;
  readonly name: EntryName;
}

/** Kind of the lock of an entry, by area. */
const lockKindOf = {
  volumes: 'volume',
  ephemeral: 'volume',
  snapshots: 'snapshot',
  groups: 'group',
} as const satisfies Record<RecordArea, string>;

/**
 * Ids are unique across pools, but an id may have been created again while the pool that has it was not served. From then on the
 * driver uses one of the two entries, always the same one. It records the other one as a duplicate, on the disk too, and only an
 * operator may remove it.
 */
export async function setDuplicatesAside(domain: Domain, pool: Pool): Promise<void> {
  await waitForOtherPools(domain, pool);
  for (const area of namedAreas) {
    const { aside } = pool.indexOf(area);
    const ids = [...pool.indexOf(area).values()].map(({ id }) => id);
    for (const name of [...ids, ...aside.keys()])
      await resolveDuplicate(domain, pool, { area, name });
  }
}

/** Pools are opened concurrently, and the choice between two entries must not depend on which pool is read first. */
async function waitForOtherPools({ pools }: Domain, pool: Pool): Promise<void> {
  const others = pools.all.filter((one) => one !== pool).map(({ firstRead }) => firstRead);
  await withTimeout(Promise.all(others), poolAnswerTimeoutMs);
}

async function resolveDuplicate(domain: Domain, pool: Pool, entry: NamedEntry): Promise<void> {
  for (const other of domain.pools.all) {
    if (other === pool || !hasEntry(other, entry) || !hasEntry(pool, entry)) continue;
    const isOther = await isOtherUsed(domain, { pool, other }, entry);
    await recordDuplicate(
      domain,
      isOther ? { used: other, duplicate: pool } : { used: pool, duplicate: other },
      entry,
    );
  }
}

/** An entry whose record cannot be read counts too: it may be the one in use. */
function hasEntry(pool: Pool, { area, name }: NamedEntry): boolean {
  const index = pool.indexOf(area);
  return index.get(name) !== undefined || index.aside.get(name)?.kind === 'unreadable';
}

/**
 * Whether the entry of the other pool is the one that the driver uses. The result must not depend on the order of the pools, since
 * both may be opened at the same time. The other pool wins at once if calls may already use it.
 */
async function isOtherUsed(
  domain: Domain,
  { pool, other }: { readonly pool: Pool; readonly other: Pool },
  { area, name }: NamedEntry,
): Promise<boolean> {
  const [record, otherRecord] = [pool.indexOf(area).get(name), other.indexOf(area).get(name)];
  if (record === undefined || otherRecord === undefined) return record === undefined;
  if (other.isOpen || other.marker === undefined) return true;
  if (pool.wasServed !== other.wasServed) return other.wasServed;
  if (area === 'volumes') {
    const isAttached = await isInUse(domain, pool, name);
    if (isAttached !== (await isInUse(domain, other, name))) return !isAttached;
  }
  // The entry that was created later was used last.
  if (record.createdAtMs !== otherRecord.createdAtMs)
    return otherRecord.createdAtMs > record.createdAtMs;
  return domain.pools.all.indexOf(other) < domain.pools.all.indexOf(pool);
}

async function isInUse({ host }: Domain, pool: Pool, name: EntryName): Promise<boolean> {
  try {
    const image = await host.files.imageStatus(pool.imagePathOf('volumes', name));
    return (await host.loops.findByImage(image)).length > 0;
  } catch {
    return false;
  }
}

async function recordDuplicate(
  domain: Domain,
  { used, duplicate }: { readonly used: Pool; readonly duplicate: Pool },
  { area, name }: NamedEntry,
): Promise<void> {
  const { host, log } = domain;
  const path = duplicate.pathOf(area, name);
  const message = duplicateMessage(path, { id: name, usedPoolName: used.name });
  duplicate.indexOf(area).setAside(name, { kind: 'duplicate', message });
  log.error({ pool: duplicate.name, id: name, problem: message }, 'an id was found in two pools');
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
    log.error({ pool: duplicate.name, id: name, problem }, 'a duplicate could not be recorded');
  }
}

/** Reloads the entries that are set aside under that id: an operator may have moved or repaired them. */
export async function reloadSetAside(
  domain: Domain,
  { area, id }: { readonly area: RecordArea; readonly id: EntryId },
): Promise<void> {
  for (const pool of domain.pools.served) await reloadEntry(domain, pool, { area, name: id });
}

/** Reloads every entry of a pool that is set aside and not locked by a call. */
export async function reloadAllSetAside(domain: Domain, pool: Pool): Promise<void> {
  for (const area of recordAreas) {
    for (const name of [...pool.indexOf(area).aside.keys()]) {
      if (domain.operations.locks.lockedBy(`${lockKindOf[area]}:${name}`) !== undefined) continue;
      await reloadEntry(domain, pool, { area, name });
    }
  }
}

async function reloadEntry(
  domain: Domain,
  pool: Pool,
  { area, name }: { readonly area: RecordArea; readonly name: EntryName },
): Promise<void> {
  const index = pool.indexOf(area);
  if (!pool.isServed || !index.aside.has(name)) return;
  await pool.loadEntry(domain.host.files, area, name);
  if (index.aside.has(name)) return;
  domain.log.info(
    { pool: pool.name, id: name, area },
    'an entry that was set aside can be used again',
  );
  if (area !== 'ephemeral') await resolveDuplicate(domain, pool, { area, name });
}
