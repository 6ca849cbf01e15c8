/** Numbers of tests by result. */
export interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

export const zeroCounts: Counts = { passed: 0, failed: 0, skipped: 0 };

export function addCounts(a: Counts, b: Counts): Counts {
  return {
    passed: a.passed + b.passed,
    failed: a.failed + b.failed,
    skipped: a.skipped + b.skipped,
  };
}

/** Whether a line of TAP is only a header, a plan, a total or blank. */
export function isNoise(line: string): boolean {
  return /^(?:TAP version .*|1\.\.\d+|# (?:tests|pass|skip|fail) \d+|\s*)$/.test(line);
}

/** Matches the TAP comment in which test/conformance/run-sanity.ts reports the results of csi-sanity. */
const sanitySummary = /^#\s+csi-sanity: (\d+) passed, (\d+) failed, (\d+) skipped/;

/**
 * Counts the tests that one line of a suite's output reports: a TAP test point is one test, and the summary of csi-sanity contains
 * three totals, which exclude specs that are expected to fail.
 */
export function countLine(line: string): Counts {
  if (line.startsWith('not ok ')) return { ...zeroCounts, failed: 1 };
  if (line.startsWith('ok ')) {
    return line.endsWith('# SKIP') ? { ...zeroCounts, skipped: 1 } : { ...zeroCounts, passed: 1 };
  }
  const [passed = 0, failed = 0, skipped = 0] =
    sanitySummary.exec(line)?.slice(1).map(Number) ?? [];
  return { passed, failed, skipped };
}

/**
 * Adds a failure if the test runner failed although no test failed, or if it ran no tests, so that the suite does not pass.
 * `exitCode` is null if a signal ended the runner.
 */
export function withRunnerFailure(counted: Counts, exitCode: number | null): Counts {
  const silentFailure = exitCode !== 0 && counted.failed === 0;
  const ranNothing = counted.passed + counted.failed === 0;
  return silentFailure || ranNothing ? { ...counted, failed: counted.failed + 1 } : counted;
}

/** Formats the line that .ci/run parses: `12 passed, 0 failed, 3 skipped`. */
export function formatCounts({ passed, failed, skipped }: Counts): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`;
}
