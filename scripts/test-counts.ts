/** What a run of tests came to. */
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

/** Whether a line of TAP tells a person nothing. */
export function isChaff(line: string): boolean {
  return /^(?:TAP version .*|1\.\.\d+|# (?:tests|pass|skip|fail) \d+|\s*)$/.test(line);
}

/** Of test/conformance/sanity.test.ts, in a comment of TAP. */
const sanitySummary = /^#\s+csi-sanity: (\d+) passed, (\d+) failed, (\d+) skipped/;

/**
 * What one line of a suite's output adds: a test point of TAP, or what csi-sanity's specs came to. Specs that fail as they are
 * listed to are in none of its three numbers.
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
 * The verdict on a suite that ended with `exitCode` (null: by a signal). A runner that failed
 * without a failed test, or that ran no test at all, counts as one failure: it must not look green.
 */
export function judge(counted: Counts, exitCode: number | null): Counts {
  const silentFailure = exitCode !== 0 && counted.failed === 0;
  const ranNothing = counted.passed + counted.failed === 0;
  return silentFailure || ranNothing ? { ...counted, failed: counted.failed + 1 } : counted;
}

/** The closing line that CI reads: `12 passed, 0 failed, 3 skipped`. */
export function formatCounts({ passed, failed, skipped }: Counts): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`;
}
