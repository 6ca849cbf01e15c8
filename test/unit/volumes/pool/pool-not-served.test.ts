import { rename } from 'node:fs/promises';
import test from 'ava';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, plainSettings, volumeInput } from '../../../helpers/scratch-node.ts';

test('while a pool is not served, a create succeeds if its pool is known, and is refused otherwise', async (t) => {
  const node = await fakeNode(t, { reflink: true });
  const pools = [node.settings('a'), node.settings('b')];
  const before = await node.open(pools);
  const inB = { settings: { ...plainSettings, pool: 'b' } };
  const { record } = await before.volumes.createVolume(call(), volumeInput('v', inB));
  const snapshot = await before.volumes.createSnapshot(call(), {
    name: 's',
    sourceVolumeId: record.id,
    settings: { freeze: false },
    parameters: {},
  });
  await before.close(100);
  await rename(node.settings('a').path, `${node.settings('a').path}-away`);
  const { volumes } = await node.open(pools);
  const make = (name: string, options: Parameters<typeof volumeInput>[1]) =>
    volumes.createVolume(call(), volumeInput(name, options));
  t.is((await make('named', inB)).pool, 'b');
  t.is((await make('clone', { source: { kind: 'volume', id: record.id } })).pool, 'b');
  const source = { kind: 'snapshot', id: snapshot.record.id } as const;
  t.is((await make('restored', { source })).pool, 'b');
  t.is(await reasonOf(make('new', {})), 'unavailable');
  await t.throwsAsync(make('new', {}), {
    message: /mount its disk.*may have a volume 'new'.*\(b\): parameter pool, or --pool NAME/,
  });
});
