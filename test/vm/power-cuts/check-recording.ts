/** Replays a recording once, from the first write to the last, and checks the disk in as many states as the time permits. */
import { type FileHandle, open, readFile } from 'node:fs/promises';
import { makeRealHost } from '../../../src/host/real-host.ts';
import {
  type ChangeMark,
  changeMarks,
  type Expected,
  expectedIn,
  formattedMark,
  type Recording,
} from './acknowledgements.ts';
import { brokenIn } from './check.ts';
import { type LogEntry, readData, readEntries } from './log-writes.ts';
import { type DiskState, planStates, ReplayedDisk, strideFor } from './replay.ts';

export interface RecordingFiles {
  readonly log: string;
  readonly facts: string;
}

export interface RecordingCheck {
  readonly scratch: string;
  /** The time for the check. If undefined, every state is checked. */
  readonly boundMs?: number | undefined;
  /** Only these states, including the last one; to check failed states again. */
  readonly range?: { readonly first: number; readonly last: number } | undefined;
  /** The check ends at the first failed state. Otherwise it ends after 20, since more add no information. */
  readonly endsAtFailure?: boolean;
  readonly say: (line: string) => void;
  readonly signal: AbortSignal;
}

export interface CheckedRecording {
  readonly calls: number;
  readonly entries: number;
  /** Flushes and FUA writes. */
  readonly commits: number;
  readonly states: number;
  readonly checked: number;
  readonly failed: number;
}

const failuresTold = 20;
/** Progress is printed after this number of states, since the check takes minutes. */
const progressEvery = 200;
/** In one of this number of states all volumes and snapshots are read, and not only those that the current calls concern. */
const wholeEvery = 25;

export async function checkRecording(
  files: RecordingFiles,
  options: RecordingCheck,
): Promise<CheckedRecording> {
  // Written by the recorder of the same build.
  const recording = JSON.parse(await readFile(files.facts, 'utf8')) as Recording;
  const log = await open(files.log);
  try {
    const entries = await readEntries(log);
    const { states, commits } = planStates(entries, formattedMark);
    const marks = changeMarks(entries, recording.changes);
    const checker = new Checker({ log, entries, recording, marks, options });
    const { checked, failed } = await checker.run(states);
    return {
      calls: recording.changes.length,
      entries: entries.length,
      commits,
      states: states.length,
      checked,
      failed,
    };
  } finally {
    await log.close();
  }
}

interface CheckerParts {
  readonly log: FileHandle;
  readonly entries: readonly LogEntry[];
  readonly recording: Recording;
  readonly marks: readonly ChangeMark[];
  readonly options: RecordingCheck;
}

class Checker {
  readonly #parts: CheckerParts;
  readonly #disk: ReplayedDisk;
  readonly #host = makeRealHost();
  #applied = 0;

  constructor(parts: CheckerParts) {
    this.#parts = parts;
    this.#disk = new ReplayedDisk(parts.recording.poolBytes);
  }

  async run(states: readonly DiskState[]): Promise<{ checked: number; failed: number }> {
    const { boundMs, range, signal, say, endsAtFailure = false } = this.#parts.options;
    const failuresBound = endsAtFailure ? 1 : failuresTold;
    const startedAtMs = performance.now();
    let checked = 0;
    let failed = 0;
    const end = range === undefined ? states.length : Math.min(range.last + 1, states.length);
    for (let at = range?.first ?? 0; at < end && failed < failuresBound; ) {
      signal.throwIfAborted();
      const isAll = checked % wholeEvery === 0 || at === end - 1;
      if (!(await this.#isRight(states, at, isAll))) failed += 1;
      checked += 1;
      if (checked % progressEvery === 0)
        say(`${checked} states checked, at ${at} of ${states.length}`);
      const spentMs = performance.now() - startedAtMs;
      at += strideFor({ left: end - at - 1, spentMs, checked, boundMs });
    }
    return { checked, failed };
  }

  async #isRight(states: readonly DiskState[], at: number, all: boolean): Promise<boolean> {
    const { recording, marks, options } = this.#parts;
    const state = states[at];
    if (state === undefined) throw new Error(`there is no state ${at} of ${states.length}`);
    await this.#applyUpTo(state.upTo);
    const expected = expectedIn(marks, state);
    const { scratch, say } = options;
    const { poolFilesystem: filesystem } = recording;
    const problems = await brokenIn(this.#disk, expected, {
      scratch,
      filesystem,
      host: this.#host,
      all,
    });
    if (problems.length === 0) return true;
    say(`${filesystem} state ${at}, after entry ${state.upTo}, ${describe(expected)}:`);
    for (const problem of problems) say(`    ${problem}`);
    return false;
  }

  async #applyUpTo(last: number): Promise<void> {
    const { log, entries } = this.#parts;
    for (; this.#applied <= last; this.#applied += 1) {
      const entry = entries[this.#applied];
      if (entry === undefined || entry.lengthBytes === 0) continue;
      const data = entry.isDiscard ? Buffer.alloc(0) : await readData(log, entry);
      this.#disk.apply(entry, data);
    }
  }
}

function describe({ touched }: Expected): string {
  return touched.size === 0 ? 'between calls' : `in calls about ${[...touched].join(', ')}`;
}
