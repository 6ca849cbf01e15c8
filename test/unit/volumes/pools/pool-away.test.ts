import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, plainSettings, volumeInput } from '../../../helpers/scratch-node.ts';

test('while a pool is away nothing is said to be gone: what is not found may be there', async (t) => {
  const node = await fakeNode(t);
  const { volumes, domain } = await node.open([node.settings('a'), node.settings('b')]);
  const settings = { ...plainSettings, pool: 'b' };
  const { record } = await volumes.createVolume(call(), volumeInput('v', { settings }));
  const unknown = `unknown.${domain.settings.nodeTag}`;
  const answers = async (): Promise<readonly string[]> => [
    await reasonOf(volumes.getVolume(call(), record.id)),
    await reasonOf(volumes.deleteVolume(call(), unknown)),
    await reasonOf(volumes.getVolume(call(), unknown)),
  ];
  t.deepEqual(await answers(), ['ok', 'ok', 'not-found']);
  const path = join(node.directory, 'b');
  await rename(path, `${path}-away`);
  await domain.pools.named('b').check();
  t.deepEqual(await answers(), ['unavailable', 'unavailable', 'unavailable']);
  t.is(await reasonOf(volumes.deleteVolume(call(), record.id)), 'unavailable');
});
