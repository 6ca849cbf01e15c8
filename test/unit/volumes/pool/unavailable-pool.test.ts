import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, plainSettings, volumeInput } from '../../../helpers/scratch-node.ts';

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
