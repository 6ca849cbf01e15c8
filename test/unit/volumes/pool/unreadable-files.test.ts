/** One file of a volume cannot be read from the pool's disk. */
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { KernelError } from '../../../../src/host/errors.ts';
import { GiB } from '../../../../src/units.ts';
import { reloadAllSetAside } from '../../../../src/volumes/attachment/duplicates.ts';
import { type FakeNode, fakeNode } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, capability, volumeInput } from '../../../helpers/scratch-node.ts';

const asked = { kind: 'mount', provisioning: 'thin', fsType: 'ext4', pool: undefined } as const;
const all = { maxEntries: 0, startingToken: '' } as const;

/** Every access to a path with one of these ends gets an I/O error, until the set is cleared. */
function breakFiles({ host: { files } }: FakeNode): Set<string> {
  const broken = new Set<string>();
  const failure = (path: string): Error | undefined =>
    [...broken].some((end) => path.endsWith(end))
      ? new KernelError('read', 'EIO', path)
      : undefined;
  const imageStatus = files.imageStatus.bind(files);
  const readText = files.readText.bind(files);
  const readTexts = files.readTexts.bind(files);
  files.imageStatus = async (path) => {
    const error = failure(path);
    if (error !== undefined) throw error;
    return imageStatus(path);
  };
  files.readText = async (path) => {
    const error = failure(path);
    if (error !== undefined) throw error;
    return readText(path);
  };
  files.readTexts = async (paths) => {
    const read = await readTexts(paths);
    return read.map((one, at) => {
      const error = failure(paths[at] ?? '');
      return error === undefined ? one : { status: 'rejected', reason: error };
    });
  };
  return broken;
}

async function twoVolumes(t: ExecutionContext) {
  const node = await fakeNode(t);
  const broken = breakFiles(node);
  const open = () => node.open([node.settings('a', { overcommitPerMille: 20_000 })]);
  const opened = await open();
  const make = async (name: string): Promise<string> =>
    (await opened.volumes.createVolume(call(), volumeInput(name))).record.id;
  return {
    ...opened,
    opened,
    node,
    broken,
    open,
    make,
    bad: await make('bad'),
    good: await make('good'),
  };
}

