/**
 * Runs test files that use this machine's devices and mounts.
 *
 *   node dist/scripts/run-files.js [FLAG...] FOLDER|FILE...
 *
 * Each file runs in its own AVA process and its own mount namespace, three files at a time. After these, the files in folders named
 * `alone` run one at a time, because they need the machine for themselves; the first comment of each says why. The output of a file
 * is printed when it has ended. A file that is named before its folder starts first. Flags are passed to AVA. The exit code is 1 if
 * a test failed or a file could not be run.
 */
import { readdir, stat } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { execa } from 'execa';
import { mapConcurrently } from '../src/async.ts';
import { planFiles } from './test-plan.ts';

const root = join(import.meta.dirname, '..', '..');
const ava = join(root, 'node_modules', 'ava', 'entrypoints', 'cli.mjs');

/** For two processors: the tests of one file mostly wait, for disks, for time limits, and for processes that they start. */
const filesAtATime = 3;

const flags = process.argv.slice(2).filter((word) => word.startsWith('-'));
const paths = process.argv.slice(2).filter((word) => !word.startsWith('-'));

/** After a signal, no further file is started, and the output of those that run is still printed. */
const interrupted = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => interrupted.abort());
}

/** The test files at the path, relative to the project, with their sizes. */
async function filesAt(path: string): Promise<readonly { path: string; bytes: number }[]> {
  const at = join(root, path);
  const names = path.endsWith('.js') ? [''] : await readdir(at, { recursive: true });
  const found = names.map((name) => join(at, name)).filter((one) => one.endsWith('.test.js'));
  return Promise.all(
    found.map(async (file) => ({ path: relative(root, file), bytes: (await stat(file)).size })),
  );
}

async function runFile(file: string): Promise<void> {
  if (interrupted.signal.aborted) return;
  const startedAtMs = Date.now();
  // Other files may not see the mounts: every new mount namespace copies those that its creator sees, and a copy keeps a device in use.
  const { all, exitCode } = await execa(
    'unshare',
    ['--mount', process.execPath, ava, '--serial', ...flags, file],
    {
      cwd: root,
      all: true,
      stdin: 'ignore',
      reject: false,
      maxBuffer: 64 * 1024 * 1024,
      cancelSignal: interrupted.signal,
      env: { FORCE_COLOR: process.stdout.isTTY ? '1' : '0' },
    },
  );
  const seconds = Math.round((Date.now() - startedAtMs) / 1000);
  process.stdout.write(`# ${file}: ${seconds} s\n${all}\n`);
  if (exitCode !== 0) process.exitCode = 1;
}

const { together, alone } = planFiles(await Promise.all(paths.map(filesAt)));
if (together.length + alone.length === 0) throw new Error(`no test file is in ${paths.join(', ')}`);
await mapConcurrently(together, filesAtATime, runFile);
await mapConcurrently(alone, 1, runFile);
