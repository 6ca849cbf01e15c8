import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { KernelError, StuckError } from '../../../../src/host/errors.ts';
import { toVolumeError } from '../../../../src/volumes/engine/failures.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, volumeInput } from '../../../helpers/scratch-node.ts';

/** A pool whose filesystem refuses every change while `state.errno` is set, and still answers reads. */
async function stoppablePool(t: ExecutionContext) {
  const node = await fakeNode(t);
  const state: { errno: string | undefined } = { errno: undefined };
  const { files } = node.host;
  for (const name of ['makeNewDirectory', 'probe'] as const) {
    const real: (path: string) => Promise<unknown> = files[name].bind(files);
    Object.assign(files, {
      [name]: async (path: string) => {
        if (state.errno !== undefined)
          throw new KernelError(name === 'probe' ? name : 'mkdir', state.errno, path);
        return real(path);
      },
    });
  }
  const opened = await node.open([node.settings('a')]);
  return { ...opened, node, state, pool: opened.domain.pools.named('a') };
}

for (const errno of ['EROFS', 'EIO']) {
  test(`a pool whose filesystem no longer accepts changes (${errno}) is closed, and is served again once it accepts them`, async (t) => {
    const { volumes, pool, state } = await stoppablePool(t);
    state.errno = errno;
    const make = () => volumes.createVolume(call(), volumeInput('v'));
    t.not(await reasonOf(make()), 'ok');
    await pool.check();
    t.false(pool.isServed);
    t.false(pool.isOpen, 'no file of it is open, so it can be unmounted');
    t.regex(
      pool.problem ?? '',
      /pool 'a': .*has failed or is read-only .*unmount, check and mount/,
    );
    t.notRegex(pool.problem ?? '', /gone|damaged/);
    t.is(await reasonOf(make()), 'unavailable');
    const before = pool.problem;
    t.false(await pool.open(() => Promise.resolve()));
    t.is(
      pool.problem,
      before?.replace('mkdir', 'probe'),
      'it contains no name of a temporary file',
    );
    const [condition] = await volumes.storageHealth();
    t.is(condition?.reason, 'PoolNotServed');
    state.errno = undefined;
    t.true(await pool.open(() => Promise.resolve()));
    t.is(await reasonOf(make()), 'ok');
  });
}

test('while a pool that has failed is opened again, the errors of calls name the problem of its disk', async (t) => {
  const { volumes, pool, state, node } = await stoppablePool(t);
  const make = () => volumes.createVolume(call(), volumeInput('v'));
  state.errno = 'EROFS';
  await t.throwsAsync(make());
  await pool.check();
  const { files } = node.host;
  const probe = files.probe.bind(files);
  const said: string[] = [];
  files.probe = async (path) => {
    await make().catch((error: unknown) => said.push(String(error)));
    said.push(...(await volumes.storageHealth()).map(({ message }) => message));
    return probe(path);
  };
  t.false(await pool.open(() => Promise.resolve()));
  t.is(said.length, 2);
  for (const text of said) t.regex(text, /pool 'a': .*has failed or is read-only/);
  state.errno = undefined;
  t.true(await pool.open(() => Promise.resolve()));
  t.is(await reasonOf(make()), 'ok');
});

test('after a temporary failure the pool is served, and no temporary file is left', async (t) => {
  const { volumes, pool, state, node } = await stoppablePool(t);
  state.errno = 'EIO';
  t.is(await reasonOf(volumes.createVolume(call(), volumeInput('v'))), 'internal');
  state.errno = undefined;
  await pool.check();
  t.true(pool.isServed);
  t.deepEqual(await readdir(join(node.settings('a').path, 'tmp')), []);
});

test('a full pool passes the check', async (t) => {
  const { pool, state } = await stoppablePool(t);
  state.errno = 'ENOSPC';
  pool.requestWriteProbe();
  await pool.check();
  t.true(pool.isServed);
});

test('the problem of a pool that cannot be read does not say that it was deleted', async (t) => {
  const { pool, node } = await stoppablePool(t);
  node.host.failNext('files.list', new KernelError('readdir', 'EIO', 'a test'));
  await pool.check();
  t.regex(pool.problem ?? '', /has failed.*EIO.*check its disk/);
  node.host.failNext('files.list', new KernelError('readdir', 'EIO', 'a test'));
  t.false(await pool.open(() => Promise.resolve()));
  t.regex(pool.problem ?? '', /has failed.*EIO.*check its disk/);
  t.notRegex(pool.problem ?? '', /gone/);
});

test('after a call that did not return the next check tries a write, because a hung disk still answers from its cache', async (t) => {
  const { domain, pool, node } = await stoppablePool(t);
  await toVolumeError(new StuckError('fsync', 'v', 60_000), 'x', pool);
  node.host.failNext('files.makeNewDirectory', new StuckError('mkdir', 'pool a', 60_000));
  await pool.check();
  t.regex(pool.problem ?? '', /pool 'a': .*does not answer \(mkdir .*check its disk/);
  t.notRegex(pool.problem ?? '', /gone/);
  t.deepEqual(domain.pools.served, []);
});
