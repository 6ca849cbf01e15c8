import test from 'ava';
import { FilesystemUsage } from '../../../../../src/volumes/admin/metrics/filesystem-usage.ts';
import { volumeLock } from '../../../../../src/volumes/engine/locks.ts';
import { fakeNode } from '../../../../helpers/fake-node.ts';

test('a filesystem that hangs is left out in time, and queried again only after it has answered', async (t) => {
  const node = await fakeNode(t);
  const { domain } = await node.open([node.settings('a')]);
  const usage = new FilesystemUsage(domain);
  const mounted = ['hung', 'fine'].map((volumeId) => ({
    volumeId,
    pool: 'a',
    target: node.directory,
    writes: 0,
  }));
  const queries = (): number =>
    node.host.watch.calls.filter(
      ({ name, args }) => name === 'files.capacity' && args[0] === node.directory,
    ).length;
  const release = node.host.hangNext('files.capacity');
  const startMs = performance.now();
  t.deepEqual([...(await usage.read(mounted)).keys()], ['fine']);
  t.true(performance.now() - startMs < 5_000);
  t.is(queries(), 2);
  t.deepEqual([...(await usage.read(mounted)).keys()], ['fine']);
  t.is(queries(), 2, 'one hangs, and the other has no new writes');
  release();
  await new Promise((resolve) => setImmediate(resolve));
  t.deepEqual([...(await usage.read(mounted)).keys()].sort(), ['fine', 'hung']);
  const written = mounted.map((one) => ({ ...one, writes: 1 }));
  const before = queries();
  await usage.read(written);
  t.is(queries(), before + 2, 'both were written to');
});

test('after four filesystems that hang, no more are queried', async (t) => {
  const node = await fakeNode(t);
  const { domain } = await node.open([node.settings('a')]);
  const mounted = Array.from({ length: 40 }, (_, i) => ({
    volumeId: `v${i}`,
    pool: 'a',
    target: node.directory,
    writes: 0,
  }));
  const releases = mounted.map(() => node.host.hangNext('files.capacity'));
  const startMs = performance.now();
  t.is((await new FilesystemUsage(domain).read(mounted)).size, 0);
  t.true(performance.now() - startMs < 5_000);
  const queried = node.host.watch.calls.filter(
    ({ name, args }) => name === 'files.capacity' && args[0] === node.directory,
  );
  t.true(queried.length <= 20, `${queried.length} of 40`);
  for (const release of releases) release();
});

test('a volume that a call has locked is left out, because the call may unmount it', async (t) => {
  const node = await fakeNode(t);
  const { domain } = await node.open([node.settings('a')]);
  const usage = new FilesystemUsage(domain);
  const mounted = [{ volumeId: 'v', pool: 'a', target: node.directory, writes: 0 }];
  const unlock = domain.operations.locks.acquire({ exclusive: [volumeLock('v')] }, 'a test');
  t.is((await usage.read(mounted)).size, 0);
  unlock();
  t.is((await usage.read(mounted)).size, 1);
});
