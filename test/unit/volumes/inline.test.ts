import { join } from 'node:path';
import test from 'ava';
import { parseInlineAttributes } from '../../../src/volumes/parameters.ts';
import { fakeNode, fakeSettings } from '../../helpers/fake-node.ts';
import { call, capability } from '../../helpers/scratch-node.ts';

test('inline volumes that are not offered are refused with the way out, and nothing is made', async (t) => {
  const node = await fakeNode(t);
  const ephemeral = { ...fakeSettings.ephemeral, maximumBytes: 0n };
  const { volumes } = await node.open([node.settings('default')], {
    settings: { ...fakeSettings, ephemeral },
  });
  const published = volumes.publishVolume(call(), {
    volumeId: 'csi-of-a-pod',
    stagingTargetPath: '',
    targetPath: join(node.directory, 'target'),
    capability: capability(),
    readOnly: false,
    ephemeral: parseInlineAttributes({}),
  });
  await t.throwsAsync(published, { message: /not offered.*claim.*driver\.ephemeral\.enabled/ });
  t.deepEqual(await node.host.loops.list(), []);
});
