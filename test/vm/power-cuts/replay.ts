/** The states of the disk that a log contains, and the disk in each of them. */
import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import type { LogEntry } from './log-writes.ts';

/**
 * The minimum that a power cut leaves at any instant between two flushes: all entries up to `upTo`. Marks with a smaller index
 * than `until` were written before the next flush or FUA write.
 */
export interface DiskState {
  /** Index of the flush or FUA write that made it. */
  readonly upTo: number;
  /** Index of the flush or FUA write that made the next state, or the number of entries. */
  readonly until: number;
}

/** The states of a log, with a number for the report. */
export interface Plan {
  readonly states: readonly DiskState[];
  /** The number of flushes and FUA writes, including those that changed nothing. */
  readonly commits: number;
}

/** The states after the mark `from`; a flush without a preceding write makes no state. Throws if there is no such mark. */
export function planStates(entries: readonly LogEntry[], from: string): Plan {
  const start = entries.find(({ mark }) => mark === from);
  if (start === undefined) throw new Error(`the log has no mark '${from}'`);
  const made: number[] = [];
  let commits = 0;
  let isChanged = true;
  for (const entry of entries.slice(start.index + 1)) {
    if (entry.lengthBytes > 0) isChanged = true;
    if (!entry.isFlush && !entry.isFua) continue;
    commits += 1;
    if (isChanged) made.push(entry.index);
    isChanged = false;
  }
  const states = made.map((upTo, at) => ({ upTo, until: made[at + 1] ?? entries.length }));
  return { states, commits };
}

/**
 * The distance to the next state to check, so that the remaining checks are evenly spaced and fit the time; the last state is
 * always checked. `left` is the number of states after the one that was checked last.
 */
export function strideFor(progress: {
  readonly left: number;
  readonly checked: number;
  readonly spentMs: number;
  readonly boundMs: number | undefined;
}): number {
  const { left, checked, spentMs, boundMs } = progress;
  if (boundMs === undefined || left === 0) return 1;
  const affordable = Math.max(1, Math.floor(((boundMs - spentMs) * checked) / spentMs));
  return Math.min(left, Math.ceil(left / affordable));
}

const chunkBytes = 64 * 1024;
const zeros = Buffer.alloc(chunkBytes);

/** A disk in memory that starts as zeros. Only written chunks take memory. */
export class ReplayedDisk {
  readonly #sizeBytes: number;
  readonly #chunks = new Map<number, Buffer>();

  constructor(sizeBytes: number) {
    this.#sizeBytes = sizeBytes;
  }

  /** Applies an entry to the disk; `data` is used for a write only. */
  apply(entry: LogEntry, data: Buffer): void {
    const { offsetBytes, lengthBytes } = entry;
    if (offsetBytes + lengthBytes > this.#sizeBytes) {
      throw new Error(
        `entry ${entry.index} ends at ${offsetBytes + lengthBytes}, beyond the disk's ${this.#sizeBytes}`,
      );
    }
    for (let done = 0; done < lengthBytes; ) {
      const chunk = Math.floor((offsetBytes + done) / chunkBytes);
      const within = (offsetBytes + done) % chunkBytes;
      const length = Math.min(chunkBytes - within, lengthBytes - done);
      this.#put(chunk, {
        within,
        data: entry.isDiscard ? zeros.subarray(0, length) : data.subarray(done, done + length),
      });
      done += length;
    }
  }

  #put(chunk: number, { within, data }: { within: number; data: Buffer }): void {
    if (data.length === chunkBytes && data.equals(zeros)) {
      this.#chunks.delete(chunk);
      return;
    }
    const there = this.#chunks.get(chunk) ?? Buffer.alloc(chunkBytes);
    data.copy(there, within);
    this.#chunks.set(chunk, there);
  }

  /** Writes the content of the disk to a sparse file. */
  writeTo(path: string): void {
    const file = openSync(path, 'w', 0o600);
    try {
      ftruncateSync(file, this.#sizeBytes);
      for (const [chunk, bytes] of this.#chunks) {
        const offset = chunk * chunkBytes;
        const length = Math.min(chunkBytes, this.#sizeBytes - offset);
        const written = writeSync(file, bytes, 0, length, offset);
        if (written !== length) throw new Error(`${path}: ${written} of ${length} bytes written`);
      }
    } finally {
      closeSync(file);
    }
  }
}
