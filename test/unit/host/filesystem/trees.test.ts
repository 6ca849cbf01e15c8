import test from 'ava';
import { makeTrees } from '../../../../src/host/filesystem/trees.ts';
import { driverLane } from '../../../../src/host/lane.ts';
import { LongProgramSlots } from '../../../../src/host/programs/long-program-slots.ts';
import { makeRun } from '../../../../src/host/programs/run.ts';
import { FakeHost } from '../../../helpers/fake-host.ts';

test('a copy of a directory attaches no device before it has a slot', async (t) => {
  const host = new FakeHost();
  const { loops, mounts } = host;
  const longProgramSlots = new LongProgramSlots();
  const trees = makeTrees(driverLane, { run: makeRun(), loops, mounts, longProgramSlots });
  const abort = new AbortController();
  const { signal } = abort;
  let end = (): void => undefined;
  const ended = new Promise<void>((resolve) => {
    end = resolve;
  });
  const others = [1, 2].map(() => longProgramSlots.take(driverLane, () => ended, signal));
  const options = { fsType: 'ext4', mountOptions: [], sectorSize: 4096 } as const;
  const copy = trees.copyIntoImage('/nonexistent/image', {
    ...options,
    from: '/nonexistent/source',
    workDir: '/nonexistent',
    signal,
    onProgress: () => undefined,
  });
  abort.abort(new Error('cancelled'));
  await t.throwsAsync(copy, { message: 'cancelled' });
  t.deepEqual(host.calls, []);
  end();
  await Promise.all(others);
});
