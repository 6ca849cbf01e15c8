import { mkdir, readdir, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { KernelError, StuckError } from '../../../../src/host/errors.ts';
import { MiB } from '../../../../src/units.ts';
import { mayBeOfOtherDriver } from '../../../../src/volumes/attachment/foreign-device.ts';
import { changedHost } from '../../../helpers/changed-host.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { call, capability, plainSettings, volumeInput } from '../../../helpers/scratch-node.ts';

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
  const stray = join(pool.directoryOf('volumes'), 'stray.img');
  await writeFile(stray, Buffer.alloc(65_536));
  const gone = join(pool.directoryOf('volumes'), 'gone.img');
  await writeFile(gone, Buffer.alloc(65_536));
  const ofStray = await node.host.loops.attach(stray, { ...attachOptions, label: 'stray' });
  const ofGone = await node.host.loops.attach(gone, { ...attachOptions, label: 'gone' });
  await rm(gone);
  const before = (await node.host.loops.list()).length;
  t.deepEqual(await list(), [
    ['loop-device', ofVolume.path, false],
    ['loop-device', ofStray.path, true],
    ['loop-device', ofGone.path, false],
    ['entry-without-record', stray, true],
  ]);
  const release = domain.operations.locks.acquire({ exclusive: [`volume:${idle.id}`] }, 'a test');
  const [busy] = await administration.removeLeftovers([ofVolume.path]);
  t.is(busy?.problem, 'it is not left over any more', 'a call works on the volume');
  release();
  const removed = await administration.removeLeftovers([
    ofVolume.path,
    ofGone.path,
    ofStray.path,
    stray,
  ]);
  t.deepEqual(
    removed.map(({ problem }) => problem),
    [
      '',
      '',
      `find out what ${stray} is; if it is not needed, run 'losetup --detach ${ofStray.path}'`,
      'inspect it, and move it out of the pool if it is not needed; the driver never removes it',
    ],
  );
  t.is((await node.host.loops.list()).length, before - 2);
  t.true((await stat(stray)).isFile());
});

test('devices of drivers with the same paths in other mount namespaces are not claimed', async (t) => {
  const { node, list, administration, pool, domain, create } = await nodeInUse(t);
  const own = await create('own');
  const { imagePath } = domain.pools.getVolume(own.id);
  // Their images have paths of this pool, where this driver has another file, or none.
  const hidden = join(pool.directoryOf('volumes'), 'hidden.img');
  const other = join(pool.directoryOf('volumes'), 'other.img');
  for (const path of [hidden, other]) await writeFile(path, Buffer.alloc(65_536));
  const ofHidden = await node.host.loops.attach(hidden, { ...attachOptions, label: 'hidden' });
  const ofOther = await node.host.loops.attach(other, { ...attachOptions, label: 'x.00000000' });
  const ofOwn = await node.host.loops.attach(imagePath, { ...attachOptions, label: own.id });
  const host = changedHost(node.host, ({ loops }) => ({
    loops: {
      ...loops,
      // As the kernel reports it: no path here leads to the inode.
      backingPath: async (device) =>
        device.number === ofHidden.number ? imagePath : loops.backingPath(device),
    },
  }));
  const foreign = { ...domain, host };
  t.true(await mayBeOfOtherDriver(foreign, ofHidden, { file: imagePath, pool }));
  t.true(await mayBeOfOtherDriver(domain, ofHidden, { file: `${hidden}.moved`, pool }));
  t.false(await mayBeOfOtherDriver(domain, ofHidden, { file: `${hidden} (deleted)`, pool }));
  t.false(await mayBeOfOtherDriver(domain, ofOwn, { file: imagePath, pool }));
  await rm(other);
  t.deepEqual(
    (await list()).filter(([kind]) => kind === 'loop-device'),
    [
      ['loop-device', ofHidden.path, true],
      ['loop-device', ofOwn.path, false],
    ],
    'the label of the other one has the tag of another node',
  );
  const findings = await administration.diagnose();
  const found = findings.find(({ name }) => name === 'foreign-loop-devices');
  t.is(found?.state, 'ok');
  t.regex(found?.message ?? '', new RegExp(`^${ofOther.path}: .*maybe of another driver`));
  t.false(findings.some(({ name }) => name === `loop-device:${ofOther.path}`));
});

