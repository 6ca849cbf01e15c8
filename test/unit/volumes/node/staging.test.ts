import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { noLimits } from '../../../../src/host/loop/io-limits.ts';
import type { Capability, CreateVolumeInput } from '../../../../src/volumes/model.ts';
import { cgroupV1 } from '../../../helpers/fake-device-limits.ts';
import { type FakeNode, fakeNode } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, capability, plainSettings, volumeInput } from '../../../helpers/scratch-node.ts';

/** Paths of a volume, relative to the node's directory. */
interface At {
  readonly staging?: string;
  readonly target?: string;
  readonly readOnly?: boolean;
}

/** A node with a volume, and functions that stage and publish it. */
async function nodeWith(t: ExecutionContext, made: Partial<CreateVolumeInput> = {}) {
  const node = await fakeNode(t);
  const opened = await node.open([node.settings('a')]);
  const { volumes } = opened;
  const { record } = await volumes.createVolume(call(), volumeInput('v', made));
  for (const name of ['staging', 'other']) await mkdir(join(node.directory, name));
  const pathsOf = ({ staging = 'staging', target = 'target' }: At) => ({
    volumeId: record.id,
    stagingTargetPath: join(node.directory, staging),
    targetPath: join(node.directory, target),
  });
  const { kind } = record;
  return {
    node,
    opened,
    volumes,
    record,
    pathsOf,
    stage: (asked: Partial<Capability> = {}, at: At = {}) =>
      volumes.stageVolume(call(), { ...pathsOf(at), capability: capability({ kind, ...asked }) }),
    publish: (asked: Partial<Capability> = {}, at: At = {}) =>
      volumes.publishVolume(call(), {
        ...pathsOf(at),
        capability: capability({ kind, ...asked }),
        readOnly: at.readOnly ?? false,
      }),
  };
}

/** The mount options of the last mounted filesystem. */
function lastMountOptions({ host }: FakeNode): readonly unknown[] {
  const mounted = host.watch.calls.findLast(({ name }) => name === 'mounts.mountDevice');
  const [, , asked] = mounted?.args ?? [];
  return typeof asked === 'object' &&
    asked !== null &&
    'options' in asked &&
    Array.isArray(asked.options)
    ? asked.options
    : [];
}

test('a repeated stage succeeds; a stage with other arguments is a conflict', async (t) => {
  const { stage } = await nodeWith(t);
  await stage();
  t.is(await reasonOf(stage()), 'ok');
  t.is(await reasonOf(stage({ mountFlags: ['noatime'] })), 'conflict');
  t.is(await reasonOf(stage({ accessMode: 'SINGLE_NODE_MULTI_WRITER' })), 'conflict');
});

test('a volume that is staged at one path is not staged at another', async (t) => {
  const { node, stage } = await nodeWith(t);
  await stage();
  t.is(await reasonOf(stage({}, { staging: 'other' })), 'wrong-state');
  t.is((await node.host.mounts.list()).length, 1);
});

test('no volume is staged over an existing mount', async (t) => {
  const { node, volumes, stage, pathsOf } = await nodeWith(t);
  await stage();
  const { record } = await volumes.createVolume(call(), volumeInput('w'));
  const asked = { ...pathsOf({}), volumeId: record.id, capability: capability() };
  t.is(await reasonOf(volumes.stageVolume(call(), asked)), 'wrong-state');
  t.is((await node.host.mounts.list()).length, 1);
});

test('a volume that is not staged at the requested path is not published', async (t) => {
  const { stage, publish } = await nodeWith(t);
  t.is(await reasonOf(publish()), 'wrong-state');
  await stage();
  t.is(await reasonOf(publish({}, { staging: 'other' })), 'wrong-state');
  t.is(await reasonOf(publish()), 'ok');
});

