import test from 'ava';
import { countLine, formatCounts, withRunnerFailure } from '../../../scripts/test-counts.ts';

const lines = [
  { line: 'ok 4 - ids › a name is kept', expect: '1 passed, 0 failed' },
  { line: 'not ok 3 - ids › bad', expect: '0 passed, 1 failed' },
  {
    line: 'not ok 8 - dist/test/x.test.js exited with a non-zero exit code: 1',
    expect: '0 passed, 1 failed',
  },
  { line: 'ok 1 - loop › attach (needs root) # SKIP', expect: '0 passed, 0 failed, 1 skipped' },
  {
    line: '#   csi-sanity: 83 passed, 0 failed, 19 skipped, 1 failed as listed',
    expect: '83 passed, 0 failed, 19 skipped',
  },
  {
    line: '#   csi-sanity: 3 passed, 2 failed, 2 skipped, 0 failed as listed',
    expect: '3 passed, 2 failed, 2 skipped',
  },
  {
    line: 'ok 5 - csi-sanity: 7 passed, 0 failed, 0 skipped',
    expect: '1 passed, 0 failed',
  },
  { line: '# pass 4', expect: '0 passed, 0 failed' },
  { line: '    message: ok 1 - quoted', expect: '0 passed, 0 failed' },
] as const;
for (const { line, expect } of lines) {
  test(`countLine: ${JSON.stringify(line)}`, (t) => {
    t.is(formatCounts(countLine(line)), expect);
  });
}

const verdicts = [
  { name: 'all passed', counted: [3, 0, 1], exitCode: 0, expect: [3, 0, 1] },
  { name: 'failures are counted once', counted: [3, 2, 0], exitCode: 1, expect: [3, 2, 0] },
  {
    name: 'a runner that failed without a failed test',
    counted: [3, 0, 0],
    exitCode: 1,
    expect: [3, 1, 0],
  },
  { name: 'a runner ended by a signal', counted: [3, 0, 0], exitCode: null, expect: [3, 1, 0] },
  { name: 'no test at all', counted: [0, 0, 0], exitCode: 0, expect: [0, 1, 0] },
  { name: 'everything skipped', counted: [0, 0, 9], exitCode: 0, expect: [0, 1, 9] },
] as const;
for (const { name, counted, exitCode, expect } of verdicts) {
  test(`withRunnerFailure: ${name}`, (t) => {
    const [passed, failed, skipped] = counted;
    const result = withRunnerFailure({ passed, failed, skipped }, exitCode);
    t.deepEqual([result.passed, result.failed, result.skipped], [...expect]);
  });
}
