import { createHash } from 'node:crypto';
import * as v from 'valibot';
import { messageOf } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import { readRecord, writeRecord } from '../../state/records.ts';
import type { Domain } from '../domain.ts';
import type { Pool } from '../pools/pool.ts';
import { findGuarded, type Guarded } from './space-guarded.ts';

/** Often enough for what fstrim.timer of distributions does weekly, seldom enough to cost nothing. */
const trimEveryMs = 24 * 3_600_000;
/** Volumes that were made or trimmed together are spread over so long, each always by the same part of it. */
const spreadMs = 3_600_000;
const firstLookMs = 60_000;
const lookEveryMs = 600_000;

/** `trim.json` beside the volume's record: a driver that is restarted daily must not begin to count anew. */
const lastTrim = v.object({ schemaVersion: v.literal(1), trimmedAtMs: v.number() });

/**
 * `trim: periodic`: once a day each mounted volume of that kind is told to give freed blocks back to the pool (FITRIM), one
 * after the other. Answers a function that ends it.
 */
export function trimPeriodically(domain: Domain): () => void {
  let timer: NodeJS.Timeout | undefined;
  const lookAfter = (ms: number): void => {
    timer = setTimeout(() => {
      trimDue(domain)
        .catch((error: unknown) => {
          domain.log.warn({ problem: messageOf(error) }, 'looking for volumes to trim failed');
        })
        .finally(() => {
          if (timer !== undefined) lookAfter(lookEveryMs);
        });
    }, ms);
    timer.unref();
  };
  lookAfter(firstLookMs);
  return () => {
    clearTimeout(timer);
    timer = undefined;
  };
}

/** Trims what is due: a day after its last trim, or after it was made, as the clock says. */
export async function trimDue(domain: Domain): Promise<void> {
  for (const pool of domain.pools.served) {
    const mounts = await domain.host.mounts.list();
    for (const one of await findGuarded(domain.host, pool, mounts)) {
      if (one.record.trim !== 'periodic' || !(await isDue(domain, pool, one))) continue;
      const result = await domain.trims.trim(pool, one);
      // One that gave way to a call is due still.
      if (result !== 'interrupted') await remember(domain, pool, one);
    }
  }
}

async function isDue(domain: Domain, pool: Pool, guarded: Guarded): Promise<boolean> {
  const { record } = guarded;
  const last = (await lastTrimOf(domain, notePath(pool, guarded), record.id)) ?? record.createdAtMs;
  const sinceMs = domain.now() - last;
  // After the clock was set back nothing can be told from the difference: it is trimmed, and counted from there.
  return sinceMs < 0 || sinceMs >= trimEveryMs - spreadOf(record.id);
}

function spreadOf(id: string): number {
  return createHash('sha256').update(id).digest().readUInt32BE(0) % spreadMs;
}

async function lastTrimOf(domain: Domain, path: string, id: string): Promise<number | undefined> {
  try {
    return (await readRecord(domain.host.files, lastTrim, path)).trimmedAtMs;
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) {
      const problem = messageOf(error);
      domain.log.warn({ volumeId: id, problem }, 'the time of the last trim cannot be read');
    }
    return undefined;
  }
}

async function remember(domain: Domain, pool: Pool, guarded: Guarded): Promise<void> {
  const value = { schemaVersion: 1 as const, trimmedAtMs: domain.now() };
  try {
    await writeRecord(domain.host.files, notePath(pool, guarded), {
      schema: lastTrim,
      value,
      durable: false,
    });
  } catch (error) {
    const problem = messageOf(error);
    domain.log.warn({ volumeId: guarded.record.id, problem }, 'the time of a trim cannot be noted');
  }
}

function notePath(pool: Pool, { area, record }: Guarded): string {
  return pool.pathOf(area, record.id, 'trim.json');
}
