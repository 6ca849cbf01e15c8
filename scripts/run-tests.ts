/**
 * Runs test suites one after another and adds up their results.
 *
 *   node dist/scripts/run-tests.js [SUITE...]       default: unit integration conformance
 *
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

async function runSuite(suite: string): Promise<Counts> {
  const startedAtMs = Date.now();
  console.log(`\n== ${suite}`);
  const child = spawn('npm', ['run', '--silent', `test:${suite}`, '--', '--tap'], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const closed = once(child, 'close');
  let counted = zeroCounts;
  for await (const line of createInterface({ input: child.stdout })) {
    counted = addCounts(counted, countLine(line));
    if (!isNoise(line)) console.log(line);
  }
  await closed;
  const result = withRunnerFailure(counted, child.exitCode);
  const seconds = Math.round((Date.now() - startedAtMs) / 1000);
  console.log(`== ${suite}: ${formatCounts(result)} in ${seconds} s`);
  if (result.failed > counted.failed) {
    const status = child.exitCode ?? child.signalCode ?? 'no status';
    console.log(`== ${suite}: the test runner ended with ${status}, which counts as one failure`);
  }
  return result;
}

let total = zeroCounts;
const suites = process.argv.slice(2);
for (const suite of suites.length > 0 ? suites : ['unit', 'integration', 'conformance']) {
  total = addCounts(total, await runSuite(suite));
}
console.log(`\n${formatCounts(total)}`);
process.exitCode = total.failed > 0 ? 1 : 0;
