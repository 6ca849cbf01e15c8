/** Shows that the checks can fail: each deliberate defect of the driver is recorded in its own machine and must be detected. */
import { readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { projectRoot } from '../../e2e/cluster/cache.ts';
import { compiled } from '../../mutants/compiled.ts';
import { type Defect, mutated } from '../../mutants/defect.ts';
import type { SuiteContext } from '../suite.ts';
import { checkRecording } from './check-recording.ts';
import { defects } from './defects.ts';
import { disksOfRecordings, recordingDisks } from './recording.ts';
import { replacing } from './replaced-module.ts';
import { findScratch } from './scratch.ts';

/** The defects are in the driver, so one filesystem suffices. */
const type = 'ext4';

export async function reportDefects(context: SuiteContext): Promise<void> {
  // A defect that no longer matches the driver fails here, before any machine boots.
  for (const defect of defects) await moduleWith(defect);
  for (const defect of defects) {
    const log = await recordWith(defect, context);
    const seen = await checkRecording(
      { log, facts: join(context.out, `${type}.json`) },
      {
        scratch: await findScratch(),
        signal: context.signal,
        endsAtFailure: true,
        say: (line) => context.report.line(`# ${line}`),
      },
    );
    const name = `${defect.name}: detected in state ${seen.checked} of ${seen.states}`;
    if (seen.failed > 0) context.report.passed(name);
    else context.report.failed(defect.name, `none of ${seen.checked} states shows it`);
  }
}

/** Boots a machine whose driver has that defect; returns the log of its work. */
async function recordWith(defect: Defect, context: SuiteContext): Promise<string> {
  for (const { name, bytes } of disksOfRecordings) {
    // A log is replayed on a disk of zeros.
    const image = context.imageOf(name);
    await rm(image, { force: true });
    await writeFile(image, '');
    await truncate(image, Number(bytes));
  }
  const boot = await context.boot({
    program: 'record-power-cuts',
    args: ['1', type],
    environment: replacing({
      file: defect.file.replace(/\.ts$/, '.js'),
      text: await moduleWith(defect),
    }),
  });
  const end = await boot.ended;
  if (end.kind !== 'job-ended' || end.exitCode !== 0) {
    throw new Error(`${defect.name}: nothing was recorded: ${JSON.stringify(end)}`);
  }
  return context.imageOf(recordingDisks(type).log);
}

/** The compiled module of the driver with that defect in it. */
async function moduleWith(defect: Defect): Promise<string> {
  const source = await readFile(join(projectRoot, 'src', defect.file), 'utf8');
  return compiled(mutated(source, defect));
}
