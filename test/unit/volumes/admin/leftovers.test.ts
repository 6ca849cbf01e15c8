import { mkdir, readdir, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { KernelError } from '../../../../src/host/errors.ts';
import { MiB } from '../../../../src/units.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { call, capability, volumeInput } from '../../../helpers/scratch-node.ts';

const attachOptions = { sectorSize: 4096, readOnly: false, directIo: true, discard: true } as const;

async function nodeInUse(t: ExecutionContext) {
  const node = await fakeNode(t, { reflink: true });
  const settings = node.settings('a');
  const { volumes, administration, domain } = await node.open([settings]);
  const create = async (name: string) =>
    (await volumes.createVolume(call(), volumeInput(name, { sizeBytes: 16n * MiB }))).record;
  const used = await create('used');
  const stagingTargetPath = join(node.directory, 'staging');
  await mkdir(stagingTargetPath);
  const at = { volumeId: used.id, stagingTargetPath };
  await volumes.stageVolume(call(), { ...at, capability: capability() });
  const list = async () =>
    (await administration.listLeftovers()).map(({ kind, path, remedy }) => [
      kind,
      path,
      remedy !== '',
    ]);
  const pool = domain.pools.named('a');
  /** A directory in `tmp/`, as old as an interrupted call of an hour ago. */
  const makeOld = async (name: string) => {
    const path = join(pool.directoryOf('tmp'), name);
    await mkdir(path);
    await writeFile(join(path, 'disk.img'), Buffer.alloc(65_536, 1));
    const past = new Date(Date.now() - 3_600_000);
    await utimes(path, past, past);
    return path;
  };
  return { node, volumes, administration, domain, create, list, pool, makeOld, used, settings };
}

test('a node in use has no leftovers', async (t) => {
  const { list, volumes, used } = await nodeInUse(t);
  await volumes.createSnapshot(call(), {
    name: 's',
    sourceVolumeId: used.id,
    settings: { freeze: true },
    parameters: {},
  });
  t.deepEqual(await list(), []);
});

test('old entries of tmp/ are removed, young ones and those of running calls are not', async (t) => {
  const { list, administration, makeOld, pool, domain } = await nodeInUse(t);
  const old = await makeOld('1.00000000-0000-4000-8000-000000000000.v.562f2833');
  const young = join(pool.directoryOf('tmp'), 'young');
  await mkdir(young);
  t.deepEqual(await list(), [['incomplete-entry', old, false]]);
  const [left] = await administration.listLeftovers();
  t.true((left?.bytes ?? 0n) >= 65_536n);
  let end = () => {};
  const running = domain.operations.run(
    domain,
    call(),
    { name: 'Test', lane: { kind: 'volume', id: 'x' }, exclusive: ['volume:x'] },
    () => new Promise<void>((resolve) => (end = resolve)),
  );
  t.deepEqual(await list(), [], 'it may belong to the call');
  t.deepEqual(await administration.removeLeftovers([old]), [
    { path: old, problem: 'it is not left over any more' },
  ]);
  end();
  await running;
  t.deepEqual(await administration.removeLeftovers([old]), [{ path: old, problem: '' }]);
  t.deepEqual(await readdir(pool.directoryOf('tmp')), ['young']);
});

test('devices of the driver that nothing uses are detached; those of volumes in use are not listed', async (t) => {
  const { node, list, administration, create, domain, pool } = await nodeInUse(t);
  const idle = await create('idle');
  const { imagePath } = domain.pools.getVolume(idle.id);
  const ofVolume = await node.host.loops.attach(imagePath, { ...attachOptions, label: idle.id });
  const stray = join(pool.directoryOf('volumes'), 'gone.img');
  await writeFile(stray, Buffer.alloc(65_536));
  const ofStray = await node.host.loops.attach(stray, { ...attachOptions, label: 'gone' });
  const before = (await node.host.loops.list()).length;
  t.deepEqual(await list(), [
    ['loop-device', ofVolume.path, false],
    ['loop-device', ofStray.path, false],
    ['entry-without-record', stray, true],
  ]);
  const release = domain.operations.locks.acquire({ exclusive: [`volume:${idle.id}`] }, 'a test');
  const [busy] = await administration.removeLeftovers([ofVolume.path]);
  t.is(busy?.problem, 'it is not left over any more', 'a call works on the volume');
  release();
  const removed = await administration.removeLeftovers([ofVolume.path, ofStray.path, stray]);
  t.deepEqual(
    removed.map(({ problem }) => problem),
    [
      '',
      '',
      'inspect it, and move it out of the pool if it is not needed; the driver never removes it',
    ],
  );
  t.is((await node.host.loops.list()).length, before - 2);
  t.true((await stat(stray)).isFile());
});

test('a device of another program is never listed', async (t) => {
  const { node, list, create, domain } = await nodeInUse(t);
  const { imagePath } = domain.pools.getVolume((await create('idle')).id);
  await node.host.otherSoftware.attach(imagePath);
  t.deepEqual(await list(), []);
});

test('a deleted entry whose removal failed is tried again', async (t) => {
  const { node, list, administration, create, volumes, domain, pool } = await nodeInUse(t);
  const { id } = await create('deleted');
  node.host.failNext('files.removeTree', new KernelError('rmdir', 'EIO', 'a test'));
  await volumes.deleteVolume(call(), id);
  await domain.trash.whenIdle();
  const [[kind, path] = []] = await list();
  t.is(kind, 'deleted-entry');
  t.deepEqual(await administration.removeLeftovers([String(path)]), [{ path, problem: '' }]);
  t.deepEqual(await readdir(pool.directoryOf('trash')), []);
});

test('empty mount directories and finished copies are removed; other content is kept', async (t) => {
  const { node, list, administration, used, volumes, pool } = await nodeInUse(t);
  const mounts = join(node.directory, 'state', 'mounts');
  await mkdir(join(mounts, 'empty'), { recursive: true });
  await mkdir(join(mounts, 'full'));
  await writeFile(join(mounts, 'full', 'file'), '');
  const { record } = await volumes.createSnapshot(call(), {
    name: 's',
    sourceVolumeId: used.id,
    settings: { freeze: true },
    parameters: {},
  });
  const progress = pool.pathOf('snapshots', record.id, 'copy.json');
  await writeFile(progress, '{}');
  t.deepEqual(await list(), [
    ['copy-progress', progress, false],
    ['mount-directory', join(mounts, 'empty'), false],
  ]);
  const paths = [progress, join(mounts, 'empty'), pool.recordPathOf('volumes', used.id), pool.root];
  const results = await administration.removeLeftovers(paths);
  t.deepEqual(
    results.map(({ problem }) => problem === ''),
    [true, true, false, false],
    'a path that is no leftover is not removed',
  );
  t.deepEqual(await readdir(mounts), ['full']);
  t.deepEqual(await list(), []);
});

test('a pool that vanished is reported, and not forgotten', async (t) => {
  const { node, list, administration } = await nodeInUse(t);
  const other = await fakeNode(t);
  const gone = join(node.directory, 'gone');
  await node.open([{ ...other.settings('b'), path: gone }], {
    stateDir: join(node.directory, 'state'),
  });
  await node.host.files.removeTree(gone);
  t.deepEqual(await list(), [['vanished-pool', gone, true]]);
  const [result] = await administration.removeLeftovers([gone]);
  t.regex(result?.problem ?? '', /loopcsi pool forget NAME=/);
});
