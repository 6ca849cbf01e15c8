import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';

const script = join(import.meta.dirname, '..', '..', '..', 'helpers', 'hung-calls.js');

for (const hung of [4, 40]) {
  test(`${hung} hung calls block neither file operations nor other lanes, and end when they return`, async (t) => {
    const directory = await mkdtemp(join(tmpdir(), 'loopcsi-hung-'));
    try {
      const { stdout } = await promisify(execFile)(
        process.execPath,
        [script, directory, String(hung)],
        {
          env: { PATH: '/usr/bin:/bin', UV_THREADPOOL_SIZE: '64' },
          timeout: 30_000,
        },
      );
      const { files, kernel, ...outcome } = JSON.parse(stdout) as Record<string, number | boolean>;
      t.deepEqual(outcome, { stuck: hung, stuckLanes: hung, refused: true, closedLate: hung });
      t.true(
        Number(files) < 1000 && Number(kernel) < 1000,
        `${String(files)} ms, ${String(kernel)} ms`,
      );
    } finally {
      await rm(directory, { recursive: true });
    }
  });
}

test('descriptors and locks of hung calls stay open until the calls return', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-hung-'));
  const program = join(import.meta.dirname, '..', '..', '..', 'helpers', 'hung-descriptors.js');
  try {
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ['--expose-gc', program, directory],
      { env: { PATH: '/usr/bin:/bin', UV_THREADPOOL_SIZE: '64' }, timeout: 30_000 },
    );
    t.deepEqual(JSON.parse(stdout), {
      refused: 5,
      meanwhile: 5,
      afterwards: 0,
      again: true,
      warnings: [],
    });
  } finally {
    await rm(directory, { recursive: true });
  }
});
