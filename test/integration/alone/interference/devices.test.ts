/**
 * Other processes open, detach and reuse the driver's loop devices: no volume loses its device or shows another volume's data.
 * Alone: it attaches an image to the number of a device that was detached, which another file could have taken.
 */
import { rm, writeFile } from 'node:fs/promises';
import type { ExecutionContext } from 'ava';
import { execa } from 'execa';
import { MiB } from '../../../../src/units.ts';
import {
  autoclearOf,
  type NodeFixture,
  numberOf,
  withFixture,
} from '../../../helpers/node-fixture.ts';
import { onNode } from '../../../helpers/on-node.ts';
import { realOtherSoftware } from '../../../helpers/other-software.ts';
import { until } from '../../../helpers/until.ts';

const ok = { code: 'OK', message: '' };

async function inUse(
  t: ExecutionContext,
  fixture: NodeFixture,
  name: string,
  kind: 'block' | 'ext4',
) {
  for (const answer of await fixture.use(name, kind)) t.deepEqual(answer, ok);
  const [device = ''] = await fixture.devicesOf(name);
  return device;
}

/** Unpublishes, unstages and deletes the volumes, and asserts that nothing of them is left. */
async function assertEnds(t: ExecutionContext, fixture: NodeFixture, ...names: readonly string[]) {
  for (const name of names) {
    t.deepEqual(await fixture.unpublish(name), ok, `unpublish ${name}`);
    t.deepEqual(await fixture.unstage(name), ok, `unstage ${name}`);
    t.deepEqual(await fixture.delete(name), ok, `delete ${name}`);
    t.deepEqual(await fixture.devicesOf(name), []);
  }
}

for (const restarts of [false, true]) {
  const how = restarts ? ', the driver killed meanwhile' : '';
  onNode(`a refused detach leaves a normal device, which its volume keeps${how}`, async (t) => {
    await withFixture(t, async (fixture) => {
      const device = await inUse(t, fixture, 'a', 'block');
      await fixture.writeMark('a', 'MARK-OF-A');
      t.deepEqual(await fixture.unpublish('a'), ok);
      const stopUse = await fixture.startUse(realOtherSoftware.openFile(device));
      t.is((await fixture.unstage('a')).code, 'ABORTED');
      t.not(await autoclearOf(device), true, 'the device is a normal one again');
      if (restarts) {
        await fixture.testNode.driver.kill();
        await fixture.testNode.start();
        // The start tries to detach it too, and calls of that volume are refused meanwhile.
        await until(
          'a is staged',
          async () => (await fixture.stage('a', 'block')).code !== 'ABORTED',
        );
      }
      t.deepEqual(await fixture.stage('a', 'block'), ok);
      t.deepEqual(await fixture.publish('a', 'block'), ok);
      await stopUse();
      await inUse(t, fixture, 'b', 'block');
      await fixture.writeMark('b', 'SECRET-OF-B');
      t.is(await fixture.readMark('a'), 'MARK-OF-A');
      t.is((await fixture.devicesOf('a')).length, 1, 'it still has one device');
      await assertEnds(t, fixture, 'a', 'b');
    });
  });
}

onNode(
  'after a refused detach of the second, read-only device, its volume keeps it too',
  async (t) => {
    await withFixture(t, async (fixture) => {
      await inUse(t, fixture, 'a', 'block');
      await fixture.writeMark('a', 'MARK-OF-A');
      const before = await fixture.devicesOf('a');
      t.deepEqual(await fixture.publish('a', 'block', { target: 'ro', readOnly: true }), ok);
      const [second = ''] = (await fixture.devicesOf('a')).filter((one) => !before.includes(one));
      const stopUse = await fixture.startUse(realOtherSoftware.openFile(second));
      const refused = await fixture.unpublish('a', 'ro');
      t.true(['OK', 'ABORTED'].includes(refused.code), refused.message);
      t.deepEqual(await fixture.publish('a', 'block', { target: 'ro', readOnly: true }), ok);
      await stopUse();
      await inUse(t, fixture, 'b', 'block');
      await fixture.writeMark('b', 'SECRET-OF-B');
      t.is(await fixture.readMark('ro'), 'MARK-OF-A');
      t.deepEqual(await fixture.unpublish('a', 'ro'), ok);
      await assertEnds(t, fixture, 'a', 'b');
    });
  },
);

