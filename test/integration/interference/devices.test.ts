/** Other processes open, detach and reuse the driver's loop devices: no volume loses its device or shows another volume's data. */
import { rm, writeFile } from 'node:fs/promises';
import type { ExecutionContext } from 'ava';
import { execa } from 'execa';
import { MiB } from '../../../src/units.ts';
import { autoclearOf, numberOf, onScene, type Scene } from '../../helpers/node-fixture.ts';
import { onNode } from '../../helpers/on-node.ts';
import { realOtherSoftware } from '../../helpers/other-software.ts';
import { until } from '../../helpers/until.ts';

const ok = { code: 'OK', message: '' };

async function inUse(t: ExecutionContext, scene: Scene, name: string, kind: 'block' | 'ext4') {
  for (const answer of await scene.use(name, kind)) t.deepEqual(answer, ok);
  const [device = ''] = await scene.devicesOf(name);
  return device;
}

/** Unpublishes, unstages and deletes the volumes, and asserts that nothing of them is left. */
async function assertEnds(t: ExecutionContext, scene: Scene, ...names: readonly string[]) {
  for (const name of names) {
    t.deepEqual(await scene.unpublish(name), ok, `unpublish ${name}`);
    t.deepEqual(await scene.unstage(name), ok, `unstage ${name}`);
    t.deepEqual(await scene.delete(name), ok, `delete ${name}`);
    t.deepEqual(await scene.devicesOf(name), []);
  }
}

for (const restarts of [false, true]) {
  const how = restarts ? ', the driver killed meanwhile' : '';
  onNode(`a refused detach leaves a normal device, which its volume keeps${how}`, async (t) => {
    await onScene(t, async (scene) => {
      const device = await inUse(t, scene, 'a', 'block');
      await scene.writeMark('a', 'MARK-OF-A');
      t.deepEqual(await scene.unpublish('a'), ok);
      const stopUse = await scene.startUse(realOtherSoftware.openFile(device));
      t.is((await scene.unstage('a')).code, 'ABORTED');
      t.not(await autoclearOf(device), true, 'the device is a normal one again');
      if (restarts) {
        await scene.world.driver.kill();
        await scene.world.start();
        // The start tries to detach it too, and calls of that volume are refused meanwhile.
        await until(
          'a is staged',
          async () => (await scene.stage('a', 'block')).code !== 'ABORTED',
        );
      }
      t.deepEqual(await scene.stage('a', 'block'), ok);
      t.deepEqual(await scene.publish('a', 'block'), ok);
      await stopUse();
      await inUse(t, scene, 'b', 'block');
      await scene.writeMark('b', 'SECRET-OF-B');
      t.is(await scene.readMark('a'), 'MARK-OF-A');
      t.is((await scene.devicesOf('a')).length, 1, 'it still has one device');
      await assertEnds(t, scene, 'a', 'b');
    });
  });
}

onNode(
  'after a refused detach of the second, read-only device, its volume keeps it too',
  async (t) => {
    await onScene(t, async (scene) => {
      await inUse(t, scene, 'a', 'block');
      await scene.writeMark('a', 'MARK-OF-A');
      const before = await scene.devicesOf('a');
      t.deepEqual(await scene.publish('a', 'block', { target: 'ro', readOnly: true }), ok);
      const [second = ''] = (await scene.devicesOf('a')).filter((one) => !before.includes(one));
      const stopUse = await scene.startUse(realOtherSoftware.openFile(second));
      const refused = await scene.unpublish('a', 'ro');
      t.true(['OK', 'ABORTED'].includes(refused.code), refused.message);
      t.deepEqual(await scene.publish('a', 'block', { target: 'ro', readOnly: true }), ok);
      await stopUse();
      await inUse(t, scene, 'b', 'block');
      await scene.writeMark('b', 'SECRET-OF-B');
      t.is(await scene.readMark('ro'), 'MARK-OF-A');
      t.deepEqual(await scene.unpublish('a', 'ro'), ok);
      await assertEnds(t, scene, 'a', 'b');
    });
  },
);

