import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { makeFiles } from '../../../src/host/files/files.ts';
import { KnownPools } from '../../../src/state/known-pools.ts';

test('pools that are opened concurrently are all remembered', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-known-pools-'));
  t.teardown(async () => rm(directory, { recursive: true }));
  const state = await KnownPools.open(makeFiles(), directory);
  const names = ['a', 'b', 'c', 'd', 'e'];
  await Promise.all(names.map((name) => state.remember(`/pools/${name}`, `uuid-${name}`)));

  const reopened = await KnownPools.open(makeFiles(), directory);
  for (const name of names) t.is(await reopened.seenAt(`/pools/${name}`), `uuid-${name}`);
});
