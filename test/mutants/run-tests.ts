import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

/** The result of a run of AVA. */
export interface TestRun {
  /** Titles of tests. */
  readonly passed: ReadonlySet<string>;
  readonly failed: readonly string[];
  /** It was ended at its time limit. */
  readonly isHung: boolean;
  readonly exitCode: number | null;
  readonly seconds: number;
  /** The end of its output. */
  readonly tail: string;
}

const point = /^(not ok|ok) \d+ - (.*?)(?: # SKIP.*)?$/;
/** AVA's prefix of a title when it runs more than one file. */
const prefix = /^.* › /;

/** Runs test files in `directory`, and kills them all at the time limit. */
export async function runTests(
  files: readonly string[],
  options: {
    directory: string;
    scratch: string;
    timeLimitMs: number;
    failFast?: boolean;
    /** Time for a failed test to clean up. */
    graceMs: number;
    /** Called at the time limit. */
    beforeKill: () => Promise<void>;
  },
): Promise<TestRun> {
  const { directory, scratch, timeLimitMs, beforeKill, graceMs, failFast = false } = options;
  const startedAtMs = performance.now();
  const child = spawn(
    process.execPath,
    [
      join(directory, 'node_modules', 'ava', 'entrypoints', 'cli.mjs'),
      '--tap',
      // The time limit below applies: AVA would count every test that waits as failed.
      ...['--timeout', '1h'],
      // The same test fails first each time.
      ...['--serial', '--concurrency', '1'],
      ...(failFast ? ['--fail-fast'] : []),
      ...files,
    ],
    {
      cwd: directory,
      // A process group, so that all processes that it started can be killed.
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, TMPDIR: scratch, LOOPCSI_TEST_SCRATCH: scratch },
    },
  );
  const end = (): void => {
    if (child.pid !== undefined && child.exitCode === null) process.kill(-child.pid, 'SIGKILL');
  };
  process.once('exit', end);
  let isHung = false;
  const timer = setTimeout(() => {
    isHung = true;
    void beforeKill().finally(end);
  }, timeLimitMs);
  let grace: NodeJS.Timeout | undefined;
  const closed = once(child, 'close');
  const [passed, failed, lines] = [new Set<string>(), [] as string[], [] as string[]];
  child.stderr.setEncoding('utf8').on('data', (text: string) => lines.push(text.trimEnd()));
  for await (const line of createInterface({ input: child.stdout })) {
    lines.push(line);
    const [, verdict, description = ''] = point.exec(line) ?? [];
    const title = description.replace(prefix, '');
    if (verdict === 'ok') passed.add(title);
    else if (verdict !== undefined) {
      failed.push(title);
      // A server that the failed test did not close would keep the run alive.
      if (failFast) grace ??= setTimeout(end, graceMs);
    }
  }
  await closed;
  clearTimeout(timer);
  clearTimeout(grace);
  process.off('exit', end);
  const seconds = (performance.now() - startedAtMs) / 1000;
  const tail = lines.slice(-40).join('\n');
  return { passed, failed, isHung, exitCode: child.exitCode, seconds, tail };
}