test('an access mode for one target refuses a second target and leaves nothing there', async (t) => {
  const { node, stage, publish } = await nodeWith(t);
  await stage();
  await publish();
  t.is(await reasonOf(publish({}, { target: 'second' })), 'wrong-state');
  t.false((await readdir(node.directory)).includes('second'));
});

test('a repeated publish succeeds; a publish with other arguments is a conflict', async (t) => {
  const { stage, publish } = await nodeWith(t);
  await stage();
  await publish();
  t.is(await reasonOf(publish()), 'ok');
  t.is(await reasonOf(publish({}, { readOnly: true })), 'conflict');
  t.is(await reasonOf(publish({ accessMode: 'SINGLE_NODE_MULTI_WRITER' })), 'conflict');
});

test('a target without a mount, for example after a reboot, does not block another one', async (t) => {
  const { node, stage, publish } = await nodeWith(t);
  await stage();
  await publish();
  node.host.reboot();
  await stage();
  t.is(await reasonOf(publish({}, { target: 'second' })), 'ok');
});

test('the filesystem is mounted with the options of the request, of the volume and of its trim mode', async (t) => {
  const settings = { ...plainSettings, trim: 'online' } as const;
  const { node, stage } = await nodeWith(t, { settings, mountOptions: ['nodiratime'] });
  await stage({ mountFlags: ['noatime'] });
  t.deepEqual(lastMountOptions(node), ['nodiratime', 'noatime', 'discard']);
});

test('a target is read-only exactly if requested', async (t) => {
  const { node, stage, publish, pathsOf } = await nodeWith(t);
  const mode = { accessMode: 'SINGLE_NODE_MULTI_WRITER' } as const;
  await stage(mode);
  await publish(mode, { target: 'writes' });
  await publish(mode, { target: 'reads', readOnly: true });
  await publish({ ...mode, mountFlags: ['ro'] }, { target: 'flagged' });
  const isReadOnly = async (target: string) =>
    (await node.host.mounts.at(pathsOf({ target }).targetPath))?.options.includes('ro');
  t.deepEqual(
    [await isReadOnly('writes'), await isReadOnly('reads'), await isReadOnly('flagged')],
    [false, true, true],
  );
});

test('a reader-only access mode makes the target read-only', async (t) => {
  const { node, stage, publish, pathsOf } = await nodeWith(t);
  const mode = { accessMode: 'SINGLE_NODE_READER_ONLY' } as const;
  await stage(mode);
  await publish(mode);
  t.true((await node.host.mounts.at(pathsOf({}).targetPath))?.options.includes('ro'));
});

test('nosuid, nodev and noexec apply only to the target that requests them', async (t) => {
  const { node, stage, publish, pathsOf } = await nodeWith(t);
  const mountFlags = ['nosuid', 'nodev', 'noexec'];
  await stage();
  await publish({ mountFlags });
  const { options = [] } = (await node.host.mounts.at(pathsOf({}).targetPath)) ?? {};
  t.deepEqual(
    mountFlags.filter((flag) => !options.includes(flag)),
    [],
  );
});

test('an unpublish removes all mounts that are stacked at its target', async (t) => {
  const { node, volumes, stage, publish, pathsOf } = await nodeWith(t);
  await stage();
  await publish();
  const { stagingTargetPath, targetPath, volumeId } = pathsOf({});
  await node.host.mounts.bind(stagingTargetPath, targetPath, { readOnly: false });
  await volumes.unpublishVolume(call(), { volumeId, targetPath });
  t.deepEqual(
    (await node.host.mounts.list()).map(({ target }) => target),
    [stagingTargetPath],
  );
});

