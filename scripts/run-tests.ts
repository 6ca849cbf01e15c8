/**
 * Runs test suites one after another and adds up their results.
 *
 *   node dist/scripts/run-tests.js [SUITE...]       default: unit integration conformance
 *
 * Suites that are joined, as in `chart+alerts`, run at the same time, and their outputs are printed one after the other. Each can be
 * several that run in sequence, as in `chart,e2e+alerts`.
 * A suite is the npm script `test:SUITE`, run with AVA's TAP reporter. The last line is `N passed, N failed`. The exit code is 1
 * if a test failed or a suite ran no tests.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import {
  addCounts,
  type Counts,
  countLine,
  formatCounts,
  isNoise,
  withRunnerFailure,
  zeroCounts,
} from './test-counts.ts';

const root = join(import.meta.dirname, '..', '..');

type Print = (line: string) => void;

async function runSuite(suite: string, print: Print): Promise<Counts> {
  const startedAtMs = Date.now();
  print(`\n== ${suite}`);
  const child = spawn('npm', ['run', '--silent', `test:${suite}`, '--', '--tap'], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const closed = once(child, 'close');
  let counted = zeroCounts;
  for await (const line of createInterface({ input: child.stdout })) {
    counted = addCounts(counted, countLine(line));
    if (!isNoise(line)) print(line);
  }
  await closed;
  const result = withRunnerFailure(counted, child.exitCode);
  const seconds = Math.round((Date.now() - startedAtMs) / 1000);
  print(`== ${suite}: ${formatCounts(result)} in ${seconds} s`);
  if (result.failed > counted.failed) {
    const status = child.exitCode ?? child.signalCode ?? 'no status';
    print(`== ${suite}: the test runner ended with ${status}, which counts as one failure`);
  }
  return result;
}

async function runInSequence(suites: readonly string[], print: Print): Promise<Counts> {
  let sum = zeroCounts;
  for (const suite of suites) sum = addCounts(sum, await runSuite(suite, print));
  return sum;
}

/** The output of the first sequence is printed at once, that of each other one after the sequence before it has ended. */
async function runTogether(sequences: readonly string[]): Promise<readonly Counts[]> {
  let before: Promise<unknown> = Promise.resolve();
  const runs = sequences.map((sequence) => {
    const kept: string[] = [];
    let isTurn = false;
    const turn = before.then(() => {
      isTurn = true;
      for (const line of kept) console.log(line);
    });
    const print = (line: string): void => {
      if (isTurn) console.log(line);
      else kept.push(line);
    };
    const run = runInSequence(sequence.split(','), print);
    before = Promise.all([turn, run]);
    return run;
  });
  await before;
  return Promise.all(runs);
}

let total = zeroCounts;
const suites = process.argv.slice(2);
for (const suite of suites.length > 0 ? suites : ['unit', 'integration', 'conformance']) {
  for (const counts of await runTogether(suite.split('+'))) total = addCounts(total, counts);
}
console.log(`\n${formatCounts(total)}`);
process.exitCode = total.failed > 0 ? 1 : 0;
