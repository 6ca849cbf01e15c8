import { readdir, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { VolumeError } from '../../../../src/errors.ts';
import { Gate, gate } from '../../../../src/host/kernel/gate.ts';
import { MiB } from '../../../../src/units.ts';
import { changedHost } from '../../../helpers/changed-host.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, plainSettings, volumeInput } from '../../../helpers/scratch-node.ts';
import { until } from '../../../helpers/until.ts';

test('a pool whose blocks are never freed does not prevent another pool from freeing its own', async (t) => {
  const node = await fakeNode(t);
  const { files } = node.host;
  const remove = files.removeInSlices.bind(files);
  let resume = (): void => undefined;
  const hung = new Promise<void>((resolve) => {
    resume = resolve;
  });
  files.removeInSlices = async (path, options) => {
    if (path.startsWith(join(node.directory, 'hung'))) await hung;
    await remove(path, options);
  };
  const pools = ['hung', 'good'];
  const { volumes, domain } = await node.open(pools.map((name) => node.settings(name)));
  // Also if the test fails, because the shutdown waits for blocks that are being freed.
  t.teardown(() => {
    resume();
  });
  for (const pool of pools) {
    const settings = { ...plainSettings, pool };
    const { record } = await volumes.createVolume(call(), volumeInput(pool, { settings }));
    await volumes.deleteVolume(call(), record.id);
  }
  const trashOf = (pool: string) => readdir(join(node.directory, pool, 'trash'));
  await until('the good one is free', async () => (await trashOf('good')).length === 0, 20_000);
  t.is((await trashOf('hung')).length, 1);
  resume();
  await domain.trash.whenIdle();
  t.deepEqual(await trashOf('hung'), []);
});

test('a call that waits for the capacity of a hung pool does not block a call for another pool', async (t) => {
  const node = await fakeNode(t);
  let resume = (): void => undefined;
  const hung = new Promise<void>((resolve) => {
    resume = resolve;
  });
  let isHanging = false;
  const host = changedHost(node.host, ({ files, lane }) => ({
    files: {
      ...files,
      capacity: async (path) => {
        if (isHanging && path.startsWith(join(node.directory, 'hung'))) {
          await gate.run(lane, 'statfs', () => hung);
        }
        return files.capacity(path);
      },
    },
  }));
  const pools = ['hung', 'good'].map((name) => node.settings(name));
  const { volumes } = await node.open(pools, { host });
  t.teardown(() => {
    resume();
  });
  isHanging = true;
  const capacityOf = (pool: string) =>
    volumes.capacity({ pool, fsType: 'ext4', provisioning: 'thin' });
  const waiting = capacityOf('hung');
  t.true((await capacityOf('good')).availableBytes > 0n);
  resume();
  t.true((await waiting).availableBytes > 0n);
});

/** Two pools with one volume each. The disk of one stops answering at `stall`. */
async function oneHangs(t: ExecutionContext) {
  const node = await fakeNode(t);
  const { files } = node.host;
  let resume = (): void => undefined;
  const hung = new Promise<void>((resolve) => {
    resume = resolve;
  });
  let isHanging = false;
  for (const name of ['capacity', 'imageStatus', 'list'] as const) {
    const real: (path: string) => Promise<unknown> = files[name].bind(files);
    Object.defineProperty(files, name, {
      value: async (path: string) => {
        if (isHanging && path.startsWith(join(node.directory, 'hung'))) await hung;
        return real(path);
      },
    });
  }
  const opened = await node.open(['hung', 'good'].map((name) => node.settings(name)));
  t.teardown(resume);
  for (const pool of ['hung', 'good']) {
    const settings = { ...plainSettings, pool };
    await opened.volumes.createVolume(call(), volumeInput(`in-${pool}`, { settings }));
  }
  const stall = (): void => {
    isHanging = true;
  };
  return { ...opened, directory: node.directory, stall };
}

/** Time limit of the disk, and the time of everything else on a busy machine. */
const timeoutMs = 12_000;

test('calls that query all pools report a pool that does not answer, and continue without it', async (t) => {
  t.timeout(60_000);
  const { volumes, administration, stall } = await oneHangs(t);
  const page = { maxEntries: 0, startingToken: '' };
  stall();
  const begunMs = performance.now();
  const asked = { pool: undefined, kind: 'mount', fsType: 'ext4', provisioning: 'thin' } as const;
  const [pools, listed, findings, capacity, conditions, health, created] = await Promise.all([
    administration.listPools(),
    administration.listVolumes({ ...page, pool: '' }),
    administration.diagnose(),
    volumes.capacity(asked),
    volumes.storageHealth(),
    volumes.listVolumeHealth(page),
    volumes.createVolume(call(), volumeInput('new')).catch((error: unknown) => error),
  ]);
  t.true(performance.now() - begunMs < timeoutMs);
  t.like(pools[0], { problem: undefined });
  t.regex(pools[1]?.problem ?? '', /^pool 'hung': .* has not answered for 5 s; check its disk$/);
  t.is(pools[1]?.space, undefined);
  const told = listed.entries.map(({ pool, conditions }) => [pool, conditions[0]?.reason] as const);
  t.deepEqual(
    new Map(told),
    new Map([
      ['good', undefined],
      ['hung', 'PoolNotAnswering'],
    ]),
  );
  t.is(findings.find(({ name }) => name === 'pool:hung')?.state, 'fail');
  t.true(capacity.availableBytes > 0n);
  t.true(conditions.some(({ pool, reason }) => pool === 'hung' && reason === 'PoolNotAnswering'));
  t.deepEqual(
    health.entries.map(({ conditions: [first] }) => first?.reason),
    ['PoolNotAnswering'],
  );
  if (!(created instanceof VolumeError)) return t.fail('a name must be free in all pools');
  t.is(created.reason, 'unavailable');
  t.regex(created.message, /pool 'hung'.*may have a volume 'new'.*\(good\): parameter pool/);
});

test('a call that waits for the capacity of a pool fails when the pool becomes unavailable', async (t) => {
  const { volumes, domain, directory, stall } = await oneHangs(t);
  stall();
  const settings = { ...plainSettings, pool: 'hung' };
  const created = reasonOf(volumes.createVolume(call(), volumeInput('new', { settings })));
  const path = join(directory, 'hung');
  await rename(path, join(directory, 'elsewhere'));
  await domain.pools.named('hung').check();
  t.is(await created, 'unavailable');
});

test('after a call that waits long the next check tries a write, because a hung disk still answers from its cache', async (t) => {
  const node = await fakeNode(t);
  const { files } = node.host;
  const makeNewDirectory = files.makeNewDirectory.bind(files);
  const tried: string[] = [];
  files.makeNewDirectory = (path) => {
    if (path.includes('/tmp/.trial.')) tried.push(path);
    return makeNewDirectory(path);
  };
  const pools = ['hung', 'good'].map((name) => node.settings(name));
  await node.open(pools, { longestWaitMs: (pool) => (pool === 'hung' ? 61_000 : 59_000) });
  await until('the pool is tried', () => tried.length > 0, 20_000);
  for (const path of tried) t.true(path.startsWith(join(node.directory, 'hung')));
});

test('a record that is replaced after its caller got an error about a hung disk is read again', async (t) => {
  const node = await fakeNode(t);
  const threads = new Gate();
  let resume = (): void => undefined;
  const hung = new Promise<void>((resolve) => {
    resume = resolve;
  });
  let isHanging = false;
  const host = changedHost(node.host, ({ files, lane }) => ({
    files: {
      ...files,
      replaceFile: (path, text, options) => {
        if (!isHanging) return files.replaceFile(path, text, options);
        isHanging = false;
        const late = () => hung.then(() => files.replaceFile(path, text, options));
        return threads.run(lane, 'replace', late, { timeoutMs: 50 });
      },
    },
  }));
  const { volumes, domain } = await node.open([node.settings('a')], {
    host,
    whenReturned: (lane) => threads.whenReturned(lane),
  });
  t.teardown(resume);
  const { record } = await volumes.createVolume(call(), volumeInput('v', { sizeBytes: 16n * MiB }));
  const volumeId = record.id;
  const range = { requiredBytes: 32n * MiB, limitBytes: 0n };
  isHanging = true;
  t.is(await reasonOf(volumes.expandVolume(call(), { volumeId, range })), 'busy');
  resume();
  await until('it may be used again', async () => domain.operations.locks.size === 0);
  const path = domain.pools.named('a').pathOf('volumes', volumeId, 'volume.json');
  t.regex(await readFile(path, 'utf8'), new RegExp(`${32n * MiB}`));
  t.is((await volumes.getVolume(volumeId)).record.sizeBytes, 32n * MiB);
});
