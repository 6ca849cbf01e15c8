/** The result of a test run. */
export interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

export const noTests: Counts = { passed: 0, failed: 0, skipped: 0 };

export function addCounts(a: Counts, b: Counts): Counts {
  return {
    passed: a.passed + b.passed,
    failed: a.failed + b.failed,
    skipped: a.skipped + b.skipped,
  };
}

/** Lines of TAP that are not worth showing. */
export function isNoise(line: string): boolean {
  return /^(?:TAP version .*|1\.\.\d+|# (?:tests|pass|skip|fail) \d+|\s*)$/.test(line);
}

/** A TAP comment of test/conformance/sanity.test.ts. */
const sanitySummary = /^#\s+csi-sanity: (\d+) passed, (\d+) failed, (\d+) skipped/;

/**
 * Counts one line of a suite's output: a test point of TAP, or the summary of csi-sanity. The three numbers of that summary exclude
 * specs that are expected to fail.
 */
export function countLine(line: string): Counts {
  if (line.startsWith('not ok ')) return { ...noTests, failed: 1 };
  if (line.startsWith('ok ')) {
    return line.endsWith('# SKIP') ? { ...noTests, skipped: 1 } : { ...noTests, passed: 1 };
  }
  const [passed = 0, failed = 0, skipped = 0] =
    sanitySummary.exec(line)?.slice(1).map(Number) ?? [];
  return { passed, failed, skipped };
}

/**
 * Adds a failure if the runner failed without a failed test or ran no test at all, so that such a suite is not green. `exitCode` is
 * null if a signal ended the runner.
 */
export function judge(counted: Counts, exitCode: number | null): Counts {
  const silentFailure = exitCode !== 0 && counted.failed === 0;
  const ranNothing = counted.passed + counted.failed === 0;
  return silentFailure || ranNothing ? { ...counted, failed: counted.failed + 1 } : counted;
}

/** The last line, which CI reads: `12 passed, 0 failed, 3 skipped`. */
export function formatCounts({ passed, failed, skipped }: Counts): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`;
}
