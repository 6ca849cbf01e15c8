import { readFileSync } from 'node:fs';
import { hasErrno } from '../errors.ts';
import type { IoCounters } from '../host.ts';

/** The kernel's I/O counters of block devices (Documentation/admin-guide/iostats.rst). Reading them needs no disk I/O. */

const bytesPerSector = 512n;

/** Parses /proc/diskstats: the counters of all loop devices, by number. */
export function parseDiskstats(text: string): ReadonlyMap<number, IoCounters> {
  const all = new Map<number, IoCounters>();
  for (const [, number, fields = ''] of text.matchAll(/^ *7 +\d+ loop(\d+) (.*)$/gm)) {
    all.set(Number(number), parseFields(fields));
  }
  return all;
}

/** Reads the counters of one device from its `stat` file in sysfs; undefined if the device was removed. */
export function readIoCounters(path: string): IoCounters | undefined {
  try {
    return parseFields(readFileSync(path, 'latin1'));
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENODEV')) return undefined;
    throw error;
  }
}

function parseFields(text: string): IoCounters {
  const fields = text.trim().split(/ +/);
  const at = (index: number): number => Number(fields[index] ?? 0);
  const bytesAt = (index: number): bigint => BigInt(fields[index] ?? 0) * bytesPerSector;
  return {
    reads: at(0),
    readBytes: bytesAt(2),
    readMs: at(3),
    writes: at(4),
    writtenBytes: bytesAt(6),
    writeMs: at(7),
    inFlight: at(8),
    busyMs: at(9),
  };
}

export const noIo: IoCounters = {
  reads: 0,
  readBytes: 0n,
  readMs: 0,
  writes: 0,
  writtenBytes: 0n,
  writeMs: 0,
  inFlight: 0,
  busyMs: 0,
};

/**
 * Returns the I/O after `before`. Counters outlive an attachment, so those of an earlier image of the device are
 * subtracted. If fewer requests are counted now, `now` was read before the device was attached.
 */
export function ioCountersSince(before: IoCounters, now: IoCounters): IoCounters {
  if (now.reads < before.reads || now.writes < before.writes) return noIo;
  return {
    reads: now.reads - before.reads,
    readBytes: now.readBytes - before.readBytes,
    readMs: msSince(before.readMs, now.readMs),
    writes: now.writes - before.writes,
    writtenBytes: now.writtenBytes - before.writtenBytes,
    writeMs: msSince(before.writeMs, now.writeMs),
    inFlight: now.inFlight,
    busyMs: msSince(before.busyMs, now.busyMs),
  };
}

/** The kernel shows times as 32-bit numbers, which wrap around. */
function msSince(before: number, now: number): number {
  return now >= before ? now - before : now + 2 ** 32 - before;
}
