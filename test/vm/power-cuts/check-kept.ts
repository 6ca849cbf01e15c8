/**
 * Checks a recording that was kept (docs/crash-safety.md): `check-kept DIRECTORY FILESYSTEM [FIRST [LAST]]`. With only FIRST, the
 * number of a state, it checks this state alone.
 */
import { join } from 'node:path';
import { checkRecording } from './check-recording.ts';
import { poolFilesystems, recordingDisks } from './recording.ts';
import { describe } from './report-recordings.ts';
import { findScratch } from './scratch.ts';

const [directory, wanted, first, last = first] = process.argv.slice(2);
const type = poolFilesystems.find((one) => one === wanted);
if (directory === undefined || type === undefined) {
  throw new Error('usage: check-kept DIRECTORY FILESYSTEM [FIRST [LAST]]');
}
const interrupted = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => interrupted.abort(new Error(`ended by ${signal}`)));
}
const seen = await checkRecording(
  {
    log: join(directory, `${recordingDisks(type).log}.img`),
    facts: join(directory, `${type}.json`),
  },
  {
    scratch: await findScratch(),
    signal: interrupted.signal,
    range: first === undefined ? undefined : { first: Number(first), last: Number(last) },
    say: (line) => console.log(line),
  },
);
console.log(`${describe(seen)}, ${seen.failed} failed a check`);
process.exitCode = seen.failed > 0 ? 1 : 0;
