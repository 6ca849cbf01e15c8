import { createHash } from 'node:crypto';
import { messageOf } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import type { Host } from '../../host/host.ts';
import type { Logger } from '../../observe/log.ts';
import { LaterVersionError } from '../../state/decode.ts';
import {
  type LastTrimRecord,
  lastTrimRecord,
  readRecord,
  type VolumeRecord,
  writeRecord,
} from '../../state/records.ts';
import { entryFiles, type VolumeArea } from '../pool/layout.ts';
import type { Pool } from '../pool/pool.ts';
import { periodicTrimIntervalMs } from '../pool/thresholds.ts';

/**
 * Volumes that were created or trimmed at the same time are trimmed at different times within this span. The offset of a volume is
 * constant.
 */
const spreadMs = 3_600_000;
/** Number of volumes whose last trim is kept in memory for metrics. */
const maxSeen = 10_000;

interface ClockDeps {
  readonly host: Host;
  readonly log: Logger;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

export interface TimedVolume {
  readonly record: VolumeRecord;
  readonly area: VolumeArea;
}

/**
 * The times of the last trims, in the `trim.json` of each volume: a driver that is restarted every day trims too. If the file
 * cannot be used, because a later version of the driver wrote it or the disk fails, this process remembers the time instead.
 */
export class TrimClock {
  readonly #remembered = new Map<string, number>();
  /** Times that were read or written, for metrics. */
  readonly #seen = new Map<string, number>();

  /** The time of the last trim, in milliseconds since the epoch, as far as this process has read or recorded it. */
  lastSeenMs(volumeId: string): number | undefined {
    return this.#seen.get(volumeId);
  }

  /** Whether the last trim of the volume, or its creation, was a day ago by the clock. */
  async isDue(deps: ClockDeps, pool: Pool, volume: TimedVolume): Promise<boolean> {
    const { id, createdAtMs } = volume.record;
    const last = await readLastTrim(deps, pool, volume);
    const recordedMs = last instanceof Error ? undefined : last?.trimmedAtMs;
    if (recordedMs !== undefined) this.#see(id, recordedMs);
    const sinceMs = deps.now() - (this.#remembered.get(id) ?? recordedMs ?? createdAtMs);
    // A negative difference means that the clock was set back: trim now, and count from now.
    return sinceMs < 0 || sinceMs >= periodicTrimIntervalMs - spreadOf(id);
  }

  /** Records that the volume was trimmed now. Keeps a record of a later version unchanged. Never throws. */
  async record(deps: ClockDeps, pool: Pool, volume: TimedVolume): Promise<void> {
    const { id } = volume.record;
    const trimmedAtMs = deps.now();
    this.#see(id, trimmedAtMs);
    const last = await readLastTrim(deps, pool, volume);
    if (last instanceof LaterVersionError) {
      this.#remembered.set(id, trimmedAtMs);
      return;
    }
    // A record that is damaged contains nothing that is worth more than the new time.
    const fields = last instanceof Error ? {} : last;
    const value = { ...fields, schemaVersion: 1 as const, trimmedAtMs };
    const record = { schema: lastTrimRecord, value, durable: false };
    try {
      await writeRecord(deps.host.files, lastTrimPath(pool, volume), record);
      this.#remembered.delete(id);
    } catch (error) {
      this.#remembered.set(id, trimmedAtMs);
      const problem = messageOf(error);
      deps.log.warn({ volumeId: id, problem }, 'the time of a trim could not be recorded');
    }
  }

  #see(volumeId: string, atMs: number): void {
    // Deleted volumes are not removed one by one: the oldest entries make place.
    this.#seen.delete(volumeId);
    this.#seen.set(volumeId, atMs);
    const [oldest] = this.#seen.keys();
    if (this.#seen.size > maxSeen && oldest !== undefined) this.#seen.delete(oldest);
  }
}

function spreadOf(id: string): number {
  return createHash('sha256').update(id).digest().readUInt32BE(0) % spreadMs;
}

/** Returns undefined if there is no record, and the error of a record that cannot be read. */
async function readLastTrim(
  { host, log }: ClockDeps,
  pool: Pool,
  volume: TimedVolume,
): Promise<LastTrimRecord | Error | undefined> {
  try {
    return await readRecord(host.files, lastTrimRecord, lastTrimPath(pool, volume));
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined;
    const problem = messageOf(error);
    log.warn(
      { volumeId: volume.record.id, problem },
      'the time of the last trim could not be read',
    );
    return error instanceof Error ? error : new Error(problem);
  }
}

function lastTrimPath(pool: Pool, { area, record }: TimedVolume): string {
  return pool.pathOf(area, record.id, entryFiles.lastTrim);
}
