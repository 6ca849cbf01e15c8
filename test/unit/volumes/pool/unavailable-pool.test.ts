import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { openPool } from '../../../../src/volumes/recovery/watch-pools.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, plainSettings, volumeInput } from '../../../helpers/scratch-node.ts';
import { until } from '../../../helpers/until.ts';

test('while a pool is unavailable no id is reported as not found, since the pool may have it', async (t) => {
  const node = await fakeNode(t);
  const { volumes, domain } = await node.open([node.settings('a'), node.settings('b')]);
  const settings = { ...plainSettings, pool: 'b' };
  const { record } = await volumes.createVolume(call(), volumeInput('v', { settings }));
  const unknown = `unknown.${domain.settings.nodeTag}`;
  const answers = async (): Promise<readonly string[]> => [
    await reasonOf(volumes.getVolume(record.id)),
    await reasonOf(volumes.deleteVolume(call(), unknown)),
    await reasonOf(volumes.getVolume(unknown)),
  ];
  t.deepEqual(await answers(), ['ok', 'ok', 'not-found']);
  const path = join(node.directory, 'b');
  await rename(path, `${path}-away`);
  await domain.pools.named('b').check();
  t.deepEqual(await answers(), ['unavailable', 'unavailable', 'unavailable']);
  t.is(await reasonOf(volumes.deleteVolume(call(), record.id)), 'unavailable');
});

test('while a pool is unavailable no snapshot or group is reported as not found, and no name that the pool may have is used', async (t) => {
  const node = await fakeNode(t);
  const { volumes, domain } = await node.open([node.settings('a'), node.settings('b')]);
  const unknown = `unknown.${domain.settings.nodeTag}`;
  const answers = async (): Promise<readonly string[]> => [
    await reasonOf(volumes.getSnapshot(unknown)),
    await reasonOf(volumes.deleteSnapshot(call(), unknown)),
    await reasonOf(volumes.getGroupSnapshot(unknown, [])),
    await reasonOf(volumes.deleteGroupSnapshot(call(), unknown, [])),
    await reasonOf(volumes.createVolume(call(), volumeInput('v'))),
  ];
  t.deepEqual(await answers(), ['not-found', 'ok', 'not-found', 'ok', 'ok']);
  const [record] = [...domain.pools.named('a').volumes.values()];
  const [away, stays] = record === undefined ? ['a', 'b'] : ['b', 'a'];
  const path = join(node.directory, away);
  await rename(path, `${path}-away`);
  await domain.pools.named(away).check();
  t.deepEqual((await answers()).slice(0, 4), Array(4).fill('unavailable'));
  t.is(await reasonOf(volumes.createVolume(call(), volumeInput('w'))), 'unavailable');
  const settings = { ...plainSettings, pool: stays };
  t.is(await reasonOf(volumes.createVolume(call(), volumeInput('x', { settings }))), 'ok');
});

test('while a pool is opened again, lists have what was read before, and afterwards what its disk has', async (t) => {
  const node = await fakeNode(t);
  const { volumes, domain } = await node.open([node.settings('a')]);
  const pool = domain.pools.named('a');
  const ids: string[] = [];
  for (const name of ['kept', 'removed']) {
    const { record } = await volumes.createVolume(call(), volumeInput(name));
    ids.push(record.id);
  }
  const listed = async (): Promise<readonly string[]> => {
    const { entries } = await volumes.listVolumes({ maxEntries: 0, startingToken: '' });
    return entries.map(({ record }) => record.id);
  };
  const path = join(node.directory, 'a');
  await rename(path, `${path}-away`);
  await pool.check();
  await rename(join(`${path}-away`, 'volumes', ids[1] ?? ''), join(node.directory, 'removed'));
  await rename(`${path}-away`, path);
  let isReading = false;
  const release = node.host.watch.hangNext('files.readTexts', () => {
    isReading = true;
  });
  const opening = pool.open(async () => undefined);
  await until('the records are being read', () => isReading);
  t.false(pool.isServed);
  t.deepEqual(await listed(), ids);
  release();
  t.true(await opening);
  t.deepEqual(await listed(), [ids[0]]);
});

test('lists fail while a pool was never read since the start, except of an id that is known, and those for people have a warning', async (t) => {
  const node = await fakeNode(t);
  const pools = [node.settings('a'), node.settings('b')];
  const before = await node.open(pools);
  const ids: Record<string, { volume: string; snapshot: string }> = {};
  for (const pool of ['a', 'b']) {
    const settings = { ...plainSettings, pool };
    const made = await before.volumes.createVolume(call(), volumeInput(`v-${pool}`, { settings }));
    const taken = await before.volumes.createSnapshot(call(), {
      sourceVolumeId: made.record.id,
      name: `s-${pool}`,
      settings: { freeze: true },
      parameters: {},
    });
    ids[pool] = { volume: made.record.id, snapshot: taken.record.id };
  }
  await before.close(100);
  const path = join(node.directory, 'b');
  await rename(path, `${path}-elsewhere`);
  const { volumes, administration, docker, domain } = await node.open(pools);
  const all = { maxEntries: 0, startingToken: '' };
  const lists = async (): Promise<readonly string[]> => [
    await reasonOf(volumes.listVolumes(all)),
    await reasonOf(volumes.listVolumes({ ...all, maxEntries: 1 })),
    await reasonOf(volumes.listSnapshots(all)),
    await reasonOf(volumes.listSnapshots({ ...all, sourceVolumeId: ids['a']?.volume ?? '' })),
    await reasonOf(volumes.listSnapshots({ ...all, snapshotId: ids['b']?.snapshot ?? '' })),
    await reasonOf(volumes.listVolumeHealth(all)),
  ];
  t.deepEqual(await lists(), Array(6).fill('unavailable'));
  await t.throwsAsync(volumes.listVolumes(all), {
    message: /pool 'b'.*; or, if its disk is lost for good, remove the pool from the configuration/,
  });
  const known = { ...all, snapshotId: ids['a']?.snapshot ?? '' };
  t.is((await volumes.listSnapshots(known)).entries.length, 1);
  t.is(await reasonOf(volumes.getVolume(ids['a']?.volume ?? '')), 'ok');
  const { volume = '', snapshot = '' } = ids['b'] ?? {};
  t.is(await reasonOf(volumes.getVolume(volume)), 'unavailable');
  t.is(await reasonOf(volumes.volumeHealth(volume)), 'unavailable');
  t.is(await reasonOf(volumes.deleteVolume(call(), volume)), 'unavailable');
  t.is(await reasonOf(volumes.createVolume(call(), volumeInput('v-b'))), 'unavailable');
  t.is(await reasonOf(volumes.getSnapshot(snapshot)), 'unavailable');
  t.is(await reasonOf(volumes.deleteSnapshot(call(), snapshot)), 'unavailable');

  const shown = await administration.listVolumes({ ...all, pool: '' });
  t.deepEqual(
    shown.entries.map(({ record }) => record.id),
    [ids['a']?.volume],
  );
  t.is(docker.listVolumes().length, 1);
  t.deepEqual(
    (await administration.listPools()).map(({ wasRead }) => wasRead),
    [true, false],
  );

  await rename(`${path}-elsewhere`, path);
  await openPool(domain, domain.pools.named('b'));
  t.deepEqual(await lists(), Array(6).fill('ok'));
  t.is((await volumes.listVolumes(all)).entries.length, 2);
  await rename(path, `${path}-elsewhere`);
  await domain.pools.named('b').check();
  t.is((await volumes.listVolumes(all)).entries.length, 2, 'a pool that was read once stays known');
});
