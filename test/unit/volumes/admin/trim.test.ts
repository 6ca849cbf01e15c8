import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { KernelError } from '../../../../src/host/errors.ts';
import { MiB } from '../../../../src/units.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { changeFakeSuperblock } from '../../../helpers/fake-superblock.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, capability, plainSettings, volumeInput } from '../../../helpers/scratch-node.ts';

async function trimmable(t: ExecutionContext) {
  const node = await fakeNode(t);
  const opened = await node.open([node.settings('a')]);
  const { volumes, administration, domain } = opened;
  const create = async (name: string, options: Parameters<typeof volumeInput>[1] = {}) => {
    const input = volumeInput(name, { sizeBytes: 16n * MiB, ...options });
    return (await volumes.createVolume(call(), input)).record;
  };
  const stage = async (volumeId: string, kind: 'mount' | 'block' = 'mount') => {
    const stagingTargetPath = join(node.directory, volumeId);
    await mkdir(stagingTargetPath);
    const asked = { volumeId, stagingTargetPath, capability: capability({ kind }) };
    await volumes.stageVolume(call(), asked);
  };
  const trim = (name: string) => administration.trimVolume(call(), name);
  const trims = () => node.host.watch.calls.filter(({ name }) => name === 'mounts.trim');
  return { node, domain, volumes, create, stage, trim, trims };
}

test('a mounted volume is trimmed where it is mounted, by its name', async (t) => {
  const { create, stage, trim, trims, domain } = await trimmable(t);
  await stage((await create('v')).id);
  t.like(await trim('v'), { isInterrupted: false, isMountedPrivately: false });
  t.true(trims().length > 0);
  t.is(domain.trims.countsOf(domain.pools.named('a')).runs.done, 1);
});

test('an unused volume is trimmed in a private mount, of which nothing is left', async (t) => {
  const { node, create, trim, trims, domain } = await trimmable(t);
  await create('v');
  t.like(await trim('v'), { isInterrupted: false, isMountedPrivately: true });
  const pool = domain.pools.named('a');
  t.true(trims().length > 0);
  t.true(trims().every(({ args }) => (args[0] as string).startsWith(pool.directoryOf('tmp'))));
  t.deepEqual(await node.host.loops.list(), []);
  t.deepEqual(await node.host.mounts.list(), []);
  t.deepEqual(await readdir(pool.directoryOf('tmp')), []);
  t.is(domain.trims.countsOf(pool).runs.done, 1);
});

test('after a trim by an operator, the periodic one is not due', async (t) => {
  const { create, trim, domain } = await trimmable(t);
  const record = await create('v');
  const pool = domain.pools.named('a');
  const volume = { record, area: 'volumes' } as const;
  const later = { ...domain, now: () => Date.now() + 24 * 3_600_000 };
  t.true(await domain.trimClock.isDue(later, pool, volume));
  const inTwelveHours = { ...domain, now: () => Date.now() + 12 * 3_600_000 };
  await domain.trimClock.record(inTwelveHours, pool, volume);
  t.false(await domain.trimClock.isDue(later, pool, volume));
  await trim('v');
  t.true(
    await domain.trimClock.isDue(later, pool, volume),
    'the trim above was recorded as of now',
  );
});

for (const [what, options, message] of [
  [
    'a thick volume',
    { settings: { ...plainSettings, provisioning: 'thick', trim: 'off' } },
    /thick/,
  ],
  ['a raw block volume', { kind: 'block' }, /raw block volume.*blkdiscard/],
] as const) {
  test(`${what} is refused before anything is done, with what is possible`, async (t) => {
    const { create, trim, trims, node } = await trimmable(t);
    await create('v', options);
    const before = node.host.watch.calls.length;
    const error = await t.throwsAsync(trim('v'));
    t.regex(error.message, message);
    t.is(await reasonOf(trim('v')), 'wrong-state');
    t.deepEqual(trims(), []);
    t.false(node.host.watch.calls.slice(before).some(({ name }) => name === 'loops.attach'));
  });
}

test('an unused volume whose filesystem has errors is not mounted', async (t) => {
  const { create, trim, trims, domain } = await trimmable(t);
  const { id } = await create('v');
  const { imagePath } = domain.pools.getVolume(id);
  await changeFakeSuperblock(imagePath, { state: 'has-errors' });
  t.is(await reasonOf(trim('v')), 'wrong-state');
  t.deepEqual(trims(), []);
});

test('a trim that fails returns its error, and leaves no private mount', async (t) => {
  const { node, create, trim } = await trimmable(t);
  await create('v');
  node.host.failNext('mounts.trim', new KernelError('FITRIM', 'EIO', 'a test'));
  t.not(await reasonOf(trim('v')), 'ok');
  t.deepEqual(await node.host.mounts.list(), []);
  t.deepEqual(await node.host.loops.list(), []);
});

test('a volume that is busy, or unknown, is refused', async (t) => {
  const { create, trim, domain } = await trimmable(t);
  const { id } = await create('v');
  const release = domain.operations.locks.acquire({ exclusive: [`volume:${id}`] }, 'a test');
  t.is(await reasonOf(trim('v')), 'busy');
  release();
  t.is(await reasonOf(trim('no such volume')), 'not-found');
});