test('an unreadable image fails only the calls for its volume, and its pool is still measured', async (t) => {
  const { volumes, domain, broken, make, bad, good } = await twoVolumes(t);
  const pool = domain.pools.named('a');
  broken.add(`${bad}/disk.img`);
  pool.space.invalidate();
  t.true((await pool.space.availableBytes()) > 0n);
  await make('beside');
  t.true((await volumes.capacity(asked)).availableBytes > 0n);
  t.deepEqual(await volumes.storageHealth(), []);
  t.deepEqual(await volumes.volumeHealth(good), []);
  const [condition, ...others] = await volumes.volumeHealth(bad);
  t.is(condition?.reason, 'ImageUnreadable');
  t.regex(condition?.message ?? '', /bad\.\S+disk\.img: EIO; check the pool's disk/);
  t.deepEqual(others, []);
  t.is(await reasonOf(volumes.deleteVolume(call(), bad)), 'internal');
  broken.clear();
  t.deepEqual(await volumes.volumeHealth(bad), []);
  t.is(await reasonOf(volumes.deleteVolume(call(), bad)), 'ok');
});

test('a measurement that finds an unreadable image causes a check of its pool', async (t) => {
  const { domain, node, broken, bad } = await twoVolumes(t);
  const pool = domain.pools.named('a');
  broken.add(`${bad}/disk.img`);
  pool.space.invalidate();
  await pool.space.facts();
  node.host.failNext('files.makeNewDirectory', new KernelError('mkdir', 'EROFS', 'a test'));
  await pool.check();
  t.regex(pool.problem ?? '', /has failed or is read-only/);
});

test('an unreadable record is used again as soon as it can be read', async (t) => {
  const { broken, open, opened, bad, good } = await twoVolumes(t);
  await opened.close(100);
  broken.add(`${bad}/volume.json`);
  const { volumes, domain, administration } = await open();
  await t.throwsAsync(volumes.getVolume(bad), {
    message: /bad\.\S+volume\.json: EIO; check the pool's disk/,
  });
  t.is(await reasonOf(volumes.createVolume(call(), volumeInput('bad'))), 'internal');
  t.is(await reasonOf(volumes.getVolume(good)), 'ok');
  t.is((await volumes.volumeHealth(bad))[0]?.reason, 'RecordUnreadable');
  const found = (await administration.diagnose()).find(({ name }) => name === 'pool:a:record');
  t.regex(found?.remedy ?? '', /^check the pool's disk/);
  t.notRegex(found?.remedy ?? '', /backup/);
  broken.clear();
  await reloadAllSetAside(domain, domain.pools.named('a'));
  t.is(await reasonOf(volumes.getVolume(bad)), 'ok');
});

for (const kind of ['mount', 'block'] as const) {
  test(`${kind}: an unreadable node state does not prevent the end of a pod, and stays unchanged`, async (t) => {
    const node = await fakeNode(t);
    const broken = breakFiles(node);
    const open = () => node.open([node.settings('a')]);
    const before = await open();
    const { record } = await before.volumes.createVolume(
      call(),
      volumeInput('v', { kind, sizeBytes: GiB }),
    );
    const stagingTargetPath = join(node.directory, 'staging');
    const targetPath = join(node.directory, 'target');
    await mkdir(stagingTargetPath);
    const at = { volumeId: record.id, stagingTargetPath, targetPath };
    const input = { ...at, capability: capability({ kind }), readOnly: false };
    await before.volumes.stageVolume(call(), input);
    await before.volumes.publishVolume(call(), input);
    await before.close(100);
    const notes = join(node.directory, 'a', 'volumes', record.id, 'node.json');
    const text = await readFile(notes, 'utf8');
    broken.add('node.json');
    const { volumes, administration } = await open();
    const [condition] = await volumes.volumeHealth(record.id);
    t.regex(condition?.message ?? '', /node\.json: EIO; check the pool's disk/);
    const { entries } = await administration.listVolumes({ ...all, pool: '' });
    t.is(entries.length, 1);
    t.is(await reasonOf(volumes.stageVolume(call(), input)), 'internal');
    const mounts = await node.host.mounts.list();
    t.is(await reasonOf(volumes.unstageVolume(call(), at)), 'wrong-state');
    t.deepEqual(await node.host.mounts.list(), mounts, 'a published volume stays staged');
    await volumes.unpublishVolume(call(), at);
    await volumes.unstageVolume(call(), at);
    t.deepEqual(await node.host.mounts.list(), []);
    t.deepEqual(await node.host.loops.list(), []);
    t.is(await readFile(notes, 'utf8'), text);
    broken.clear();
    await volumes.stageVolume(call(), input);
    await volumes.unstageVolume(call(), at);
  });
}

test('health reports an unreadable superblock before a stage fails on it', async (t) => {
  const { volumes, node, bad, good } = await twoVolumes(t);
  const { ext4 } = node.host.filesystems;
  const readSuperblock = ext4.readSuperblock.bind(ext4);
  ext4.readSuperblock = (path) =>
    path.includes('/bad.')
      ? Promise.reject(new KernelError('read', 'EIO', path))
      : readSuperblock(path);
  t.is((await volumes.volumeHealth(bad))[0]?.reason, 'ImageUnreadable');
  t.deepEqual(await volumes.volumeHealth(good), []);
  const stagingTargetPath = join(node.directory, 'staging');
  await mkdir(stagingTargetPath);
  const input = { volumeId: bad, stagingTargetPath, capability: capability() };
  await t.throwsAsync(volumes.stageVolume(call(), input), {
    message: /volume 'bad\..*EIO; the disk of pool 'a' has failed: check the disk/,
  });
  t.deepEqual(await node.host.loops.list(), []);
  ext4.readSuperblock = readSuperblock;
  t.is(await reasonOf(volumes.stageVolume(call(), input)), 'ok');
});

test('the error of a restore into another pool names the pool of the snapshot that cannot be read', async (t) => {
  const node = await fakeNode(t);
  const { volumes } = await node.open([node.settings('a'), node.settings('b')]);
  const settings = (pool: string) => ({ settings: { ...volumeInput('x').settings, pool } });
  const source = await volumes.createVolume(call(), volumeInput('v', settings('a')));
  const snapshot = await volumes.createSnapshot(call(), {
    name: 's',
    sourceVolumeId: source.record.id,
    settings: { freeze: false },
    parameters: {},
  });
  const { copies } = node.host;
  const copySparse = copies.copySparse.bind(copies);
  copies.copySparse = (from) => Promise.reject(new KernelError('read', 'EIO', from));
  const input = volumeInput('restored', {
    ...settings('b'),
    source: { kind: 'snapshot', id: snapshot.record.id },
  });
  const blamed = {
    message: /^volume 'restored': snapshot 's\..*EIO; the disk of pool 'a' has failed: check/,
  };
  await t.throwsAsync(volumes.createVolume(call(), input), blamed);
  copies.copySparse = copySparse;
  const broken = breakFiles(node);
  broken.add(`${snapshot.record.id}/disk.img`);
  await t.throwsAsync(volumes.createVolume(call(), input), blamed);
  broken.clear();
  t.is(await reasonOf(volumes.createVolume(call(), input)), 'ok');
});

for (const reflink of [false, true]) {
  test(`an error about snapshots that cannot be compared names their disk (${reflink ? 'by maps' : 'by content'})`, async (t) => {
    const node = await fakeNode(t, { reflink });
    const { volumes } = await node.open([node.settings('a')]);
    const sourceVolumeId = (await volumes.createVolume(call(), volumeInput('v'))).record.id;
    const cut = async (name: string): Promise<string> => {
      const input = { name, sourceVolumeId, settings: { freeze: false }, parameters: {} };
      return (await volumes.createSnapshot(call(), input)).record.id;
    };
    const [baseSnapshotId, targetSnapshotId] = [await cut('s1'), await cut('s2')];
    const failure = new KernelError('FIEMAP', 'EIO', 'an image');
    node.host.extents.map = () => ({
      [Symbol.asyncIterator]: () => ({ next: () => Promise.reject(failure) }),
    });
    const range = { startingOffset: 0n, batchSize: 1 };
    for (const answer of [
      await volumes.allocatedRanges(call(), { snapshotId: baseSnapshotId, ...range }),
      await volumes.changedRanges(call(), { baseSnapshotId, targetSnapshotId, ...range }),
    ]) {
      await t.throwsAsync(answer.batches[Symbol.asyncIterator]().next(), {
        message: /^snapshot 's1\..*EIO; the disk of pool 'a' has failed: check the disk/,
      });
    }
  });
}

test('the error of a delete of an unreadable entry names the failed disk', async (t) => {
  const { node, broken, open, opened, bad } = await twoVolumes(t);
  await opened.close(100);
  broken.add(`${bad}/volume.json`);
  const { volumes } = await open();
  node.host.failNext('files.renameNoReplace', new KernelError('rename', 'EIO', 'a test'));
  await t.throwsAsync(volumes.deleteVolume(call(), bad), {
    message: /^volume 'bad\..*EIO; the disk of pool 'a' has failed: check the disk/,
  });
  t.is(await reasonOf(volumes.deleteVolume(call(), bad)), 'ok');
});
