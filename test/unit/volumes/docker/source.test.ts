import test from 'ava';
import { nodeTagOf, snapshotIdFor } from '../../../../src/ids.ts';
import { MiB } from '../../../../src/units.ts';
import { fakeNode, fakeSettings } from '../../../helpers/fake-node.ts';
import { call, volumeInput } from '../../../helpers/scratch-node.ts';

const there = nodeTagOf('node-b');

test('the source of a copy is looked up by name first, and the error for a source on another node names that node', async (t) => {
  const node = await fakeNode(t);
  const { volumes, docker } = await node.open([node.settings('a')]);
  const likeAnId = `data.${there}`;
  await volumes.createVolume(call(), volumeInput(likeAnId, { sizeBytes: 32n * MiB }));
  t.is(docker.findSource(likeAnId).source.id, `${likeAnId}.${fakeSettings.nodeTag}`);

  const elsewhere = snapshotIdFor('s', there);
  for (const [text, says] of [
    [elsewhere, `no volume or snapshot '${elsewhere}' on this node; its id belongs to the node`],
    [
      `snapshot:${elsewhere}`,
      `no snapshot '${elsewhere}' on this node; its id belongs to the node`,
    ],
    ['snapshot:s', /no snapshot 's' on this node$/],
    [`s.${fakeSettings.nodeTag}`, /on this node$/],
  ] as const) {
    const error = t.throws(() => docker.findSource(text));
    if (typeof says === 'string') t.true(error?.message.includes(says), error?.message);
    else t.regex(error?.message ?? '', says);
    t.is(error?.message.includes(there), text.includes(there), error?.message);
  }
});
