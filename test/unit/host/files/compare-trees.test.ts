import { mkdir, mkdtemp, rm, truncate, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { findTreeDifference } from '../../../../src/host/files/compare-trees.ts';
import { driverLane } from '../../../../src/host/lane.ts';
import { MiB } from '../../../../src/units.ts';

test('an abort ends the comparison within a large file', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-compare-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const [from, to] = [join(directory, 'from'), join(directory, 'to')];
  for (const path of [from, to]) {
    await mkdir(path);
    await writeFile(join(path, 'large'), Buffer.alloc(Number(8n * MiB), 1));
  }
  // The last byte differs, so the comparison would find it if it went on.
  await truncate(join(to, 'large'), Number(8n * MiB) - 1);
  await writeFile(join(to, 'large'), Buffer.from([2]), { flag: 'a' });
  for (const path of [from, to]) {
    await utimes(join(path, 'large'), 1, 1);
    await utimes(path, 1, 1);
  }
  const controller = new AbortController();
  const { signal } = controller;
  const throwIfAborted = signal.throwIfAborted.bind(signal);
  let questions = 0;
  signal.throwIfAborted = () => {
    questions += 1;
    if (questions === 5) controller.abort(new Error('the volume is being deleted'));
    throwIfAborted();
  };
  await t.throwsAsync(findTreeDifference(driverLane, from, to, signal), {
    message: 'the volume is being deleted',
  });
});
