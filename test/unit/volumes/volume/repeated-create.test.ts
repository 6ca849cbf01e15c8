import test from 'ava';
import { KernelError } from '../../../../src/host/errors.ts';
import { MiB } from '../../../../src/units.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, volumeInput } from '../../../helpers/scratch-node.ts';

test('after a failed fsync of the parents, a create succeeds only after another fsync', async (t) => {
  const node = await fakeNode(t);
  const { volumes } = await node.open([node.settings('a')]);
  const create = () =>
    reasonOf(volumes.createVolume(call(), volumeInput('v', { sizeBytes: 16n * MiB })));
  const syncs = () => node.host.calls.filter((name) => name === 'files.syncOpenDirectory').length;
  const failure = new KernelError('fsync', 'EIO', 'a test');
  for (let time = 0; time < 4; time += 1) node.host.failNext('files.syncOpenDirectory', failure);
  t.is(await create(), 'unavailable', 'a code after which a provisioner retries');
  t.is(await create(), 'unavailable', 'it exists, but may not be durable');
  const before = syncs();
  t.is(await create(), 'ok');
  t.is(syncs() - before, 2, 'both parents');
  t.is(await create(), 'ok');
  t.is(syncs() - before, 2, 'nothing is left to sync');
});

test('a create reports why it failed, even if its incomplete entry cannot be removed', async (t) => {
  const node = await fakeNode(t);
  const { volumes } = await node.open([node.settings('a')]);
  node.host.failNext('files.createImage', new KernelError('fallocate', 'ENOSPC', 'a test'));
  node.host.failNext('files.removeTree', new KernelError('rmdir', 'EIO', 'a test'));
  const input = volumeInput('v', { sizeBytes: 16n * MiB });
  t.is(await reasonOf(volumes.createVolume(call(), input)), 'no-space');
});