onNode('a filesystem volume staged after a refused detach keeps its device', async (t) => {
  await withFixture(t, async (fixture) => {
    const device = await inUse(t, fixture, 'a', 'ext4');
    t.deepEqual(await fixture.unpublish('a'), ok);
    const stopUse = await fixture.startUse(realOtherSoftware.openFile(device));
    const refused = await fixture.unstage('a');
    t.is(refused.code, 'ABORTED', refused.message);
    t.not(await autoclearOf(device), true);
    t.deepEqual(await fixture.stage('a'), ok);
    t.deepEqual(await fixture.publish('a'), ok);
    await stopUse();
    await fixture.write('a', 'after');
    t.deepEqual(await fixture.healthOf('a'), []);
    await assertEnds(t, fixture, 'a');
  });
});

onNode('losetup -d of devices in use detaches nothing while the driver runs', async (t) => {
  await withFixture(t, async (fixture) => {
    const device = await inUse(t, fixture, 'a', 'block');
    await inUse(t, fixture, 'f', 'ext4');
    await fixture.writeMark('a', 'MARK-OF-A');
    for (const one of [device, ...(await fixture.devicesOf('f'))])
      await realOtherSoftware.clearDevice(numberOf(one));
    await inUse(t, fixture, 'b', 'block');
    await fixture.writeMark('b', 'SECRET-OF-B');
    t.is(await fixture.readMark('a'), 'MARK-OF-A');
    await fixture.write('f', 'still there');
    // The driver cancels the detach at its next check. Then it is killed, which closes its descriptors.
    await until('a is a normal device again', async () => !(await autoclearOf(device)), 5_000);
    await fixture.testNode.driver.kill();
    await fixture.testNode.start();
    t.is((await fixture.devicesOf('a')).length, 1);
    t.is(await fixture.readMark('a'), 'MARK-OF-A');
    await assertEnds(t, fixture, 'b', 'a', 'f');
  });
});

for (const order of [
  ['a', 'b'],
  ['b', 'a'],
] as const) {
  onNode(
    `after a block device is lost, pods can end in the order ${order.join(', ')}`,
    async (t) => {
      await withFixture(t, async (fixture) => {
        const device = await inUse(t, fixture, 'a', 'block');
        await fixture.writeMark('a', 'MARK-OF-A');
        await fixture.testNode.driver.kill();
        await realOtherSoftware.clearDevice(numberOf(device));
        await fixture.testNode.start();
        t.true((await fixture.healthOf('a')).includes('DeviceLost'), 'health reports it');
        const again = await fixture.publish('a', 'block', { target: 'second' });
        t.not(again.code, 'OK', 'a second target of a lost device');
        t.not((await fixture.publish('a', 'block')).code, 'OK', 'the same target again');
        await inUse(t, fixture, 'b', 'block');
        await fixture.writeMark('b', 'SECRET-OF-B');
        t.not(await fixture.readMark('a').catch(() => 'nothing'), 'SECRET-OF-B');
        t.deepEqual(await fixture.healthOf('b'), []);
        await assertEnds(t, fixture, ...order);
      });
    },
  );
}

onNode('a lost device whose number a foreign image uses is not changed', async (t) => {
  await withFixture(t, async (fixture) => {
    const device = await inUse(t, fixture, 'a', 'block');
    await fixture.writeMark('a', 'MARK-OF-A');
    await fixture.testNode.driver.kill();
    await realOtherSoftware.clearDevice(numberOf(device));
    const foreign = fixture.testNode.pathOf('foreign.img');
    await writeFile(foreign, Buffer.alloc(Number(8n * MiB), 'f'));
    await execa('losetup', [device, foreign]);
    await fixture.testNode.start();
    try {
      t.true((await fixture.healthOf('a')).includes('DeviceLost'));
      await assertEnds(t, fixture, 'a');
      const { stdout } = await execa('losetup', ['--noheadings', '--output', 'BACK-FILE', device]);
      t.is(stdout.trim(), foreign);
    } finally {
      await realOtherSoftware.clearDevice(numberOf(device));
      await rm(foreign);
    }
  });
});

onNode('volumes whose ids have a long common prefix are not confused', async (t) => {
  await withFixture(t, async (fixture) => {
    const long = 'n'.repeat(70);
    const [a, b] = [`${long}-a`, `${long}-b`];
    t.deepEqual(await fixture.create(a), ok);
    await inUse(t, fixture, b, 'ext4');
    await fixture.write(b, 'of b');
    t.deepEqual(await fixture.unpublish(a), ok);
    t.deepEqual(await fixture.unstage(a), ok);
    t.is((await fixture.devicesOf(b)).length, 1);
    t.deepEqual(await fixture.delete(a), ok);
    t.deepEqual(await fixture.healthOf(b), []);
    await assertEnds(t, fixture, b);
  });
});
