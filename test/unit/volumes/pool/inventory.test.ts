import test from 'ava';
import { nodeTagOf, volumeIdFor } from '../../../../src/ids.ts';
import { MiB } from '../../../../src/units.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { call, volumeInput } from '../../../helpers/scratch-node.ts';

test('the inventory has the served pools, and the ids that end in the tag of another node', async (t) => {
  const node = await fakeNode(t);
  const { volumes, domain } = await node.open([node.settings('a'), node.settings('b')]);
  const nodeTag = nodeTagOf('test-node');
  const input = volumeInput('data', { sizeBytes: 16n * MiB });
  const { record } = await volumes.createVolume(call(), input);
  const [a, b] = domain.pools.all;
  t.deepEqual(volumes.inventory(), {
    nodeTag,
    pools: [
      { name: 'a', uuid: a?.marker?.uuid ?? '' },
      { name: 'b', uuid: b?.marker?.uuid ?? '' },
    ],
    foreignIds: [],
    volumeCount: 1,
    undecidedGroups: [],
  });
  // As after a volume was moved here from another node.
  const foreign = volumeIdFor('moved', nodeTagOf('other-node'));
  a?.volumes.put({ ...record, id: foreign, name: 'moved' });
  t.deepEqual(volumes.inventory().foreignIds, [foreign]);
  await a?.close();
  t.deepEqual(volumes.inventory().foreignIds, [foreign], 'its pool is not served now');
  // Its disk has no such entry.
  t.true(await a?.open(async () => undefined));
  t.deepEqual(volumes.inventory().foreignIds, []);
  // An inline volume, whose name the kubelet chooses.
  const inline = volumeIdFor('csi-0123', nodeTag);
  b?.ephemerals.put({ ...record, id: inline, name: 'csi-0123' });
  t.is(volumes.inventory().volumeCount, 2);

  await b?.close();
  t.deepEqual(
    volumes.inventory().pools.map(({ name }) => name),
    ['a'],
  );
  t.is(volumes.inventory().volumeCount, 2);
});