onNode('a filesystem volume staged after a refused detach keeps its device', async (t) => {
  await onScene(t, async (scene) => {
    const device = await inUse(t, scene, 'a', 'ext4');
    t.deepEqual(await scene.unpublish('a'), ok);
    const stopUse = await scene.startUse(realOtherSoftware.openFile(device));
    const refused = await scene.unstage('a');
    t.is(refused.code, 'ABORTED', refused.message);
    t.not(await autoclearOf(device), true);
    t.deepEqual(await scene.stage('a'), ok);
    t.deepEqual(await scene.publish('a'), ok);
    await stopUse();
    await scene.write('a', 'after');
    t.deepEqual(await scene.healthOf('a'), []);
    await assertEnds(t, scene, 'a');
  });
});

onNode('losetup -d of devices in use detaches nothing while the driver runs', async (t) => {
  await onScene(t, async (scene) => {
    const device = await inUse(t, scene, 'a', 'block');
    await inUse(t, scene, 'f', 'ext4');
    await scene.writeMark('a', 'MARK-OF-A');
    for (const one of [device, ...(await scene.devicesOf('f'))])
      await realOtherSoftware.clearDevice(numberOf(one));
    await inUse(t, scene, 'b', 'block');
    await scene.writeMark('b', 'SECRET-OF-B');
    t.is(await scene.readMark('a'), 'MARK-OF-A');
    await scene.write('f', 'still there');
    // The driver cancels the detach at its next check. Then it is killed, which closes its descriptors.
    await until('a is a normal device again', async () => !(await autoclearOf(device)), 5_000);
    await scene.world.driver.kill();
    await scene.world.start();
    t.is((await scene.devicesOf('a')).length, 1);
    t.is(await scene.readMark('a'), 'MARK-OF-A');
    await assertEnds(t, scene, 'b', 'a', 'f');
  });
});

for (const order of [
  ['a', 'b'],
  ['b', 'a'],
] as const) {
  onNode(`a lost block device: pods end in the order ${order.join(', ')}`, async (t) => {
    await onScene(t, async (scene) => {
      const device = await inUse(t, scene, 'a', 'block');
      await scene.writeMark('a', 'MARK-OF-A');
      await scene.world.driver.kill();
      await realOtherSoftware.clearDevice(numberOf(device));
      await scene.world.start();
      t.true((await scene.healthOf('a')).includes('DeviceLost'), 'health reports it');
      const again = await scene.publish('a', 'block', { target: 'second' });
      t.not(again.code, 'OK', 'a second target of a lost device');
      t.not((await scene.publish('a', 'block')).code, 'OK', 'the same target again');
      await inUse(t, scene, 'b', 'block');
      await scene.writeMark('b', 'SECRET-OF-B');
      t.not(await scene.readMark('a').catch(() => 'nothing'), 'SECRET-OF-B');
      t.deepEqual(await scene.healthOf('b'), []);
      await assertEnds(t, scene, ...order);
    });
  });
}

onNode('a lost device whose number a foreign image uses is not touched', async (t) => {
  await onScene(t, async (scene) => {
    const device = await inUse(t, scene, 'a', 'block');
    await scene.writeMark('a', 'MARK-OF-A');
    await scene.world.driver.kill();
    await realOtherSoftware.clearDevice(numberOf(device));
    const foreign = scene.world.pathOf('foreign.img');
    await writeFile(foreign, Buffer.alloc(Number(8n * MiB), 'f'));
    await execa('losetup', [device, foreign]);
    await scene.world.start();
    try {
      t.true((await scene.healthOf('a')).includes('DeviceLost'));
      await assertEnds(t, scene, 'a');
      const { stdout } = await execa('losetup', ['--noheadings', '--output', 'BACK-FILE', device]);
      t.is(stdout.trim(), foreign);
    } finally {
      await realOtherSoftware.clearDevice(numberOf(device));
      await rm(foreign);
    }
  });
});

onNode('volumes whose ids have a long common prefix are not confused', async (t) => {
  await onScene(t, async (scene) => {
    const long = 'n'.repeat(70);
    const [a, b] = [`${long}-a`, `${long}-b`];
    t.deepEqual(await scene.create(a), ok);
    await inUse(t, scene, b, 'ext4');
    await scene.write(b, 'of b');
    t.deepEqual(await scene.unpublish(a), ok);
    t.deepEqual(await scene.unstage(a), ok);
    t.is((await scene.devicesOf(b)).length, 1);
    t.deepEqual(await scene.delete(a), ok);
    t.deepEqual(await scene.healthOf(b), []);
    await assertEnds(t, scene, b);
  });
});
