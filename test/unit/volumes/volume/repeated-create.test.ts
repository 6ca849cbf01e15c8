import test from 'ava';
import { KernelError } from '../../../../src/host/errors.ts';
import { MiB } from '../../../../src/units.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, volumeInput } from '../../../helpers/scratch-node.ts';

test('a create whose fsync of the parents failed is answered only after another fsync', async (t) => {
  const node = await fakeNode(t);
  const { volumes } = await node.open([node.settings('a')]);
  const create = () =>
    reasonOf(volumes.createVolume(call(), volumeInput('v', { sizeBytes: 16n * MiB })));
  const syncs = () => node.host.calls.filter((name) => name === 'files.syncOpened').length;
  const failure = new KernelError('fsync', 'EIO', 'a test');
  for (let time = 0; time < 4; time += 1) node.host.failNext('files.syncOpened', failure);
  t.is(await create(), 'unavailable', 'not one of those after which a provisioner forgets it');
  t.is(await create(), 'unavailable', 'it stands, and is not known to be on the disk');
  const before = syncs();
  t.is(await create(), 'ok');
  t.is(syncs() - before, 2, 'both parents');
  t.is(await create(), 'ok');
  t.is(syncs() - before, 2, 'and nothing is left to do');
});

test('a create says why it failed, also when what it began cannot be removed', async (t) => {
  const node = await fakeNode(t);
  const { volumes } = await node.open([node.settings('a')]);
  node.host.failNext('files.createImage', new KernelError('fallocate', 'ENOSPC', 'a test'));
  node.host.failNext('files.removeTree', new KernelError('rmdir', 'EIO', 'a test'));
  const input = volumeInput('v', { sizeBytes: 16n * MiB });
  t.is(await reasonOf(volumes.createVolume(call(), input)), 'no-space');
});
