import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { OpenedVolumes } from '../../../../src/volumes/open.ts';
import { type FakeNode, fakeNode } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, capability, volumeInput } from '../../../helpers/scratch-node.ts';

const block = { kind: 'block', fsType: null } as const;

/** A block volume of a node, staged in `staging-NAME` and published at `target-NAME`, or where a test says. */
function volumeOn(node: FakeNode, volumes: () => OpenedVolumes['volumes'], name: string) {
  const stagingTargetPath = join(node.directory, `staging-${name}`);
  const targetPath = join(node.directory, `target-${name}`);
  const volumeId = `${name}.562f2833`;
  const asked = {
    volumeId,
    stagingTargetPath,
    targetPath,
    capability: capability({ kind: 'block' }),
    readOnly: false,
  };
  return {
    volumeId,
    targetPath,
    image: join(node.directory, 'a', 'volumes', volumeId, 'disk.img'),
    make: async () => {
      const { record } = await volumes().createVolume(call(), volumeInput(name, block));
      await mkdir(stagingTargetPath);
      if (record.id !== volumeId) throw new Error(`the id is ${record.id}`);
    },
    stage: () => volumes().stageVolume(call(), asked),
    unstage: () => volumes().unstageVolume(call(), asked),
    publish: (target = targetPath) =>
      volumes().publishVolume(call(), { ...asked, targetPath: target }),
    unpublish: (target = targetPath) =>
      volumes().unpublishVolume(call(), { volumeId, targetPath: target }),
    conditions: async () => (await volumes().volumeHealth(volumeId)).map(({ reason }) => reason),
  };
}

async function twoVolumes(t: ExecutionContext) {
  const node = await fakeNode(t);
  let opened = await node.open([node.settings('a')]);
  const [a, b] = ['a', 'b'].map((name) => volumeOn(node, () => opened.volumes, name));
  if (a === undefined || b === undefined) throw new Error('there are two');
  await a.make();
  await b.make();
  const restart = async (whileClosed: () => Promise<void> = async () => undefined) => {
    await opened.close(100);
    await whileClosed();
    opened = await node.open([node.settings('a')]);
  };
  return { node, a, b, restart };
}

/** The state that an older driver left: A lost its device, and B's device has its number. */
async function withNumberTaken(t: ExecutionContext) {
  const all = await twoVolumes(t);
  const { node, a, b } = all;
  await a.stage();
  await a.publish();
  const [device] = node.host.kernel.devices.values();
  node.host.loseDevice(device?.number ?? -1);
  const taken = node.host.kernel.attach(b.image, {
    readOnly: false,
    directIo: true,
    discard: true,
    sectorSize: 4096,
    label: `loopcsi:${b.volumeId}`,
    autoclear: false,
    held: false,
  });
  t.is(taken.number, device?.number ?? -1);
  return all;
}

test('a block volume whose device another process detached can be unstaged and staged again', async (t) => {
  const { node, a } = await twoVolumes(t);
  await a.stage();
  const [device] = await node.host.loops.list();
  node.host.loseDevice(device?.number ?? -1);
  t.deepEqual(await node.host.loops.list(), []);
  t.is((await node.host.mounts.list()).length, 1, 'the bind mount stays');
  t.deepEqual(await a.conditions(), ['DeviceLost']);
  await a.unstage();
  t.deepEqual(await node.host.mounts.list(), []);
  t.deepEqual(await a.conditions(), []);
  await a.stage();
  t.is((await node.host.loops.list()).length, 1);
  await a.unstage();
  t.deepEqual(await node.host.mounts.list(), []);
});

test('a lost device node is not a mount of another volume that has its device number', async (t) => {
  const { node, a, b } = await withNumberTaken(t);
  t.is(
    await reasonOf(b.stage()),
    'wrong-state',
    'its data could be seen at the target of the first',
  );
  t.deepEqual(await a.conditions(), ['DeviceLost']);
  t.is(
    await reasonOf(b.unpublish(a.targetPath)),
    'wrong-state',
    'nor does an unpublish of its id unmount it',
  );
  t.is(await reasonOf(b.unstage()), 'ok');
  t.is((await node.host.mounts.list()).length, 2);
  t.deepEqual(await node.host.loops.list(), []);
  await a.unpublish();
  await a.unstage();
  t.deepEqual(await node.host.mounts.list(), []);
});