test('a published volume is not unstaged, and a volume with a manual mount keeps its device', async (t) => {
  const { node, volumes, stage, publish, pathsOf } = await nodeWith(t);
  const { stagingTargetPath, targetPath, volumeId } = pathsOf({});
  const at = { volumeId, stagingTargetPath };
  await stage();
  await publish();
  t.is(await reasonOf(volumes.unstageVolume(call(), at)), 'wrong-state');
  t.is((await node.host.mounts.list()).length, 2, 'nothing was unmounted');
  await volumes.unpublishVolume(call(), { volumeId, targetPath });
  const elsewhere = join(node.directory, 'other');
  await node.host.mounts.bind(stagingTargetPath, elsewhere, { readOnly: false });
  t.is(await reasonOf(volumes.unstageVolume(call(), at)), 'wrong-state');
  t.false((await node.host.loops.list())[0]?.autoclear, 'AUTOCLEAR is not set');
  await node.host.mounts.unmount(elsewhere);
  await volumes.unstageVolume(call(), at);
  t.deepEqual(await node.host.loops.list(), []);
});

test('stats are only available at a path where the volume is mounted', async (t) => {
  const { volumes, stage, pathsOf } = await nodeWith(t);
  await stage();
  const { volumeId, stagingTargetPath, targetPath } = pathsOf({});
  const at = (volumePath: string) => reasonOf(volumes.volumeStats({ volumeId, volumePath }));
  t.is(await at(stagingTargetPath), 'ok');
  t.is(await at(targetPath), 'not-found');
});

test('the mount and the device of a volume whose image was removed are removed', async (t) => {
  const { node, volumes, stage, pathsOf, opened } = await nodeWith(t);
  await stage();
  const { volumeId, stagingTargetPath } = pathsOf({});
  const image = opened.domain.pools.named('a').pathOf('volumes', volumeId, 'disk.img');
  await rm(image);
  await volumes.unstageVolume(call(), { volumeId, stagingTargetPath });
  t.deepEqual(await node.host.mounts.list(), []);
  t.deepEqual(await node.host.loops.list(), []);
});

test('a target of another volume is refused and not unmounted', async (t) => {
  const { node, volumes, stage, publish, pathsOf } = await nodeWith(t);
  await stage();
  await publish();
  const { record } = await volumes.createVolume(call(), volumeInput('w'));
  const { targetPath } = pathsOf({});
  const w = { volumeId: record.id, targetPath };
  const stagingTargetPath = join(node.directory, 'other');
  const asked = { ...w, stagingTargetPath, capability: capability(), readOnly: false };
  await volumes.stageVolume(call(), asked);
  t.is(await reasonOf(volumes.publishVolume(call(), asked)), 'wrong-state');
  t.is(await reasonOf(volumes.unpublishVolume(call(), w)), 'wrong-state');
  t.is((await node.host.mounts.list()).length, 3);
});

test('a volume that is staged or published is not deleted', async (t) => {
  const { node, volumes, stage, publish, pathsOf, record } = await nodeWith(t);
  const { volumeId, stagingTargetPath, targetPath } = pathsOf({});
  await stage();
  t.is(await reasonOf(volumes.deleteVolume(call(), record.id)), 'wrong-state');
  await publish();
  t.is(await reasonOf(volumes.deleteVolume(call(), record.id)), 'wrong-state');
  t.is((await node.host.mounts.list()).length, 2);
  await volumes.unpublishVolume(call(), { volumeId, targetPath });
  t.false((await readdir(node.directory)).includes('target'), 'its target is removed, too');
  await volumes.unstageVolume(call(), { volumeId, stagingTargetPath });
  t.is(await reasonOf(volumes.deleteVolume(call(), record.id)), 'ok');
});

test('a staged block volume is not deleted: a bind mount of the node does not keep the device in use', async (t) => {
  const { node, volumes, stage, record } = await nodeWith(t, { kind: 'block', fsType: null });
  await stage();
  t.is(await reasonOf(volumes.deleteVolume(call(), record.id)), 'wrong-state');
  t.is((await node.host.loops.list()).length, 1);
});

