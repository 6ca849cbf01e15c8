import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { VolumeError } from '../../../src/errors.ts';
import { makeFiles } from '../../../src/host/files/files.ts';
import { driverLane } from '../../../src/host/lane.ts';
import { KnownPools } from '../../../src/state/known-pools.ts';

test('pools that are opened concurrently are all remembered', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-known-pools-'));
  t.teardown(async () => rm(directory, { recursive: true }));
  const state = await KnownPools.open(makeFiles(driverLane), directory);
  const names = ['a', 'b', 'c', 'd', 'e'];
  await Promise.all(names.map((name) => state.remember(`/pools/${name}`, `uuid-${name}`)));

  const reopened = await KnownPools.open(makeFiles(driverLane), directory);
  for (const name of names) t.is(await reopened.seenAt(`/pools/${name}`), `uuid-${name}`);
});

test('the node remembers its pools after a restart', async (t) => {
  const parent = await mkdtemp(join(tmpdir(), 'loopcsi-known-pools-'));
  t.teardown(async () => rm(parent, { recursive: true }));
  const directory = join(parent, 'state');
  const state = await KnownPools.open(makeFiles(driverLane), directory);
  t.is(await state.seenAt('/disk'), undefined);
  await state.remember('/disk', 'uuid-1');
  const again = await KnownPools.open(makeFiles(driverLane), directory);
  t.is(await again.seenAt('/disk'), 'uuid-1');
});

/** Serial, because it replaces the clock of the whole process. */
test.serial('a caller waits for a lock of another process, then gets an error', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-known-pools-'));
  t.teardown(async () => rm(directory, { recursive: true }));
  const files = makeFiles(driverLane);
  const lock = await files.lock(join(directory, 'pools.json.lock'));
  const state = await KnownPools.open(files, directory);

  const now = performance.now.bind(performance);
  t.teardown(() => {
    performance.now = now;
  });
  let elapsedMs = 0;
  performance.now = () => {
    elapsedMs += 1_000;
    return elapsedMs;
  };
  const error = await t.throwsAsync(state.remember('/disk', 'uuid-1'), { instanceOf: VolumeError });
  performance.now = now;
  t.is(error.reason, 'unavailable');
  t.regex(error.message, /pools\.json\.lock locked for more than 10 s; examine that process/);

  const remembered = state.remember('/disk', 'uuid-1');
  await lock.release();
  await remembered;
  t.is(await state.seenAt('/disk'), 'uuid-1');
});