test('the device of a volume whose image was deleted is kept: it has the only copy', async (t) => {
  const { node, administration, create, domain } = await nodeInUse(t);
  const { imagePath, record } = domain.pools.getVolume((await create('v')).id);
  const device = await node.host.loops.attach(imagePath, { ...attachOptions, label: record.id });
  await rm(imagePath);
  const [result] = await administration.removeLeftovers([device.path]);
  const remedy = /^copy \/dev\/loop\d+, the only copy of the deleted image of 'v', to a file, then/;
  t.regex(result?.problem ?? '', remedy);
  const findings = await administration.diagnose();
  const finding = findings.find(({ name }) => name === `loop-device:${device.path}`);
  t.regex(finding?.remedy ?? '', remedy);
  t.truthy(await node.host.loops.at(device.number));
});

test('a raw block volume that comes into use after the search keeps its device', async (t) => {
  const { node, administration, volumes, domain } = await nodeInUse(t);
  const input = volumeInput('raw', { kind: 'block', sizeBytes: 16n * MiB });
  const { id } = (await volumes.createVolume(call(), input)).record;
  const { imagePath } = domain.pools.getVolume(id);
  const device = await node.host.loops.attach(imagePath, { ...attachOptions, label: id });
  const stagingTargetPath = join(node.directory, 'raw');
  await mkdir(stagingTargetPath);
  const { host } = node;
  const isInUse = host.loops.isInUse.bind(host.loops);
  host.loops.isInUse = async (asked) => {
    host.loops.isInUse = isInUse;
    const answer = await isInUse(asked);
    const at = { volumeId: id, stagingTargetPath };
    await volumes.stageVolume(call(), { ...at, capability: capability({ kind: 'block' }) });
    return answer;
  };
  const [result] = await administration.removeLeftovers([device.path]);
  t.regex(result?.problem ?? '', /has come into use at /);
  t.truthy(await host.loops.at(device.number));
});

test('an entry of tmp/ is removed with its device; a device of another program keeps it', async (t) => {
  const { node, list, administration, makeOld, pool } = await nodeInUse(t);
  const old = await makeOld('1.00000000-0000-4000-8000-000000000000.v.562f2833');
  const image = join(old, 'disk.img');
  const number = await node.host.otherSoftware.attach(image);
  const [refused] = await administration.removeLeftovers([old]);
  t.regex(refused?.problem ?? '', /another program has attached it/);
  const foreign = await node.host.loops.at(number);
  if (foreign === undefined) throw new Error('it was detached');
  await node.host.loops.detach(foreign);
  const before = (await node.host.loops.list()).length;
  await node.host.loops.attach(image, { ...attachOptions, label: 'v' });
  t.deepEqual(await administration.removeLeftovers([old]), [{ path: old, problem: '' }]);
  t.is((await node.host.loops.list()).length, before);
  // A device whose entry was removed, as by an earlier version.
  const removed = join(pool.directoryOf('tmp'), 'removed.img');
  await writeFile(removed, Buffer.alloc(65_536));
  const device = await node.host.loops.attach(removed, { ...attachOptions, label: 'v' });
  await rm(removed);
  t.deepEqual(await list(), [['loop-device', device.path, false]]);
  t.deepEqual(await administration.removeLeftovers([device.path]), [
    { path: device.path, problem: '' },
  ]);
});