test('a device with the label of a volume but without its image is detached', async (t) => {
  const { node, volumes, record, pathsOf } = await nodeWith(t);
  const image = join(node.directory, 'elsewhere.img');
  await node.host.files.createImage(image, { sizeBytes: 4096n, allocate: false });
  const asked = { sectorSize: 4096, readOnly: false, directIo: true, discard: true } as const;
  await node.host.loops.attach(image, { ...asked, label: record.id });
  const { volumeId, stagingTargetPath } = pathsOf({});
  const unstage = () => volumes.unstageVolume(call(), { volumeId, stagingTargetPath });
  await unstage();
  t.is((await node.host.loops.list()).length, 1, 'other software may use it');
  await rm(image);
  await unstage();
  t.deepEqual(await node.host.loops.list(), []);
});

test('readers of a block volume share a read-only device, which is detached with the last of them', async (t) => {
  const { node, volumes, stage, publish, pathsOf } = await nodeWith(t, {
    kind: 'block',
    fsType: null,
  });
  const mode = { accessMode: 'SINGLE_NODE_MULTI_WRITER' } as const;
  const devices = async () => (await node.host.loops.list()).map(({ readOnly }) => readOnly);
  const deviceAt = async (target: string) => {
    const mount = await node.host.mounts.at(pathsOf({ target }).targetPath);
    const found = (await node.host.loops.list()).find(
      ({ number }) => mount?.root === `/loop${number}`,
    );
    return found?.readOnly;
  };
  await stage(mode);
  await publish(mode, { target: 'writes' });
  for (const target of ['one', 'two']) await publish(mode, { target, readOnly: true });
  t.deepEqual(await devices(), [false, true]);
  t.deepEqual(
    [await deviceAt('writes'), await deviceAt('one'), await deviceAt('two')],
    [false, true, true],
  );
  const unpublish = (target: string) => {
    const { volumeId, targetPath } = pathsOf({ target });
    return volumes.unpublishVolume(call(), { volumeId, targetPath });
  };
  await unpublish('one');
  t.deepEqual(await devices(), [false, true], 'the other reader is still there');
  await unpublish('two');
  t.deepEqual(await devices(), [false]);
});

test('a raw block volume is published only with its limits, also by a call that is repeated after a failure', async (t) => {
  const limits = { ...noLimits, readIops: 500n };
  const { node, stage, publish } = await nodeWith(t, {
    kind: 'block',
    fsType: null,
    settings: { ...plainSettings, limits },
  });
  const { ioMax } = node.host;
  const mode = { accessMode: 'SINGLE_NODE_MULTI_WRITER' } as const;
  await stage(mode);
  const set = ioMax.set.bind(ioMax);
  ioMax.set = async (majorMinor, wanted) => {
    if (wanted === noLimits || ioMax.devices.has(majorMinor)) await set(majorMinor, wanted);
    else throw new Error('interrupted');
  };
  const reader = { target: 'reader', readOnly: true };
  t.is(await reasonOf(publish(mode, reader)), 'unavailable');
  t.is((await node.host.loops.list()).length, 2, 'the reader has a device');
  ioMax.set = set;
  await publish(mode, reader);
  t.deepEqual([...ioMax.devices.values()], [limits, limits]);

  ioMax.cgroup = cgroupV1;
  t.is(await reasonOf(publish(mode, { target: 'writer' })), 'wrong-state');
});

test('a read-only device that a backup attached is not limited', async (t) => {
  const limits = { ...noLimits, readIops: 500n };
  const { node, record, stage } = await nodeWith(t, { settings: { ...plainSettings, limits } });
  await stage();
  const image = join(node.directory, 'a', 'volumes', record.id, 'disk.img');
  const options = { readOnly: true, directIo: false, discard: true, sectorSize: 512 };
  const backup = { ...options, label: image, autoclear: false, held: false };
  const { number } = node.host.kernel.attach(image, backup);
  await stage();
  t.false(node.host.ioMax.devices.has(`7:${number}`));
  t.is(node.host.ioMax.devices.size, 1);
});
