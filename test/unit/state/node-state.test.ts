import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { paths } from '../../../src/host/paths.ts';
import { NodeState } from '../../../src/state/node-state.ts';

test('pools that are opened side by side are all remembered', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-node-state-'));
  t.teardown(async () => rm(directory, { recursive: true }));
  const state = await NodeState.open(paths, directory);
  const names = ['a', 'b', 'c', 'd', 'e'];
  await Promise.all(names.map((name) => state.remember(`/pools/${name}`, `uuid-${name}`)));

  const reopened = await NodeState.open(paths, directory);
  for (const name of names) t.is(reopened.seenAt(`/pools/${name}`), `uuid-${name}`);
});
