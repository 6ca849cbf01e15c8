import test, { type ExecutionContext } from 'ava';
import {
  FilesystemUsage,
  type MountedVolume,
} from '../../../../../src/volumes/admin/metrics/filesystem-usage.ts';
import { volumeLock } from '../../../../../src/volumes/engine/locks.ts';
import { changedHost } from '../../../../helpers/changed-host.ts';
import { fakeNode } from '../../../../helpers/fake-node.ts';
import { scaledMs } from '../../../../helpers/slowness.ts';
import { until } from '../../../../helpers/until.ts';

/** A filesystem that answers never takes so long, even on a machine that stalls. */
const amply = scaledMs(30_000);

async function nodeWith(t: ExecutionContext) {
  const node = await fakeNode(t);
  const { domain } = await node.open([node.settings('a')]);
  return {
    domain,
    host: node.host,
    volume: (volumeId: string): MountedVolume => ({
      volumeId,
      pool: 'a',
      target: node.directory,
      writes: 0,
    }),
    queries: (): number =>
      node.host.watch.calls.filter(
        ({ name, args }) => name === 'files.capacity' && args[0] === node.directory,
      ).length,
  };
}

function namesIn(answers: ReadonlyMap<string, unknown>): readonly string[] {
  return [...answers.keys()].sort();
}

test('a filesystem that hangs is left out in time, and queried again only after it has answered', async (t) => {
  const { domain, host, volume, queries } = await nodeWith(t);
  const usage = new FilesystemUsage(domain, { queryTimeoutMs: scaledMs(2_000), queryingMs: amply });
  const mounted = [volume('hung'), volume('fine')];
  const release = host.hangNext('files.capacity');
  t.deepEqual(namesIn(await usage.read(mounted)), ['fine']);
  t.is(queries(), 2);
  t.deepEqual(namesIn(await usage.read(mounted)), ['fine']);
  t.is(queries(), 2, 'one hangs, and the other has no new writes');
  release();
  await until('the filesystem that hung has answered', async () =>
    (await usage.read(mounted)).has('hung'),
  );
  const written = mounted.map((one) => ({ ...one, writes: 1 }));
  const before = queries();
  await usage.read(written);
  t.is(queries(), before + 2, 'both were written to');
});

test('after four filesystems of a pool that hang, no more of this pool are queried', async (t) => {
  const node = await fakeNode(t);
  let hangs = 0;
  const host = changedHost(node.host, ({ files }) => ({
    files: {
      ...files,
      capacity: async (path) => {
        if (path !== '/hung') return files.capacity(path);
        hangs += 1;
        return new Promise(() => undefined);
      },
    },
  }));
  const { domain } = await node.open([node.settings('a'), node.settings('b')], { host });
  const hung = Array.from({ length: 40 }, (_, i) => ({
    volumeId: `v${i}`,
    pool: 'a',
    target: '/hung',
    writes: 0,
  }));
  const other = { volumeId: 'other', pool: 'b', target: node.directory, writes: 0 };
  const usage = new FilesystemUsage(domain, { queryTimeoutMs: scaledMs(1_000), queryingMs: amply });
  t.deepEqual(namesIn(await usage.read([...hung, other])), ['other']);
  t.true(hangs >= 4 && hangs <= 20, `${hangs} of 40`);
});

test('no query starts after the time of a scrape, and the next scrape begins with the others', async (t) => {
  const { domain, host, volume } = await nodeWith(t);
  const mounted = Array.from({ length: 20 }, (_, i) => volume(`v${i}`));
  const limits = { queryTimeoutMs: amply, queryingMs: scaledMs(1_000) };
  const usage = new FilesystemUsage(domain, limits);
  const releases = Array.from({ length: 16 }, () => host.hangNext('files.capacity'));
  const reading = usage.read(mounted);
  setTimeout(() => {
    for (const release of releases) release();
  }, limits.queryingMs + 100);
  t.is((await reading).size, 16);
  const written = mounted.map((one) => ({ ...one, writes: 1 }));
  t.is((await usage.read(written)).size, 20);
});

test('a volume that a call has locked is not queried, because the call may unmount it; its last answer is kept', async (t) => {
  const { domain, volume, queries } = await nodeWith(t);
  const usage = new FilesystemUsage(domain, { queryTimeoutMs: amply });
  const lock = () => domain.operations.locks.acquire({ exclusive: [volumeLock('v')] }, 'a test');
  let unlock = lock();
  t.is((await usage.read([volume('v')])).size, 0);
  unlock();
  t.is((await usage.read([volume('v')])).size, 1);
  unlock = lock();
  t.is((await usage.read([{ ...volume('v'), writes: 1 }])).size, 1);
  t.is(queries(), 1);
  unlock();
  await usage.read([{ ...volume('v'), writes: 1 }]);
  t.is(queries(), 2, 'the kept answer is not current');
});
