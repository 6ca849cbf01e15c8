import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

/** What a run of AVA came to. */
export interface TestRun {
  /** Titles of tests. */
  readonly passed: ReadonlySet<string>;
  readonly failed: readonly string[];
  /** It was ended at its bound. */
  readonly isHung: boolean;
  readonly exitCode: number | null;
  readonly seconds: number;
  /** The end of what was said. */
  readonly tail: string;
}

const point = /^(not ok|ok) \d+ - (.*?)(?: # SKIP.*)?$/;
/** What a failed test may take to clean up: devices and mounts, too. */
const graceMs = 20_000;
/** What AVA puts before a title when it runs more than one file. */
const prefix = /^.* › /;

/** Runs files of tests in `directory`, and ends them all at the bound. */
export async function runTests(
  files: readonly string[],
  options: {
    directory: string;
    scratch: string;
    boundMs: number;
    failFast?: boolean;
    /** Called at the bound. */
    beforeKill: () => Promise<void>;
  },
): Promise<TestRun> {
  const { directory, scratch, boundMs, beforeKill, failFast = false } = options;
  const startedAtMs = performance.now();
  const child = spawn(
    process.execPath,
    [
      join(directory, 'node_modules', 'ava', 'entrypoints', 'cli.mjs'),
      '--tap',
      // The bound is ours: AVA would call every test that waits a failed one.
      ...['--timeout', '1h'],
      // So that the same test is the first to fail each time.
      ...['--serial', '--concurrency', '1'],
      ...(failFast ? ['--fail-fast'] : []),
      ...files,
    ],
    {
      cwd: directory,
      // A group of its own, so that it ends with all that it started.
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
  }, boundMs);
  let grace: NodeJS.Timeout | undefined;
  const closed = once(child, 'close');
  const [passed, failed, lines] = [new Set<string>(), [] as string[], [] as string[]];
  child.stderr.setEncoding('utf8').on('data', (text: string) => lines.push(text.trimEnd()));
  for await (const line of createInterface({ input: child.stdout })) {
    lines.push(line);
    const [, verdict, words = ''] = point.exec(line) ?? [];
    const title = words.replace(prefix, '');
    if (verdict === 'ok') passed.add(title);
    else if (verdict !== undefined) {
      failed.push(title);
      // Enough is known; a server that the failed test did not close would keep the run alive.
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
