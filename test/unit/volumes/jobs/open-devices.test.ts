import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { cancelAllDetaches } from '../../../../src/volumes/attachment/watch-devices.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, capability, volumeInput } from '../../../helpers/scratch-node.ts';

/** A node with one volume staged, and its device. */
async function staged(t: ExecutionContext, kind: 'block' | 'mount' = 'block') {
  const node = await fakeNode(t);
  const open = () => node.open([node.settings('a')]);
  const opened = await open();
  const { record } = await opened.volumes.createVolume(call(), volumeInput('v', { kind }));
  const stagingTargetPath = join(node.directory, 'staging');
  await mkdir(stagingTargetPath);
  const asked = {
    volumeId: record.id,
    stagingTargetPath,
    targetPath: join(node.directory, 'target'),
    capability: capability({ kind, accessMode: 'SINGLE_NODE_MULTI_WRITER' }),
    readOnly: false,
  };
  await opened.volumes.stageVolume(call(), asked);
  const [device] = node.host.kernel.devices.values();
  if (device === undefined) throw new Error('nothing is attached');
  const clear = () => node.host.otherSoftware.clearDevice(device.number);
  const isThere = () => node.host.kernel.devices.get(device.number) === device;
  return { node, open, opened, asked, device, clear, isThere };
}

test('the device of a staged block volume is kept open, the device of a filesystem is not', async (t) => {
  t.true((await staged(t)).device.held);
  t.false((await staged(t, 'mount')).device.held);
});

for (const kind of ['block', 'mount'] as const) {
  test(`${kind}: a check cancels a detach that other software requested, unless a call works on the volume`, async (t) => {
    const { opened, asked, device, clear, isThere } = await staged(t, kind);
    const { domain, volumes } = opened;
    await clear();
    t.true(isThere() && device.autoclear);
    const plan = { exclusive: [`volume:${asked.volumeId}`] };
    const release = domain.operations.locks.acquire(plan, 'a test');
    await cancelAllDetaches(domain);
    t.true(device.autoclear);
    release();
    await cancelAllDetaches(domain);
    t.false(device.autoclear);
    t.is(domain.operations.locks.size, 0);
    await volumes.unstageVolume(call(), asked);
    t.false(isThere());
  });
}

test('a check changes neither unused devices nor devices of other software', async (t) => {
  const { node, opened, device } = await staged(t);
  const number = await node.host.otherSoftware.attach(join(node.directory, 'a', 'pool.json'));
  const close = await node.host.otherSoftware.openDevice(number);
  await node.host.otherSoftware.clearDevice(number);
  await cancelAllDetaches(opened.domain);
  await close();
  t.deepEqual([...node.host.kernel.devices.keys()], [device.number]);
});

test('a device whose detach is requested during shutdown stays attached, and the next driver opens it', async (t) => {
  const { open, opened, asked, device, clear, isThere } = await staged(t);
  await clear();
  await opened.close(100);
  t.false(device.held);
  t.true(isThere());
  const next = await open();
  t.true(device.held);
  await clear();
  t.true(isThere());
  await next.volumes.unstageVolume(call(), asked);
  t.false(isThere());
});

test('a killed driver leaves a device that the next driver opens', async (t) => {
  const { node, open, opened, device, isThere } = await staged(t);
  await opened.close(100);
  device.autoclear = true;
  device.openers = 1;
  await open();
  device.openers = 0;
  node.host.kernel.detachIfUnused(device);
  t.true(isThere());
  t.false(device.autoclear);
});

test('the driver’s own descriptor does not make a device busy', async (t) => {
  const { node, opened, asked, device } = await staged(t);
  const { volumes } = opened;
  await volumes.publishVolume(call(), asked);
  await volumes.publishVolume(call(), {
    ...asked,
    targetPath: join(node.directory, 'reads'),
    readOnly: true,
  });
  t.deepEqual(
    [...node.host.kernel.devices.values()].map(({ held }) => held),
    [true, true],
  );
  t.false(node.host.kernel.isInUse(device));
  const unpublish = (name: string) =>
    volumes.unpublishVolume(call(), { ...asked, targetPath: join(node.directory, name) });
  t.is(await reasonOf(unpublish('reads')), 'ok');
  t.is(await reasonOf(unpublish('target')), 'ok');
  t.is(await reasonOf(volumes.unstageVolume(call(), asked)), 'ok');
  t.is(opened.domain.openDevices.size, 0);
  t.deepEqual(await node.host.loops.list(), []);
});

test('after a detach that failed the device is unchanged, and opened again when it is used again', async (t) => {
  const { node, opened, asked, device, isThere } = await staged(t);
  const close = await node.host.otherSoftware.openDevice(device.number);
  t.is(await reasonOf(opened.volumes.unstageVolume(call(), asked)), 'busy');
  t.deepEqual([device.autoclear, device.held], [false, false]);
  await opened.volumes.stageVolume(call(), asked);
  t.true(device.held);
  await close();
  t.true(isThere());
});
