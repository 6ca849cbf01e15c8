import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { KernelError } from '../../../../src/host/errors.ts';
import { syncPaths } from '../../../../src/host/kernel/descriptor.ts';
import { driverLane } from '../../../../src/host/lane.ts';

test('an fsync of several files reports the one that failed', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-test-'));
  t.teardown(() => rm(directory, { recursive: true }));
  await t.notThrowsAsync(syncPaths(driverLane, [directory, directory]));
  const gone = join(directory, 'gone');
  const error = await t.throwsAsync(syncPaths(driverLane, [directory, gone, directory]), {
    instanceOf: KernelError,
  });
  t.is(error?.errno, 'ENOENT');
  t.true(error?.message.includes(gone));
});
