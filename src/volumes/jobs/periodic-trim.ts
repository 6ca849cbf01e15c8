import { createHash } from 'node:crypto';
import * as v from 'valibot';
import { messageOf } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import type { Host } from '../../host/host.ts';
import type { Logger } from '../../observe/log.ts';
import { readRecord, writeRecord } from '../../state/records.ts';
import { entryFiles } from '../pool/layout.ts';
import type { Pool } from '../pool/pool.ts';
import type { Pools } from '../pool/pools.ts';
import { periodicTrimIntervalMs } from '../pool/thresholds.ts';
import { findMountedThin, type MountedThin } from './mounted-thin.ts';
import type { Trims } from './trims.ts';

/** Volumes that were made or trimmed together are spread over so long, each always by the same part of it. */
const spreadMs = 3_600_000;
const firstLookMs = 60_000;
const lookEveryMs = 600_000;

/** `trim.json` beside the volume's record: a driver that is restarted daily must not begin to count anew. */
const lastTrim = v.object({ schemaVersion: v.literal(1), trimmedAtMs: v.number() });

/** What periodic trimming needs of the domain. */
export interface TrimDeps {
  readonly host: Host;
  readonly log: Logger;
  readonly pools: Pools;
  readonly trims: Trims;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/**
 * `trim: periodic`: once a day each mounted volume of that kind is told to give freed blocks back to the pool (FITRIM), one
 * after the other. Answers a function that ends it.
 */
export function trimPeriodically(deps: TrimDeps): () => void {
  let timer: NodeJS.Timeout | undefined;
  const lookAfter = (ms: number): void => {
    timer = setTimeout(() => {
      trimDue(deps)
        .catch((error: unknown) => {
          deps.log.warn({ problem: messageOf(error) }, 'looking for volumes to trim failed');
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
export async function trimDue(deps: TrimDeps): Promise<void> {
  for (const pool of deps.pools.served) {
    const mounts = await deps.host.mounts.list();
    for (const one of await findMountedThin(deps.host, pool, mounts)) {
      if (one.record.trim !== 'periodic' || !(await isDue(deps, pool, one))) continue;
      const result = await deps.trims.trim(pool, one);
      // One that gave way to a call is due still.
      if (result !== 'interrupted') await remember(deps, pool, one);
    }
  }
}

async function isDue(deps: TrimDeps, pool: Pool, volume: MountedThin): Promise<boolean> {
  const { record } = volume;
  const last = (await lastTrimOf(deps, notePath(pool, volume), record.id)) ?? record.createdAtMs;
  const sinceMs = deps.now() - last;
  // After the clock was set back nothing can be told from the difference: it is trimmed, and counted from there.
  return sinceMs < 0 || sinceMs >= periodicTrimIntervalMs - spreadOf(record.id);
}

function spreadOf(id: string): number {
  return createHash('sha256').update(id).digest().readUInt32BE(0) % spreadMs;
}

async function lastTrimOf(deps: TrimDeps, path: string, id: string): Promise<number | undefined> {
  try {
    return (await readRecord(deps.host.files, lastTrim, path)).trimmedAtMs;
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) {
      const problem = messageOf(error);
      deps.log.warn({ volumeId: id, problem }, 'the time of the last trim cannot be read');
    }
    return undefined;
  }
}

async function remember(deps: TrimDeps, pool: Pool, volume: MountedThin): Promise<void> {
  const value = { schemaVersion: 1 as const, trimmedAtMs: deps.now() };
  try {
    await writeRecord(deps.host.files, notePath(pool, volume), {
      schema: lastTrim,
      value,
      durable: false,
    });
  } catch (error) {
    const problem = messageOf(error);
    deps.log.warn({ volumeId: volume.record.id, problem }, 'the time of a trim cannot be noted');
  }
}

function notePath(pool: Pool, { area, record }: MountedThin): string {
  return pool.pathOf(area, record.id, entryFiles.lastTrim);
}