test('the capture that an export reads is not left over, and gone afterwards', async (t) => {
  const { list, administration, pool } = await nodeInUse(t);
  const input = {
    kind: 'volume',
    idOrName: 'used',
    startingOffset: 0n,
    expectedState: '',
  } as const;
  const steps = administration.exportImage(call(), input)[Symbol.asyncIterator]();
  await steps.next();
  const [entry] = await readdir(pool.directoryOf('tmp'));
  const capture = join(pool.directoryOf('tmp'), String(entry));
  const past = new Date(Date.now() - 3_600_000);
  await utimes(capture, past, past);
  t.deepEqual(await list(), []);
  await administration.removeLeftovers([capture]);
  t.true((await stat(join(capture, 'disk.img'))).isFile());
  const findings = await administration.diagnose();
  t.deepEqual(
    findings.filter(({ name }) => name === 'pool:a:tmp'),
    [],
  );
  await steps.return?.();
  t.deepEqual(await readdir(pool.directoryOf('tmp')), []);
});

test('a pool that hangs is left out, also from the search for devices', async (t) => {
  const node = await fakeNode(t);
  const { administration, volumes, domain } = await node.open([
    node.settings('a'),
    node.settings('b'),
  ]);
  const devices = [];
  for (const pool of ['a', 'b']) {
    const input = volumeInput(`of-${pool}`, {
      sizeBytes: 16n * MiB,
      settings: { ...plainSettings, pool },
    });
    const { imagePath } = domain.pools.getVolume(
      (await volumes.createVolume(call(), input)).record.id,
    );
    devices.push(await node.host.loops.attach(imagePath, { ...attachOptions, label: pool }));
  }
  const { files } = node.host;
  const imageStatus = files.imageStatus.bind(files);
  files.imageStatus = async (path) => {
    if (path.startsWith(`${domain.pools.named('b').root}/`)) throw new StuckError('stat', 'b', 0);
    return imageStatus(path);
  };
  const found = await administration.listLeftovers();
  t.deepEqual(
    found.map(({ path }) => path),
    [devices[0]?.path],
  );
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

test('the progress of a copy is kept while a call works on its snapshot', async (t) => {
  const { node, administration, used, volumes, pool, domain } = await nodeInUse(t);
  const { record } = await volumes.createSnapshot(call(), {
    name: 's',
    sourceVolumeId: used.id,
    settings: { freeze: true },
    parameters: {},
  });
  const progress = pool.pathOf('snapshots', record.id, 'copy.json');
  await writeFile(progress, '{}');
  const { files } = node.host;
  const imageStatus = files.imageStatus.bind(files);
  let release = () => {};
  files.imageStatus = async (path) => {
    // The call begins after the search.
    if (path === progress) {
      const exclusive = [`snapshot:${record.id}`];
      release = domain.operations.locks.acquire({ exclusive }, 'DeleteSnapshot');
    }
    return imageStatus(path);
  };
  const [refused] = await administration.removeLeftovers([progress]);
  t.regex(refused?.problem ?? '', /DeleteSnapshot is in progress/);
  release();
  t.true((await stat(progress)).isFile());
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

test('a volume that Docker knows, of a pool that another one has replaced, is reported, and not removed', async (t) => {
  const { node, list, administration, pool } = await nodeInUse(t);
  const known = join(node.directory, 'state', 'known-volumes');
  await mkdir(known, { recursive: true });
  const fileOf = async (name: string, uuid: string): Promise<string> => {
    const path = join(known, `${name}.562f2833`);
    await writeFile(path, `${uuid}\n`);
    return path;
  };
  await fileOf('kept', pool.marker?.uuid ?? '');
  const replaced = await fileOf('replaced', '00000000-0000-4000-8000-000000000000');
  await writeFile(join(known, 'old.562f2833'), '\n');
  t.deepEqual(await list(), [['known-volume', replaced, true]]);
  const [result] = await administration.removeLeftovers([replaced]);
  t.is(result?.problem, `if its pool is lost for good: rm ${replaced}`);
  t.true((await stat(replaced)).isFile());
});
