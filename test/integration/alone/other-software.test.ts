/**
 * Other processes use the driver's devices. Alone: it attaches images to the numbers of devices that were detached, which another
 * file could have taken.
 */
import { mkdir, open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { execa } from 'execa';
import { makeClient } from '../../../src/csi/client.ts';
import { VolumeError } from '../../../src/errors.ts';
import type { LoopDevice } from '../../../src/host/host.ts';
import { MiB } from '../../../src/units.ts';
import { startDriver } from '../../helpers/driver.ts';
import { onNode } from '../../helpers/on-node.ts';
import { realOtherSoftware } from '../../helpers/other-software.ts';
import { reasonOf } from '../../helpers/reason-of.ts';
import { onScratch } from '../../helpers/root-scratch.ts';
import {
  call,
  capability,
  type ScratchNode,
  scratchNode,
  volumeInput,
} from '../../helpers/scratch-node.ts';
import { devicesBelow, mountsBelow } from '../../helpers/scratch-pool.ts';
import { until } from '../../helpers/until.ts';

const openDevice = (number: number) => realOtherSoftware.openDevice(number);
const clearDevice = (number: number) => realOtherSoftware.clearDevice(number);
const mode = { accessMode: 'SINGLE_NODE_MULTI_WRITER' } as const;

/** A volume on the node and the calls for it: it is staged at `staging-ID` and published at `ID-NAME`. */
async function volumeOf(
  node: ScratchNode,
  name: string,
  kind: 'block' | 'mount' = 'block',
  sizeBytes = 64n * MiB,
) {
  const { record } = await node.volumes.createVolume(
    call(),
    volumeInput(name, { kind, sizeBytes }),
  );
  const volumeId = record.id;
  const stagingTargetPath = node.pathOf(`staging-${volumeId.slice(-12)}-${name.slice(-3)}`);
  await mkdir(stagingTargetPath);
  const request = { volumeId, stagingTargetPath, capability: capability({ kind, ...mode }) };
  const targetOf = (target: string) => node.pathOf(`${name.slice(-3)}-${target}`);
  const image = join(node.poolPath, 'volumes', volumeId, 'disk.img');
  const devices = async (): Promise<readonly LoopDevice[]> =>
    node.host.loops.findByImage(await node.host.files.imageStatus(image));
  return {
    volumeId,
    image,
    targetOf,
    devices,
    device: async (readOnly = false): Promise<LoopDevice> => {
      const found = (await devices()).find((one) => one.readOnly === readOnly);
      if (found === undefined) throw new Error(`${name} has no such device`);
      return found;
    },
    stage: () => node.volumes.stageVolume(call(), request),
    unstage: () => node.volumes.unstageVolume(call(), request),
    publish: (target = 'target', readOnly = false) =>
      node.volumes.publishVolume(call(), { ...request, targetPath: targetOf(target), readOnly }),
    unpublish: (target = 'target') =>
      node.volumes.unpublishVolume(call(), { volumeId, targetPath: targetOf(target) }),
    conditions: async () => (await node.volumes.volumeHealth(volumeId)).map(({ reason }) => reason),
    remove: () => node.volumes.deleteVolume(call(), volumeId),
  };
}

/** The text at the start of the block device that is bound at the path. */
async function textAt(path: string): Promise<string> {
  const handle = await open(path, 'r');
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(4096), 0, 4096, 0);
    return buffer.toString('latin1', 0, bytesRead).replaceAll('\0', '');
  } finally {
    await handle.close();
  }
}

