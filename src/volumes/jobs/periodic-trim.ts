import { createHash } from 'node:crypto';
import { callPeriodically } from '../../async.ts';
import { messageOf } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import type { Host } from '../../host/host.ts';
import type { Logger } from '../../observe/log.ts';
import {
  type LastTrimRecord,
  lastTrimRecord,
  readRecord,
  writeRecord,
} from '../../state/records.ts';
import { inLane } from '../engine/lanes.ts';
import { entryFiles } from '../pool/layout.ts';
import type { Pool } from '../pool/pool.ts';
import type { Pools } from '../pool/pools.ts';
import { periodicTrimIntervalMs } from '../pool/thresholds.ts';
import { findMountedThinVolumes, type MountedThinVolume } from './mounted-thin-volumes.ts';
import type { Trims } from './trims.ts';

/**
 * Volumes that were created or trimmed at the same time are trimmed at different times within this span. The offset of a volume is
 * constant.
 */
const spreadMs = 3_600_000;
const firstCheckMs = 60_000;
const checkIntervalMs = 600_000;

/** The parts of the domain that periodic trimming needs. */
interface PeriodicTrimDeps {
  readonly host: Host;
  readonly log: Logger;
  readonly pools: Pools;
  readonly trims: Trims;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/**
 * Trims each mounted volume with `trim: periodic` once a day, one at a time, to return freed blocks to the pool (FITRIM). Returns a
 * function that stops it.
 */
export function trimPeriodically(deps: PeriodicTrimDeps): () => void {
  const trim = async (): Promise<number> => {
    try {
      await trimDueVolumes(deps);
    } catch (error) {
      deps.log.warn({ problem: messageOf(error) }, 'volumes to trim could not be determined');
    }
    return checkIntervalMs;
  };
  return callPeriodically(trim, firstCheckMs);
}

/** Trims the volumes that are due: those whose last trim, or creation, was a day ago by the clock. */
export async function trimDueVolumes(deps: PeriodicTrimDeps): Promise<void> {
  for (const pool of deps.pools.served) {
    await trimDueVolumesOf(inLane(deps, { kind: 'trim', id: pool.name, pool: pool.name }), pool);
  }
}

async function trimDueVolumesOf(deps: PeriodicTrimDeps, pool: Pool): Promise<void> {
  const mounts = await deps.host.mounts.list();
  for (const one of await findMountedThinVolumes(deps.host, pool, mounts)) {
    if (one.record.trim !== 'periodic') continue;
    const last = await readLastTrim(deps, pool, one);
    if (!isDue(deps, one, last)) continue;
    const result = await deps.trims.trim(pool, one);
    // A trim that was interrupted by a call is still due.
    if (result !== 'interrupted') await recordTrim(deps, pool, { volume: one, last });
  }
}

function isDue(
  deps: PeriodicTrimDeps,
  { record }: MountedThinVolume,
  last: LastTrimRecord | undefined,
): boolean {
  const sinceMs = deps.now() - (last?.trimmedAtMs ?? record.createdAtMs);
  // A negative difference means that the clock was set back: trim now, and count from now.
  return sinceMs < 0 || sinceMs >= periodicTrimIntervalMs - spreadOf(record.id);
}

function spreadOf(id: string): number {
  return createHash('sha256').update(id).digest().readUInt32BE(0) % spreadMs;
}

async function readLastTrim(
  deps: PeriodicTrimDeps,
  pool: Pool,
  volume: MountedThinVolume,
): Promise<LastTrimRecord | undefined> {
  try {
    return await readRecord(deps.host.files, lastTrimRecord, lastTrimPath(pool, volume));
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) {
      const problem = messageOf(error);
      const volumeId = volume.record.id;
      deps.log.warn({ volumeId, problem }, 'the time of the last trim could not be read');
    }
    return undefined;
  }
}

async function recordTrim(
  deps: PeriodicTrimDeps,
  pool: Pool,
  trimmed: { readonly volume: MountedThinVolume; readonly last: LastTrimRecord | undefined },
): Promise<void> {
  const { volume, last } = trimmed;
  const value = { ...last, schemaVersion: 1 as const, trimmedAtMs: deps.now() };
  try {
    await writeRecord(deps.host.files, lastTrimPath(pool, volume), {
      schema: lastTrimRecord,
      value,
      durable: false,
    });
  } catch (error) {
    const problem = messageOf(error);
    deps.log.warn(
      { volumeId: volume.record.id, problem },
      'the time of a trim could not be recorded',
    );
  }
}

function lastTrimPath(pool: Pool, { area, record }: MountedThinVolume): string {
  return pool.pathOf(area, record.id, entryFiles.lastTrim);
}
