import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { slownessVariable } from '../../helpers/slowness.ts';
import { findSuites } from '../../vm/find-suites.ts';
import { Report } from '../../vm/report.ts';
import { jobOf } from '../../vm/run-suite.ts';
import type { Inside } from '../../vm/suite.ts';
import { chosen, excluded } from '../../vm/suites/integration.ts';

const root = join(import.meta.dirname, '..', '..', '..', '..');

const insidesOf = async (): Promise<readonly Inside[]> =>
  (await findSuites()).flatMap((suite) =>
    'drive' in suite ? [] : [suite.inside, ...(suite.sample === undefined ? [] : [suite.sample])],
  );

test('suites have different names, disks that QEMU can name, and time limits', async (t) => {
  const suites = await findSuites();
  t.true(suites.length >= 3);
  t.is(new Set(suites.map(({ name }) => name)).size, suites.length);
  for (const { name, about, minutes, disks = [] } of suites) {
    t.regex(name, /^[a-z][a-z\d-]*$/);
    t.true(about.length > 0 && minutes > 0, name);
    for (const disk of disks) t.regex(disk.name, /^[a-z\d-]{1,20}$/);
  }
});

test('every file that a suite runs exists', async (t) => {
  for (const inside of await insidesOf()) {
    const files = jobOf(inside).argv.filter((word) => word.startsWith('dist/'));
    t.true(files.length > 0);
    for (const file of files) t.true(existsSync(join(root, file)), file);
  }
});

test('an integration test runs in the machine, or is excluded with a reason', (t) => {
  const directory = join(root, 'dist/test/integration');
  const files = readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.test.js'))
    .map((name) => name.replace(/\.test\.js$/, ''));
  t.deepEqual(files.sort(), [...chosen, ...Object.keys(excluded)].sort());
});

test('a program is started with its arguments, test files with AVA one at a time', (t) => {
  const program = jobOf({ program: 'x', args: ['a'], environment: { A: '1' } });
  t.deepEqual(program.argv.slice(-2), ['dist/test/vm/inside/x.js', 'a']);
  t.is(program.environment['A'], '1');
  t.true(Number(program.environment[slownessVariable]) > 1);
  const tests = jobOf({ tests: ['unit/x.test'], match: ['*y*'], idleMinutes: 3 }).argv;
  for (const word of [
    '--tap',
    '--serial',
    '--timeout=3m',
    '--match=*y*',
    'dist/test/unit/x.test.js',
  ]) {
    t.true(tests.includes(word), word);
  }
});

test('a report counts the tests of the machine and of the host', (t) => {
  const printed: string[] = [];
  const report = new Report((line) => printed.push(line));
  for (const line of [
    'TAP version 13',
    '1..2',
    'ok 1 - a',
    'not ok 2 - b',
    'ok 3 - c # SKIP',
    '',
  ]) {
    report.line(line);
  }
  report.passed('d');
  report.failed('e', 'two\nlines');
  report.line('#   csi-sanity: 4 passed, 0 failed, 3 skipped, 1 failed as listed');
  t.deepEqual(report.counts, { passed: 6, failed: 2, skipped: 4 });
  t.deepEqual(report.skippedTests, ['ok 3 - c # SKIP']);
  t.deepEqual(printed, [
    'ok 1 - a',
    'not ok 2 - b',
    'ok 3 - c # SKIP',
    'ok 4 - d',
    'not ok 5 - e',
    '#   two',
    '#   lines',
    '#   csi-sanity: 4 passed, 0 failed, 3 skipped, 1 failed as listed',
  ]);
});
