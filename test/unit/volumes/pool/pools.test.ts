import { readdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { makeFiles } from '../../../../src/host/files/files.ts';
import type { Capacity, Host } from '../../../../src/host/host.ts';
import { driverLane } from '../../../../src/host/lane.ts';
import { nodeTagOf } from '../../../../src/ids.ts';
import { KnownPools } from '../../../../src/state/known-pools.ts';
import { GiB, MiB, TiB } from '../../../../src/units.ts';
import { maxImageBytes } from '../../../../src/volumes/capacity.ts';
import type { FaultPoint } from '../../../../src/volumes/engine/fault-points.ts';
import type { OpenedVolumes } from '../../../../src/volumes/open.ts';
import { Pool } from '../../../../src/volumes/pool/pool.ts';
import { recoverEntries } from '../../../../src/volumes/recovery/recover-entries.ts';
import { FakeHost } from '../../../helpers/fake-host.ts';
import { fakeNode, silent } from '../../../helpers/fake-node.ts';
import { call, capability, volumeInput } from '../../../helpers/scratch-node.ts';
import { until } from '../../../helpers/until.ts';

/** A node whose free space the test sets. */
class RoomyHost extends FakeHost {
  override readonly files: Host['files'];

  constructor(capacity: Host['files']['capacity']) {
    super();
    this.files = { ...makeFiles(driverLane), capacity };
  }
}

const input = (name: string) => volumeInput(name, { sizeBytes: 16n * MiB });

test('a pool is served only after its recovery', async (t) => {
  const node = await fakeNode(t);
  const pool = new Pool(node.settings('a'), {
    host: new FakeHost(),
    knownPools: await KnownPools.open(makeFiles(driverLane), join(node.directory, 'state')),
    nodeTag: nodeTagOf('test-node'),
    reached: () => undefined,
    log: silent,
    now: Date.now,
  });
  const settle = async (): Promise<void> => {
    t.false(pool.isServed);
    t.throws(() => pool.requireServed(), { message: /still being opened/ });
    t.is(pool.directoryOf('tmp'), join(node.directory, 'a', 'tmp'));
  };
  t.true(await pool.open(settle));
  t.true(pool.isServed);
  await pool.close();
  t.false(pool.isServed);
});

test('a pool on a filesystem that cannot rename without replacing is not served, and its problem names the remedy', async (t) => {
  const node = await fakeNode(t);
  const probe = node.host.files.probe.bind(node.host.files);
  node.host.files.probe = async (directory) => ({
    ...(await probe(directory)),
    renameNoReplace: false,
  });
  const { domain } = await node.open([node.settings('a')]);
  t.deepEqual(
    domain.pools.all.map(({ isServed }) => isServed),
    [false],
  );
  t.regex(domain.pools.all[0]?.problem ?? '', /RENAME_NOREPLACE.*choose a directory on ext4/);
});

test('a pool whose recovery fails is not served', async (t) => {
  const node = await fakeNode(t);
  const { domain } = await node.open([node.settings('a')]);
  const [pool] = domain.pools.all;
  await pool?.close();
  t.false(await pool?.open(() => Promise.reject(new Error('the disk is broken'))));
  t.false(pool?.isServed);
  t.regex(pool?.problem ?? '', /the disk is broken/);
});

test('a volume created again while its pool was unavailable is used; its duplicate is reported and kept', async (t) => {
  const node = await fakeNode(t);
  const [a, b] = [node.settings('a'), node.settings('b')];
  const before = await node.open([a]);
  const { record } = await before.volumes.createVolume(call(), input('same'));
  await before.close(100);
  const between = await node.open([b]);
  await between.volumes.createVolume(call(), input('same'));
  await between.close(100);
  const both = await node.open([a, b]);
  const used = await both.volumes.getVolume(record.id);
  const health = await both.volumes.storageHealth();
  t.deepEqual(
    health.map(({ reason }) => reason),
    ['TwinsSetAside'],
  );
  t.not(health[0]?.pool, used.pool);
  const page = await both.volumes.listVolumes({ maxEntries: 0, startingToken: '' });
  t.is(page.entries.length, 1);
  await both.volumes.deleteVolume(call(), record.id);
  t.deepEqual(await readdir(join(node.directory, used.pool, 'volumes')), []);
  t.deepEqual(await readdir(join(node.directory, health[0]?.pool ?? '', 'volumes')), [record.id]);
});

/** Throws at that fault point, but only the first time. */
function failOnce(at: FaultPoint): (point: FaultPoint) => void {
  let failed = false;
  return (point) => {
    if (point !== at || failed) return;
    failed = true;
    throw new Error(`fault at ${point}`);
  };
}

for (const point of ['new:renamed', 'new:committed'] as const) {
  test(`a create that fails at ${point} leaves a complete volume, which is found and can be deleted`, async (t) => {
    const node = await fakeNode(t);
    const { volumes, domain } = await node.open([node.settings('a')], { reached: failOnce(point) });
    await t.throwsAsync(volumes.createVolume(call(), input('v')));
    const { entries } = await volumes.listVolumes({ maxEntries: 0, startingToken: '' });
    t.is(entries.length, 1);
    await volumes.deleteVolume(call(), entries[0]?.record.id ?? '');
    await domain.trash.whenIdle();
    for (const area of ['volumes', 'tmp', 'trash']) {
      t.deepEqual(await readdir(join(node.directory, 'a', area)), [], area);
    }
  });
}

for (const point of ['delete:detached', 'delete:renamed', 'delete:committed'] as const) {
  test(`a delete that fails at ${point} succeeds when it is repeated, and frees the blocks`, async (t) => {
    const node = await fakeNode(t);
    const { volumes, domain } = await node.open([node.settings('a')], { reached: failOnce(point) });
    const { record } = await volumes.createVolume(call(), input('v'));
    await t.throwsAsync(volumes.deleteVolume(call(), record.id));
    await volumes.deleteVolume(call(), record.id);
    await domain.trash.whenIdle();
    for (const area of ['volumes', 'tmp', 'trash']) {
      t.deepEqual(await readdir(join(node.directory, 'a', area)), [], area);
    }
    t.is((await domain.pools.all[0]?.space.facts())?.trashBytes, 0n);
  });
}

test('a repeated request without a filesystem finds its volume, even if the default has changed', async (t) => {
  const node = await fakeNode(t);
  const { volumes } = await node.open([node.settings('a')]);
  const open = { ...input('v'), isFsTypeUnset: true };
  const { record } = await volumes.createVolume(call(), open);
  const again = await volumes.createVolume(call(), { ...open, fsType: 'xfs' });
  t.deepEqual(again.record, record);
  await t.throwsAsync(volumes.createVolume(call(), { ...input('v'), fsType: 'xfs' }), {
    message: /filesystem is ext4, not xfs/,
  });
});

test('free space in one pool does not thaw volumes of another that is full', async (t) => {
  const node = await fakeNode(t);
  const guarded = { overcommitPerMille: 4000, reserve: { bytes: 0n } };
  let [isFull, looksAtB] = [false, 0];
  const capacity = async (path: string): Promise<Capacity> => {
    if (path.endsWith('/b')) looksAtB += 1;
    const freeBytes = path.endsWith('/a') && isFull ? 8n * MiB : 64n * GiB;
    const inodes = { totalInodes: 1_000_000n, freeInodes: 1_000_000n };
    return { totalBytes: 64n * GiB, freeBytes, availableBytes: freeBytes, ...inodes };
  };
  const host = new RoomyHost(capacity);
  const { volumes, domain } = await node.open(
    [node.settings('a', guarded), node.settings('b', guarded)],
    { host },
  );
  const settings = { ...input('v').settings, pool: 'a' };
  const { record } = await volumes.createVolume(call(), { ...input('v'), settings });
  const stagingTargetPath = join(node.directory, 'staging');
  const staging = { volumeId: record.id, stagingTargetPath };
  await volumes.stageVolume(call(), { ...staging, capability: capability() });
  isFull = true;
  await until('it is frozen', () => domain.guard.frozenSince(record.id) !== undefined);
  const since = domain.guard.frozenSince(record.id);
  const before = looksAtB;
  await until('the other pool was checked twice', () => looksAtB >= before + 2);
  t.is(domain.guard.frozenSince(record.id), since, 'it was frozen all the time');
  isFull = false;
  await until('it is thawed', () => domain.guard.frozenSince(record.id) === undefined);
  await volumes.unstageVolume(call(), staging);
});

test('mount options that can never work are refused when the volume is created', async (t) => {
  const node = await fakeNode(t);
  const { volumes } = await node.open([node.settings('a')]);
  const asked = { ...input('v'), mountFlags: ['noatime', 'journal_path=/dev/sda'] };
  await t.throwsAsync(volumes.createVolume(call(), asked), { message: /journal_path/ });
  t.deepEqual(await readdir(join(node.directory, 'a', 'volumes')), []);
});

test('the mount flags of a copy are checked for the filesystem of its source', async (t) => {
  const node = await fakeNode(t);
  const { volumes } = await node.open([node.settings('a')]);
  const xfs = { ...volumeInput('xfs', { sizeBytes: GiB }), fsType: 'xfs' } as const;
  const { record } = await volumes.createVolume(call(), xfs);
  const source = { kind: 'volume', id: record.id } as const;
  const copy = { ...volumeInput('copy', { sizeBytes: GiB, source }), isFsTypeUnset: true };
  t.is(copy.fsType, 'ext4');
  const refused = volumes.createVolume(call(), { ...copy, mountFlags: ['data=ordered'] });
  await t.throwsAsync(refused, { message: /'data=ordered' is not allowed for xfs/ });
  t.deepEqual(await readdir(join(node.directory, 'a', 'volumes')), [record.id]);
  await volumes.createVolume(call(), { ...copy, mountFlags: ['largeio'] });
});

test('the capacity of a pool that this node lacks is 0; creating a volume there is invalid', async (t) => {
  const node = await fakeNode(t);
  const { volumes } = await node.open([node.settings('a')]);
  const asked = { pool: 'nvme', provisioning: 'thin', kind: 'mount', fsType: 'ext4' } as const;
  t.like(await volumes.capacity(asked), { availableBytes: 0n, maximumVolumeBytes: 0n });
  const settings = { ...input('v').settings, pool: 'nvme' };
  await t.throwsAsync(volumes.createVolume(call(), { ...input('v'), settings }), {
    message: /no pool 'nvme'/,
  });
});

test('a thick volume needs free blocks, whatever overcommit allows', async (t) => {
  const node = await fakeNode(t);
  const inodes = { totalInodes: 1_000_000n, freeInodes: 1_000_000n };
  const few = { totalBytes: GiB, freeBytes: 100n * MiB, availableBytes: 100n * MiB, ...inodes };
  const guard = { overcommitPerMille: 50_000, reserve: { bytes: 60n * MiB }, guard: false };
  const host = new RoomyHost(async () => few);
  const { volumes } = await node.open([node.settings('a', guard)], { host });
  const asked = volumeInput('thick', { sizeBytes: 48n * MiB });
  await volumes.createVolume(call(), { ...asked, name: 'thin' });
  const settings = { ...asked.settings, provisioning: 'thick', trim: 'off' } as const;
  await t.throwsAsync(volumes.createVolume(call(), { ...asked, settings }), {
    message: /has 40 MiB free, but all 48 MiB must be allocated at once/,
  });
  const question = { pool: 'a', provisioning: 'thick', kind: 'mount', fsType: 'ext4' } as const;
  const told = { availableBytes: 40n * MiB, maximumVolumeBytes: 40n * MiB };
  t.like(await volumes.capacity(question), told, 'the reported capacity accounts for it');
  const thin = await volumes.capacity({ ...question, provisioning: 'thin' });
  t.true(thin.availableBytes > GiB);
});

test('the reported maximum does not exceed the maximum size of a volume', async (t) => {
  const node = await fakeNode(t);
  const inodes = { totalInodes: 1_000_000n, freeInodes: 1_000_000n };
  const bytes = { totalBytes: 100n * TiB, freeBytes: 100n * TiB, availableBytes: 100n * TiB };
  const host = new RoomyHost(async () => ({ ...bytes, ...inodes }));
  const { volumes } = await node.open([node.settings('a')], { host });
  const question = { pool: 'a', provisioning: 'thin', kind: 'block', fsType: null } as const;
  const { availableBytes, maximumVolumeBytes } = await volumes.capacity(question);
  t.true(availableBytes > 90n * TiB);
  t.is(maximumVolumeBytes, maxImageBytes);
});

test('an entry begun before a pool became unavailable is not committed after it is available again', async (t) => {
  const node = await fakeNode(t);
  const path = join(node.directory, 'a');
  const running: { opened?: OpenedVolumes } = {};
  let isFirst = true;
  running.opened = await node.open([node.settings('a')], {
    reached: async (point) => {
      const { opened } = running;
      if (point !== 'new:synced' || opened === undefined || !isFirst) return;
      isFirst = false;
      const { domain } = opened;
      const [pool] = domain.pools.all;
      if (pool === undefined) throw new Error('no pool');
      await rename(path, `${path}.away`);
      await pool.check();
      t.false(pool.isServed);
      await rename(`${path}.away`, path);
      t.true(await pool.open(() => recoverEntries(domain, pool)));
    },
  });
  const { volumes } = running.opened;
  await t.throwsAsync(volumes.createVolume(call(), input('v')), {
    message: /was unavailable in the meantime/,
  });
  t.deepEqual(await readdir(join(path, 'volumes')), []);
  t.deepEqual(await readdir(join(path, 'tmp')), []);
  await volumes.createVolume(call(), input('v'));
});

test('a pool of another node is refused until it is adopted, and a damaged record affects only its volume', async (t) => {
  const node = await fakeNode(t);
  const before = await node.open([node.settings('a')]);
  for (const name of ['plain', 'a name / with everything', 'broken']) {
    await before.volumes.createVolume(call(), input(name));
  }
  await before.close(100);
  const old = nodeTagOf('test-node');
  const broken = join(node.directory, 'a', 'volumes', `broken.${old}`, 'volume.json');
  await writeFile(broken, 'not a record');
  const nodeTag = nodeTagOf('new-node');
  const settings = { ...before.domain.settings, nodeTag };
  const { volumes, administration, domain } = await node.open([node.settings('a')], { settings });
  t.regex(domain.pools.all[0]?.problem ?? '', /loopcsi pool adopt a/);
  await administration.adoptPool('a');
  t.is(domain.pools.all[0]?.problem, undefined);
  const { entries } = await volumes.listVolumes({ maxEntries: 0, startingToken: '' });
  t.deepEqual(entries.map(({ record }) => record.name).sort(), [
    'a name / with everything',
    'plain',
  ]);
  for (const { record } of entries) {
    const again = await volumes.createVolume(call(), input(record.name));
    t.is(again.record.id, record.id);
    await volumes.deleteVolume(call(), record.id);
  }
  t.like(await volumes.volumeHealth(`broken.${nodeTag}`), [{ reason: 'RecordUnreadable' }]);
  await volumes.deleteVolume(call(), `broken.${nodeTag}`);
  t.deepEqual(await readdir(join(node.directory, 'a', 'volumes')), []);
});