async function writeAt(path: string, text: string): Promise<void> {
  const handle = await open(path, 'r+');
  try {
    await handle.write(Buffer.alloc(4096, `${text}\0`.padEnd(4096, '\0')), 0, 4096, 0);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function autoclearOf({ number }: LoopDevice): Promise<string> {
  return (await readFile(`/sys/block/loop${number}/loop/autoclear`, 'utf8')).trim();
}

onNode(
  'a block volume that is published again keeps its device when an earlier user closes it',
  async (t) => {
    const node = await scratchNode(t);
    const a = await volumeOf(node, 'a');
    await a.stage();
    await a.publish();
    await writeAt(a.targetOf('target'), 'of A');
    const device = await a.device();
    const close = await openDevice(device.number);
    await a.unpublish();
    t.is(await reasonOf(a.unstage()), 'busy');
    t.is(await autoclearOf(device), '0', 'the detach request was cancelled');
    await a.stage();
    await a.publish();
    await close();
    t.deepEqual(await a.devices(), [device]);
    const b = await volumeOf(node, 'b');
    await b.stage();
    await b.publish();
    await writeAt(b.targetOf('target'), 'of B');
    t.is(await textAt(a.targetOf('target')), 'of A');
    for (const volume of [a, b]) {
      await volume.unpublish();
      await volume.unstage();
      await volume.remove();
    }
    t.deepEqual(await devicesBelow(node.directory), []);
  },
);

onNode('a read-only second device and the device of a filesystem are kept too', async (t) => {
  const node = await scratchNode(t);
  const block = await volumeOf(node, 'b');
  await block.stage();
  await block.publish('reads', true);
  const second = await block.device(true);
  const closeSecond = await openDevice(second.number);
  t.is(await reasonOf(block.unpublish('reads')), 'busy');
  await block.publish('reads', true);
  await closeSecond();
  t.deepEqual(await block.device(true), second);

  const mounted = await volumeOf(node, 'm', 'mount');
  await mounted.stage();
  const device = await mounted.device();
  const close = await openDevice(device.number);
  t.is(await reasonOf(mounted.unstage()), 'busy');
  await mounted.stage();
  await mounted.publish();
  await close();
  t.deepEqual(await mounted.devices(), [device]);
  await writeFile(join(mounted.targetOf('target'), 'file'), 'here');

  await mounted.unpublish();
  await mounted.unstage();
  await block.unpublish('reads');
  await block.unstage();
  t.deepEqual(await devicesBelow(node.directory), []);
});

onNode(
  'a process that closes the device during or after the detach leaves nothing attached',
  async (t) => {
    const node = await scratchNode(t);
    const a = await volumeOf(node, 'a');
    await a.stage();
    const { number } = await a.device();
    const close = await openDevice(number);
    const [outcome] = await Promise.all([
      reasonOf(a.unstage()),
      until('a detach is requested', async () => {
        const text = await readFile(`/sys/block/loop${number}/loop/autoclear`, 'utf8');
        return text.trim() === '1';
      }).then(close),
    ]);
    t.is(outcome, 'ok');
    await a.stage();
    const again = await openDevice((await a.device()).number);
    t.is(await reasonOf(a.unstage()), 'busy');
    await again();
    await a.unstage();
    t.deepEqual(await devicesBelow(node.directory), []);
  },
);

onNode('losetup --detach does not remove a device that is staged or published', async (t) => {
  const node = await scratchNode(t);
  const block = await volumeOf(node, 'b');
  await block.stage();
  await block.publish();
  await block.publish('reads', true);
  await writeAt(block.targetOf('target'), 'still here');
  const mounted = await volumeOf(node, 'm', 'mount');
  await mounted.stage();
  await mounted.publish();
  const devices = [...(await block.devices()), ...(await mounted.devices())];
  t.is(devices.length, 3);
  for (const { number } of devices) await clearDevice(number);
  t.deepEqual([...(await block.devices()), ...(await mounted.devices())].length, 3);
  // The devices that only the driver has open would be detached if it were killed now.
  for (const device of devices) {
    await until(`${device.path} is kept`, async () => (await autoclearOf(device)) === '0', 15_000);
  }
  t.is(await textAt(block.targetOf('target')), 'still here');
  t.is(await textAt(block.targetOf('reads')), 'still here');
  t.deepEqual([...(await block.devices()), ...(await mounted.devices())], devices);
  await mounted.unpublish();
  await mounted.unstage();
  for (const target of ['target', 'reads']) await block.unpublish(target);
  await block.unstage();
  t.deepEqual(await devicesBelow(node.directory), []);
});

onNode(
  'a call that finds a detach request cancels it, and unpublish and unstage work as usual',
  async (t) => {
    const node = await scratchNode(t);
    const mounted = await volumeOf(node, 'm', 'mount');
    await mounted.stage();
    const device = await mounted.device();
    await clearDevice(device.number);
    await mounted.stage();
    t.is(await autoclearOf(device), '0', 'by a repeated stage');
    await clearDevice(device.number);
    await mounted.publish();
    t.is(await autoclearOf(device), '0', 'by a publish');
    await clearDevice(device.number);
    t.deepEqual(await mounted.conditions(), []);
    t.is(await autoclearOf(device), '0', 'by a health check');
    await clearDevice(device.number);
    await node.restart();
    t.is(await autoclearOf(device), '0', 'by a start');
    await mounted.unpublish();
    await clearDevice(device.number);
    await mounted.unstage();
    t.deepEqual(await devicesBelow(node.directory), []);
  },
);

onNode(
  'readers of a second device see the data written to the first before they opened it',
  async (t) => {
    const node = await scratchNode(t);
    const a = await volumeOf(node, 'a');
    await a.stage();
    await a.publish();
    await a.publish('early', true);
    t.is(await textAt(a.targetOf('early')), '');
    // Without fsync. Data was once written back at the last close, which does not happen while the driver has the device open.
    const handle = await open(a.targetOf('target'), 'r+');
    await handle.write(Buffer.from('fresh'), 0, 5, 0);
    await handle.close();
    await a.publish('late', true);
    t.is(await textAt(a.targetOf('late')), 'fresh');
    for (const target of ['early', 'late', 'target']) await a.unpublish(target);
    await a.unstage();
    t.deepEqual(await devicesBelow(node.directory), []);
  },
);

/** The new content of a lost device's number. */
const successors = ['nothing', 'a foreign file', 'the image of another volume'] as const;

for (const successor of successors) {
  onNode(
    `a lost device whose number has ${successor} is reported, unstaged and staged again`,
    async (t) => {
      const node = await scratchNode(t);
      const [a, b] = [await volumeOf(node, 'a'), await volumeOf(node, 'b')];
      await a.stage();
      await a.publish();
      await a.publish('reads', true);
      await writeAt(a.targetOf('target'), 'of A');
      const lost = [await a.device(), await a.device(true)];
      const path = lost[0]?.path ?? '';
      const theirs = node.pathOf('theirs.img');
      await writeFile(theirs, Buffer.alloc(1024 * 1024));
      await node.restart({
        whileClosed: async () => {
          for (const { number } of lost) await clearDevice(number);
          t.deepEqual(await a.devices(), []);
          if (successor === 'a foreign file') await execa('losetup', [path, theirs]);
        },
      });
      // A start of the driver would detach it again.
      if (successor === 'the image of another volume') await execa('losetup', [path, b.image]);
      t.deepEqual(await a.conditions(), ['DeviceLost']);
      t.is(await reasonOf(a.publish()), 'wrong-state', 'also at the path where it is published');
      t.is(await reasonOf(a.publish('another')), 'wrong-state');
      t.is(await reasonOf(a.stage()), 'wrong-state');
      t.is(await reasonOf(a.remove()), 'wrong-state');
      for (const volumePath of [a.targetOf('target'), node.pathOf(`staging-${a.volumeId}`)]) {
        const stats = node.volumes.volumeStats({ volumeId: a.volumeId, volumePath });
        t.is(await reasonOf(stats), 'not-found');
      }
      const staged = await t.throwsAsync(a.publish());
      t.regex(staged?.message ?? '', /unpublish and unstage/);

      // Another volume works as usual, on a number that no target shows.
      if (successor === 'the image of another volume') {
        const refused = await t.throwsAsync(b.stage());
        t.true(refused?.message.includes(a.targetOf('target')), refused?.message);
      } else {
        await b.stage();
        t.not((await b.device()).path, path);
        await b.publish();
        await b.unpublish();
        await b.unstage();
      }
      t.is(await reasonOf(a.unstage()), 'wrong-state', 'its targets must be unpublished first');
      for (const target of ['target', 'reads']) await a.unpublish(target);
      await a.unstage();
      t.deepEqual(await mountsBelow(node.directory), []);
      t.deepEqual(await a.conditions(), []);
      await a.stage();
      await a.publish();
      t.is(await textAt(a.targetOf('target')), 'of A');
      await b.stage();
      await b.unstage();
      await a.unpublish();
      await a.unstage();
      if (successor === 'a foreign file') await execa('losetup', ['--detach', path]);
      t.deepEqual(await devicesBelow(node.directory), []);
    },
  );
}

onNode('a lost device that was only staged is staged again by the repeated call', async (t) => {
  const node = await scratchNode(t);
  const a = await volumeOf(node, 'a');
  await a.stage();
  const { number } = await a.device();
  await node.restart({ whileClosed: () => clearDevice(number) });
  t.deepEqual(await a.conditions(), ['DeviceLost']);
  await a.stage();
  t.deepEqual(await a.conditions(), []);
  await a.publish();
  await a.unpublish();
  await a.unstage();
  t.deepEqual(await mountsBelow(node.directory), []);
  t.deepEqual(await devicesBelow(node.directory), []);
});

onNode(
  'a device that an operator attached to an image is detached before the image is used, or its use is refused',
  async (t) => {
    const node = await scratchNode(t);
    const a = await volumeOf(node, 'a', 'mount');
    const attach = async () => (await execa('losetup', ['--find', '--show', a.image])).stdout;
    await attach();
    await a.stage();
    const [only, ...more] = await a.devices();
    t.deepEqual([only?.label, more.length], [`loopcsi:${a.volumeId}`, 0]);
    const second = await attach();
    t.deepEqual(await a.conditions(), ['AttachedTwice']);
    await execa('losetup', ['--detach', second]);
    await a.unstage();
    const used = await attach();
    const at = node.pathOf('manual');
    await mkdir(at);
    await execa('mount', [used, at]);
    const refused = await t.throwsAsync(a.stage());
    t.true(refused?.message.includes(used), refused?.message);
    await execa('umount', [at]);
    await a.stage();
    await a.unstage();
    t.deepEqual(await devicesBelow(node.directory), []);
  },
);

onNode(
  'a read-only device of other software is information, and no reason to refuse a call',
  async (t) => {
    const node = await scratchNode(t);
    const a = await volumeOf(node, 'a', 'mount');
    const { administration: admin } = node;
    await a.stage();
    await a.publish();
    const at = node.pathOf('backup');
    await mkdir(at);
    const { stdout: path } = await execa('losetup', ['--find', '--show', '--read-only', a.image]);
    try {
      t.deepEqual(await a.conditions(), []);
      const close = await openDevice(Number(path.slice('/dev/loop'.length)));
      const facts = await admin.getVolume('a');
      t.deepEqual(
        facts.readers.map((device) => device.path),
        [path],
      );
      const findings = await admin.diagnose();
      const found = findings.find(({ name }) => name === `loop-device:${path}`);
      t.is(found?.state, 'ok');
      t.regex(found?.message ?? '', /read-only to the image of volume 'a\..*' by other software/);
      t.is(findings.find(({ name }) => name === 'leftovers')?.state, 'ok');
      await close();
      await a.unpublish();
      await execa('mount', ['-o', 'ro,noload', path, at]);
      const mounted = (await admin.diagnose()).find(({ name }) => name === `loop-device:${path}`);
      t.true(mounted?.message.includes(`mounted at ${at}`), mounted?.message);
      t.is(await reasonOf(a.unstage()), 'ok', 'its mount does not keep the volume staged');
      t.deepEqual(
        (await a.devices()).map((device) => device.path),
        [path],
      );
      await execa('umount', [at]);
    } finally {
      await execa('losetup', ['--detach', path]);
    }
    t.deepEqual(await devicesBelow(node.directory), []);
  },
);

onNode('volume unmount leaves the mounts of other software alone, and names them', async (t) => {
  const node = await scratchNode(t);
  const a = await volumeOf(node, 'a', 'mount');
  const { administration: admin } = node;
  const [foreign, manual, bound] = [
    node.pathOf('foreign'),
    node.pathOf('manual'),
    node.pathOf('bound'),
  ];
  for (const path of [foreign, bound]) await mkdir(path);
  const unmount = (targetPath = '') =>
    admin.unmountVolume(call(), { volumeId: a.volumeId, targetPath });
  const mount = () =>
    admin.mountVolume(call(), {
      volumeId: a.volumeId,
      targetPath: manual,
      readOnly: false,
      mountFlags: [],
    });
  await execa('mount', ['-o', 'loop', a.image, foreign]);
  const [device] = await a.devices();
  for (const target of ['', foreign]) {
    const refused = await t.throwsAsync(unmount(target), { instanceOf: VolumeError });
    t.is(refused.reason, 'wrong-state');
    t.true(refused.message.includes(`${foreign} (${device?.path ?? ''})`), refused.message);
    t.regex(refused.message, /'umount /);
  }
  t.true((await mountsBelow(node.directory)).includes(foreign));
  await execa('umount', [foreign]);
  await mount();
  await execa('mount', ['--bind', manual, bound]);
  const kept = await t.throwsAsync(unmount(), { instanceOf: VolumeError });
  t.true(kept.message.includes(bound) && !kept.message.includes(manual), kept.message);
  t.true((await mountsBelow(node.directory)).includes(bound));
  await execa('umount', [bound]);
  t.deepEqual(await unmount(), []);
  t.deepEqual(await devicesBelow(node.directory), []);
  await mount();
  const { stdout: reader } = await execa('losetup', ['--find', '--show', '--read-only', a.image]);
  await execa('mount', ['-o', 'ro,noload', reader, foreign]);
  t.deepEqual(await unmount(), [manual]);
  t.deepEqual(
    (await a.devices()).map(({ path }) => path),
    [reader],
  );
  await execa('umount', [foreign]);
  await execa('losetup', ['--detach', reader]);
  t.deepEqual(await devicesBelow(node.directory), []);
});

onNode('devices of volumes whose long names have a common prefix are not confused', async (t) => {
  const node = await scratchNode(t);
  const beginning = 'customer-0123456789-0123456789-0123456789-0123456789-0123456789';
  const [a, b] = [await volumeOf(node, `${beginning}-a`), await volumeOf(node, `${beginning}-b`)];
  await b.stage();
  await b.publish();
  const [device] = await b.devices();
  t.is(await reasonOf(a.unpublish()), 'ok');
  t.is(await reasonOf(a.unstage()), 'ok');
  t.deepEqual(await b.devices(), device === undefined ? [] : [device]);
  await a.stage();
  t.not((await a.device()).label, device?.label);
  await a.unstage();
  await b.unpublish();
  await b.unstage();
  t.deepEqual(await devicesBelow(node.directory), []);
});

onNode('a killed driver detaches no device', async (t) => {
  await onScratch(t, async ({ directory }) => {
    await usedOverKills(t, directory);
  });
});

async function usedOverKills(t: ExecutionContext, directory: string): Promise<void> {
  let driver = await startDriver(directory);
  const endpoint = `unix://${driver.endpoint}`;
  const controller = makeClient('csi.v1.Controller', endpoint);
  const client = makeClient('csi.v1.Node', endpoint);
  const volume_capability = {
    block: {},
    access_mode: { mode: 'SINGLE_NODE_WRITER' },
  } as const;
  const staging_target_path = join(directory, 'staging');
  const target_path = join(directory, 'target');
  await mkdir(staging_target_path);
  try {
    const { volume } = await controller.CreateVolume({
      name: 'a',
      capacity_range: { required_bytes: 64n * MiB, limit_bytes: 0n },
      volume_capabilities: [volume_capability],
    });
    const volume_id = volume?.volume_id ?? '';
    const request = { volume_id, staging_target_path, target_path, volume_capability };
    await client.NodeStageVolume(request);
    await client.NodePublishVolume(request);
    await writeAt(target_path, 'of A');
    const [before] = await devicesBelow(directory);
    const number = Number(before?.device.replace('/dev/loop', ''));
    await clearDevice(number);
    const autoclear = () => readFile(`/sys/block/loop${number}/loop/autoclear`, 'utf8');
    await until('the device is kept open', async () => (await autoclear()).trim() === '0', 15_000);
    await driver.kill();
    t.deepEqual(await devicesBelow(directory), before === undefined ? [] : [before]);
    driver = await startDriver(directory);
    // The running driver has had it open since its start.
    await clearDevice(number);
    t.is(await textAt(target_path), 'of A');
    await driver.stop();
    t.is((await autoclear()).trim(), '0', 'nor does a driver that stops normally');
    driver = await startDriver(directory);
    t.is(await textAt(target_path), 'of A');
    await client.NodeUnpublishVolume(request);
    await client.NodeUnstageVolume(request);
    await controller.DeleteVolume({ volume_id });
    t.deepEqual(await devicesBelow(directory), []);
  } finally {
    controller.close();
    client.close();
    await driver.stop();
  }
}
