import test from 'ava';
import { MiB } from '../../../../src/units.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { call, volumeInput } from '../../../helpers/scratch-node.ts';

test('a device without direct I/O that another program attached is not blamed on the sector size', async (t) => {
  const node = await fakeNode(t);
  const { volumes, domain } = await node.open([node.settings('a')]);
  const { record } = await volumes.createVolume(call(), volumeInput('v', { sizeBytes: 16n * MiB }));
  await node.host.otherSoftware.attach(domain.pools.getVolume(record.id).imagePath);
  const found = await volumes.volumeHealth(record.id);
  const buffered = found.find(({ reason }) => reason === 'BufferedIo');
  t.regex(buffered?.message ?? '', /another program attached it/);
});

test('on a pool without direct I/O, the pool is named as the reason', async (t) => {
  const node = await fakeNode(t, { directIo: false });
  const { volumes, domain } = await node.open([node.settings('a')]);
  const { record } = await volumes.createVolume(call(), volumeInput('v', { sizeBytes: 16n * MiB }));
  const { imagePath } = domain.pools.getVolume(record.id);
  await node.host.loops.attach(imagePath, {
    sectorSize: 4096,
    readOnly: false,
    directIo: true,
    discard: true,
    label: record.id,
  });
  const found = await volumes.volumeHealth(record.id);
  const buffered = found.find(({ reason }) => reason === 'BufferedIo');
  t.truthy(buffered);
  t.notRegex(buffered?.message ?? '', /another program/);
});