test('at a start, a lost device node is not a use of another volume with its number', async (t) => {
  const { node, a, restart } = await withNumberTaken(t);
  await restart();
  t.deepEqual(await node.host.loops.list(), [], 'the second volume is unused');
  t.deepEqual(await a.conditions(), ['DeviceLost']);
  await a.unpublish();
  await a.unstage();
});

test('a target that another volume uses now is not unmounted by the volume that used it before', async (t) => {
  const { node, a, b } = await twoVolumes(t);
  await a.stage();
  await a.publish();
  await a.unpublish();
  await b.stage();
  // The node state of the first one still names the target, but such an entry counts only with its mount.
  await b.publish(a.targetPath);
  t.is(await reasonOf(a.unpublish()), 'wrong-state');
  t.deepEqual(await a.conditions(), []);
  t.is(await reasonOf(a.unstage()), 'ok');
  t.true((await node.host.mounts.list()).some(({ target }) => target === a.targetPath));
  await b.unpublish(a.targetPath);
  await b.unstage();
  t.deepEqual(await node.host.mounts.list(), []);
});

test('the lost device node of a volume that cannot be looked up is unmounted at the path of the request', async (t) => {
  const { node, a, restart } = await twoVolumes(t);
  await a.stage();
  await a.publish();
  await restart(async () => {
    node.host.loseDevice(0);
    await writeFile(join(node.directory, 'a', 'volumes', a.volumeId, 'volume.json'), '{');
  });
  t.deepEqual(await a.conditions(), ['RecordUnreadable']);
  await a.unpublish();
  await a.unstage();
  t.deepEqual(await node.host.mounts.list(), []);
});

test('a target with a foreign device is not unmounted, unless the node state names it', async (t) => {
  const { node, a } = await twoVolumes(t);
  const theirs = join(node.directory, 'theirs.img');
  await writeFile(theirs, Buffer.alloc(4096));
  const number = await node.host.otherSoftware.attach(theirs);
  await a.stage();
  await writeFile(a.targetPath, '');
  await node.host.mounts.bind(`/dev/loop${number}`, a.targetPath, { readOnly: false });
  t.is(await reasonOf(a.unpublish()), 'wrong-state');
  await node.host.mounts.unmount(a.targetPath);
  await a.publish();
  const [own] = [...node.host.kernel.devices.values()].filter((one) => one.number !== number);
  node.host.loseDevice(own?.number ?? -1);
  t.is(await node.host.otherSoftware.attach(theirs), own?.number ?? -1);
  t.is(await reasonOf(a.publish()), 'wrong-state');
  t.is(await reasonOf(a.unpublish()), 'ok');
  t.is(await reasonOf(a.unstage()), 'ok');
  t.is((await node.host.loops.list()).length, 2, 'foreign devices stay attached');
});

test('a lost read-only device is reported, and its target can be unpublished while the volume is in use', async (t) => {
  const node = await fakeNode(t);
  const { volumes } = await node.open([node.settings('a')]);
  const { record } = await volumes.createVolume(call(), volumeInput('v', block));
  const stagingTargetPath = join(node.directory, 'staging');
  await mkdir(stagingTargetPath);
  const mode = { kind: 'block', accessMode: 'SINGLE_NODE_MULTI_WRITER' } as const;
  const at = (target: string) => ({
    volumeId: record.id,
    stagingTargetPath,
    targetPath: join(node.directory, target),
    capability: capability(mode),
    readOnly: target === 'reads',
  });
  await volumes.stageVolume(call(), at('writes'));
  for (const target of ['writes', 'reads']) await volumes.publishVolume(call(), at(target));
  const second = (await node.host.loops.list()).find(({ readOnly }) => readOnly);
  node.host.loseDevice(second?.number ?? -1);
  const conditions = await volumes.volumeHealth(record.id);
  t.deepEqual(
    conditions.map(({ reason }) => reason),
    ['DeviceLost'],
  );
  t.true(conditions[0]?.message.includes(at('reads').targetPath));
  t.is(await reasonOf(volumes.publishVolume(call(), at('reads'))), 'wrong-state');
  t.is(await reasonOf(volumes.publishVolume(call(), at('writes'))), 'ok');
  await volumes.unpublishVolume(call(), at('reads'));
  await volumes.publishVolume(call(), at('reads'));
  for (const target of ['reads', 'writes']) await volumes.unpublishVolume(call(), at(target));
  await volumes.unstageVolume(call(), at('writes'));
  t.deepEqual(await node.host.mounts.list(), []);
  t.deepEqual(await node.host.loops.list(), []);
});
