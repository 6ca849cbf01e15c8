import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { KernelError } from '../../../../src/host/errors.ts';
import type { PoolSettings } from '../../../../src/volumes/pool/settings.ts';
import { type FakeNode, fakeNode } from '../../../helpers/fake-node.ts';

/** Opens pool `a` and closes it. Returns why it was not served, or '' if it was. */
async function problemOf(node: FakeNode, options: Partial<PoolSettings> = {}): Promise<string> {
  const opened = await node.open([node.settings('a', options)]);
  const { problem = '' } = opened.domain.pools.all[0] ?? {};
  await opened.close(100);
  return problem;
}

const pathOf = (node: FakeNode, name = 'a') => join(node.directory, name);

test('nothing is written to an empty directory in which a pool was seen: its disk is not mounted', async (t) => {
  const node = await fakeNode(t);
  t.is(await problemOf(node), '');
  await rename(pathOf(node), pathOf(node, 'disk'));
  await mkdir(pathOf(node));
  t.regex(await problemOf(node), /its disk is not mounted/);
  t.deepEqual(await readdir(pathOf(node)), []);
  await rm(pathOf(node), { recursive: true });
  t.regex(await problemOf(node), /does not exist/);
  await rename(pathOf(node, 'disk'), pathOf(node));
  t.is(await problemOf(node), '', 'it is mounted again');
});

test('a pool at the path of another pool that was seen is refused', async (t) => {
  const node = await fakeNode(t);
  t.is(await problemOf(node), '');
  const other = await node.open([node.settings('b')]);
  await other.close(100);
  await rename(pathOf(node), pathOf(node, 'right'));
  await rename(pathOf(node, 'b'), pathOf(node));
  t.regex(await problemOf(node), /another disk is mounted/);
});

test('a pool is created only in an empty directory, and only if its settings have create', async (t) => {
  const node = await fakeNode(t);
  await mkdir(pathOf(node));
  t.regex(await problemOf(node, { create: false }), /is not a pool yet/);
  await writeFile(join(pathOf(node), 'photo.jpg'), '');
  t.regex(await problemOf(node), /is not empty \(photo\.jpg\)/);
  t.deepEqual(await readdir(pathOf(node)), ['photo.jpg']);
  await rm(join(pathOf(node), 'photo.jpg'));
  t.regex(await problemOf(node, { mountpointRequired: true }), /is not a mount point/);
  t.deepEqual(await readdir(pathOf(node)), []);
  t.is(await problemOf(node), '');
});

test('a directory that is refused for its filesystem is not created, and neither are its parents', async (t) => {
  const node = await fakeNode(t);
  const path = `/dev/shm/loopcsi-test-${process.pid}/deep/pool`;
  const problem = await problemOf(node, { path, force: false });
  t.regex(problem, /deep\/pool is on tmpfs, .*--force of 'loopcsi pool init'.*--pool a=.*,force/);
  await t.throwsAsync(readdir(`/dev/shm/loopcsi-test-${process.pid}`), { code: 'ENOENT' });
});

test('two drivers do not serve one pool', async (t) => {
  const node = await fakeNode(t);
  const first = await node.open([node.settings('a')]);
  t.true(first.domain.pools.all[0]?.isServed);
  t.regex(await problemOf(node), /served by another loopcsi process/);
  await first.close(100);
  t.is(await problemOf(node), '');
});

test('a pool that is replaced by another while it is open is not served', async (t) => {
  const node = await fakeNode(t);
  const { domain } = await node.open([node.settings('a'), node.settings('b')]);
  const pool = domain.pools.named('a');
  await rename(pathOf(node), pathOf(node, 'right'));
  await rename(pathOf(node, 'b'), pathOf(node));
  await pool.check();
  t.regex(pool.problem ?? '', /now contains another pool/);
  t.false(pool.isOpen);
});

test('the problem of a pool on a read-only filesystem names the remedy', async (t) => {
  const node = await fakeNode(t);
  t.is(await problemOf(node), '');
  const { files } = node.host;
  files.lock = async (path) => Promise.reject(new KernelError('open', 'EROFS', path));
  t.regex(
    await problemOf(node),
    /is read-only; check the kernel's log and mount it read-write again/,
  );
});

test('a marker that is damaged while its pool is served is reported as damaged, and left unchanged', async (t) => {
  const node = await fakeNode(t);
  const { domain } = await node.open([node.settings('a')]);
  const marker = join(pathOf(node), 'pool.json');
  await writeFile(marker, 'garbage');
  const pool = domain.pools.named('a');
  await pool.check();
  t.regex(pool.problem ?? '', /pool\.json is not valid JSON; restore it from a backup$/);
  t.is(await readFile(marker, 'utf8'), 'garbage');
});
