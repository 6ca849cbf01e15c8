import { mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { makeFiles } from '../../../../src/host/files/files.ts';
import { driverLane } from '../../../../src/host/lane.ts';
import { KnownPools } from '../../../../src/state/known-pools.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, plainSettings, volumeInput } from '../../../helpers/scratch-node.ts';

test('drivers that share a state directory never forget each other’s pools', async (t) => {
  const node = await fakeNode(t);
  const stateDir = join(node.directory, 'state');
  // Both have read the file before either writes it, as happens when both start, or when a pool is served later.
  const [first, second] = [
    await KnownPools.open(makeFiles(driverLane), stateDir),
    await KnownPools.open(makeFiles(driverLane), stateDir),
  ];
  const names = ['a', 'b', 'c', 'd'];
  await Promise.all(
    names.flatMap((name) => [
      first.remember(`/first/${name}`, name),
      second.remember(`/second/${name}`, name),
    ]),
  );
  for (const name of names) {
    t.is(await second.seenAt(`/first/${name}`), name);
    t.is(await first.seenAt(`/second/${name}`), name);
  }
  t.is((await first.directories()).length, 8);
});

test('a pool that one driver has seen is never created again by another driver in an empty directory', async (t) => {
  const node = await fakeNode(t);
  const second = await node.open([node.settings('other')]);
  const first = await node.open([node.settings('a')]);
  await first.close(100);
  await rename(node.settings('a').path, `${node.settings('a').path}-away`);
  await mkdir(node.settings('a').path);
  await second.close(100);
  const third = await node.open([node.settings('other'), node.settings('a')]);
  t.deepEqual(
    third.domain.pools.all.map(({ isServed }) => isServed),
    [true, false],
  );
  t.regex(third.domain.pools.all[1]?.problem ?? '', /its disk is not mounted/);
  t.deepEqual(await readdir(node.settings('a').path), []);
});

test('fields of a later version are kept in the node’s state file', async (t) => {
  const node = await fakeNode(t);
  const stateDir = join(node.directory, 'state');
  await mkdir(stateDir);
  const path = join(stateDir, 'pools.json');
  await writeFile(path, JSON.stringify({ schemaVersion: 1, pools: { '/x': 'u' }, later: [1] }));
  await (await KnownPools.open(makeFiles(driverLane), stateDir)).remember('/y', 'w');
  const kept: unknown = JSON.parse(await readFile(path, 'utf8'));
  t.deepEqual(kept, { schemaVersion: 1, pools: { '/x': 'u', '/y': 'w' }, later: [1] });
});

test('a driver forgets only volumes of its own pools that are served', async (t) => {
  const node = await fakeNode(t);
  const settings = { ...plainSettings, pool: 'a' };
  const open = (name: string) => node.open([node.settings(name)]);
  const first = await open('a');
  for (const name of ['kept', 'deleted']) {
    await first.docker.create(call(), volumeInput(name, { settings }));
  }
  const notes = join(node.directory, 'state', 'known-volumes');
  const [deleted = '', kept = ''] = (await readdir(notes)).sort();
  await writeFile(join(notes, 'old.0123abcd'), '');
  const second = await open('b');
  t.deepEqual((await readdir(notes)).sort(), [deleted, kept, 'old.0123abcd'].sort());
  await second.close(100);
  // Deleted over CSI, which does not know Docker's list.
  await first.volumes.deleteVolume(call(), deleted);
  await first.close(100);
  await writeFile(join(notes, kept), '');
  const again = await open('a');
  t.deepEqual((await readdir(notes)).sort(), [kept, 'old.0123abcd'].sort());
  await again.close(100);
  await rename(node.settings('a').path, `${node.settings('a').path}-away`);
  const away = await node.open([node.settings('a'), node.settings('b')]);
  t.true(await away.docker.isKnown('kept'), 'an entry of an earlier version got its pool');
  t.deepEqual((await readdir(notes)).sort(), [kept, 'old.0123abcd'].sort());
});

test('a second driver with the same mount directory is refused at its start', async (t) => {
  const node = await fakeNode(t);
  const mountDir = join(node.directory, 'mounts');
  const first = await node.open([node.settings('a')], { mountDir });
  const second = node.open([node.settings('b')], { mountDir });
  const error = await t.throwsAsync(second);
  t.regex(error?.message ?? '', /mounts.* is in use by another loopcsi process.*--mount-dir/);
  t.is(await reasonOf(node.open([node.settings('b')], { mountDir })), 'unavailable');
  t.deepEqual(await readdir(mountDir), []);
  await first.close(100);
  t.is(await reasonOf(node.open([node.settings('b')], { mountDir })), 'ok');
});
