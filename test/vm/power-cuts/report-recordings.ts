import { access, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../../scripts/command.ts';
import type { SuiteContext } from '../suite.ts';
import { type CheckedRecording, checkRecording } from './check-recording.ts';
import { poolFilesystems, recordingDisks } from './recording.ts';
import { findScratch } from './scratch.ts';

/** The time for the checks of a recording in the sample. */
const sampleMs = 60_000;
/** A directory that recordings are copied to, so that a state can be checked again (check-kept.ts). */
const keepVariable = 'LOOPCSI_KEEP_RECORDINGS';

/** Checks every recording that the machine wrote, and reports one test point for each. */
export async function reportRecordings(context: SuiteContext): Promise<void> {
  const { out, report, signal } = context;
  let states = 0;
  for (const type of poolFilesystems) {
    const facts = join(out, `${type}.json`);
    if (!(await exists(facts))) continue;
    const log = context.imageOf(recordingDisks(type).log);
    await keep([log, facts]);
    const startedAtMs = performance.now();
    const seen = await checkRecording(
      { log, facts },
      {
        scratch: await findScratch(),
        signal,
        boundMs: context.isSample ? sampleMs : undefined,
        say: (line) => report.line(`# ${line}`),
      },
    );
    const seconds = Math.round((performance.now() - startedAtMs) / 1000);
    const name = `a pool on ${type} after each flush: ${describe(seen)} in ${seconds} s`;
    if (seen.failed === 0 && seen.checked > 0) report.passed(name);
    else report.failed(name, `${seen.failed} states failed a check`);
    states += seen.checked;
  }
  report.line(`# ${states} states were checked in total`);
}

export function describe(seen: CheckedRecording): string {
  const { checked, states, calls, commits, entries } = seen;
  return (
    `${checked} of ${states} states checked ` +
    `(${calls} calls, ${commits} flushes and FUA writes, ${entries} entries of the log)`
  );
}

async function keep(files: readonly string[]): Promise<void> {
  const directory = process.env[keepVariable];
  if (directory === undefined) return;
  await mkdir(directory, { recursive: true });
  // cp(1): the log is a sparse file.
  for (const file of files) await run('cp', ['--sparse=always', file, directory]);
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
