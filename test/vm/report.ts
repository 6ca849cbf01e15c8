/** The test points of one suite, from the machine and from the host, as lines of TAP. */
import {
  addCounts,
  type Counts,
  countLine,
  isNoise,
  zeroCounts,
} from '../../scripts/test-counts.ts';

export class Report {
  #counts: Counts = zeroCounts;
  readonly #skippedTests: string[] = [];
  readonly #print: (line: string) => void;

  constructor(print: (line: string) => void) {
    this.#print = print;
  }

  get counts(): Counts {
    return this.#counts;
  }

  /** Tests that were skipped, without the specs that csi-sanity skips, which have documented reasons. */
  get skippedTests(): readonly string[] {
    return this.#skippedTests;
  }

  /** Counts a line of TAP, and prints it. Any other line is only printed. */
  line(text: string): void {
    this.#counts = addCounts(this.#counts, countLine(text));
    if (text.startsWith('ok ') && text.endsWith('# SKIP')) this.#skippedTests.push(text);
    if (!isNoise(text)) this.#print(text);
  }

  passed(name: string): void {
    this.line(`ok ${this.#nextNumber()} - ${name}`);
  }

  /** `reason` may have several lines. */
  failed(name: string, reason: string): void {
    this.line(`not ok ${this.#nextNumber()} - ${name}`);
    for (const line of reason.split('\n')) this.line(`#   ${line}`);
  }

  #nextNumber(): number {
    const { passed, failed, skipped } = this.#counts;
    return passed + failed + skipped + 1;
  }
}
