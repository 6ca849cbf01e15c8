/**
 * Kills the driver at every step.
 *
 *   npm run test:crash                  every moment of every operation, then random moments for five minutes
 *   npm run test:crash -- --sample      every fault point once, then random moments for half a minute (CI)
 *   npm run test:crash -- --only TEXT   the rows whose name contains the text, all their moments, no random ones
 *   npm run test:crash -- --seed N      other random moments
 *   npm run test:crash -- --write FILE  also writes a table of all kills to FILE, as Markdown
 */
import { spawnSync } from 'node:child_process';
import { readlinkSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { outsideVariable } from './wrapped-programs.ts';

const { values } = parseArgs({
  options: {
    sample: { type: 'boolean', default: false },
    only: { type: 'string', default: '' },
    seed: { type: 'string', default: '' },
    write: { type: 'string', default: '' },
    tap: { type: 'boolean', default: false },
  },
});
const root = join(import.meta.dirname, '..', '..', '..');
const { status } = spawnSync(
  process.execPath,
  [
    '--enable-source-maps',
    join(root, 'dist', 'scripts', 'run-files.js'),
    '--timeout=20m',
    ...(values.tap ? ['--tap'] : []),
    ...(values.only === ''
      ? ['dist/test/crash/matrix.test.js', 'dist/test/crash'] // The matrix takes longest.
      : ['dist/test/crash/matrix.test.js', 'dist/test/crash/programs.test.js']),
  ],
  {
    cwd: root,
    stdio: 'inherit',
    env: {
      ...process.env,
      LOOPCSI_CRASH: values.sample ? 'sample' : 'whole',
      LOOPCSI_CRASH_WRITE: values.write === '' ? '' : resolve(values.write),
      LOOPCSI_CRASH_ONLY: values.only,
      LOOPCSI_CRASH_SEED: values.seed,
      [outsideVariable]: readlinkSync('/proc/self/ns/mnt'),
    },
  },
);
process.exitCode = status ?? 1;
