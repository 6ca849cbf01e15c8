import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { IoLimits } from '../../../../src/host/host.ts';
import { noLimits } from '../../../../src/host/loop/io-limits.ts';
import { MiB } from '../../../../src/units.ts';
import type { FaultPoint } from '../../../../src/volumes/engine/fault-points.ts';
import { parseParameters } from '../../../../src/volumes/parameters/storage-class.ts';
import { LimitCheck } from '../../../../src/volumes/recovery/watch-limits.ts';
import { cgroupV1 } from '../../../helpers/fake-device-limits.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { RestartableDriver } from '../../../helpers/restartable-driver.ts';
import { call, capability, volumeInput } from '../../../helpers/scratch-node.ts';

const limits: IoLimits = { ...noLimits, writeBytesPerSecond: MiB, readIops: 500n };

async function nodeWith(t: ExecutionContext) {
  const node = await fakeNode(t);
  let at: FaultPoint | undefined;
  const open = () =>
    node.open([node.settings('a')], {
      reached: (point) => {
        if (point !== at) return;
        at = undefined;
        throw new Error('killed here');
      },
    });
  const driver = new RestartableDriver(await open());
  const create = async (name: string, parameters: Readonly<Record<string, string>> = {}) => {
    const settings = parseParameters(parameters, 'ext4');
    const input = volumeInput(name, { sizeBytes: 16n * MiB, parameters, settings });
    return (await driver.volumes.createVolume(call(), input)).record.id;
  };
  const stagingOf = async (volumeId: string): Promise<string> => {
    const path = join(node.directory, `staging-${volumeId}`);
    await mkdir(path, { recursive: true });
    return path;
  };
  return {
    host: node.host,
    ioMax: node.host.ioMax,
    create,
    failAt: (point: FaultPoint) => {
      at = point;
    },
    restart: () => driver.reopen(open),
    modify: (volumeId: string, settings: { limits: Partial<IoLimits>; trim?: 'off' | 'online' }) =>
      driver.volumes.modifyVolume(call(), { volumeId, settings }),
    stage: async (volumeId: string) =>
      driver.volumes.stageVolume(call(), {
        volumeId,
        stagingTargetPath: await stagingOf(volumeId),
        capability: capability(),
      }),
    unstage: async (volumeId: string) =>
      driver.volumes.unstageVolume(call(), {
        volumeId,
        stagingTargetPath: await stagingOf(volumeId),
      }),
    recordOf: async (volumeId: string) => (await driver.volumes.getVolume(volumeId)).record,
    repair: () => new LimitCheck(driver.domain).run(),
  };
}

test('limits are set when a volume is staged, changed in use, and removed when it is unstaged', async (t) => {
  const { create, ioMax, modify, recordOf, stage, unstage } = await nodeWith(t);
  const id = await create('v', { writeBytesPerSecond: '1Mi', readIops: '500' });
  t.is(ioMax.devices.size, 0);
  await stage(id);
  t.deepEqual([...ioMax.devices.values()], [limits]);

  await modify(id, { limits: { readIops: null, writeIops: 20n } });
  const changed = { ...noLimits, writeBytesPerSecond: MiB, writeIops: 20n };
  t.deepEqual([...ioMax.devices.values()], [changed], 'what is not named keeps its value');
  t.deepEqual((await recordOf(id)).limits, changed);
  await modify(id, { limits: { writeIops: 20n } });
  t.deepEqual([...ioMax.devices.values()], [changed], 'again');

  await unstage(id);
  t.is(ioMax.devices.size, 0);
  await stage(id);
  t.deepEqual([...ioMax.devices.values()], [changed]);
  await modify(id, { limits: noLimits });
  t.is(ioMax.devices.size, 0, 'cleared in use');
});

test('a limit that a former device of the number has left does not apply to the next one', async (t) => {
  const { create, ioMax, stage, unstage } = await nodeWith(t);
  const limited = await create('limited', { writeBytesPerSecond: '1Mi' });
  await stage(limited);
  const [[number] = ['']] = [...ioMax.devices];
  await unstage(limited);
  ioMax.devices.set(number, limits);
  const other = await create('other');
  await stage(other);
  t.deepEqual([...ioMax.devices], []);
});

for (const point of ['modify:recorded', 'limits:set'] as const) {
  test(`a modification that ends at ${point} is completed by the next start, and by the repeated call`, async (t) => {
    const { create, failAt, ioMax, modify, restart, stage } = await nodeWith(t);
    const id = await create('v');
    await stage(id);
    failAt(point);
    await t.throwsAsync(modify(id, { limits }));
    await restart();
    t.deepEqual([...ioMax.devices.values()], [limits]);

    failAt(point);
    await t.throwsAsync(modify(id, { limits: noLimits }));
    await modify(id, { limits: noLimits });
    t.is(ioMax.devices.size, 0);
  });
}

test('limits are put back by a check if the cgroup lost them, and after a reboot', async (t) => {
  const { create, host, ioMax, repair, restart, stage } = await nodeWith(t);
  const id = await create('v', { writeBytesPerSecond: '1Mi', readIops: '500' });
  await stage(id);
  ioMax.devices.clear();
  ioMax.devices.set('7:99', limits);
  await repair();
  t.deepEqual([...ioMax.devices.values()], [limits], 'that of a detached device is gone');
  host.reboot();
  await restart();
  t.is(ioMax.devices.size, 0);
  await stage(id);
  t.deepEqual([...ioMax.devices.values()], [limits]);
});

test('on a node with cgroup v1, limits are refused and volumes without limits are used', async (t) => {
  const { create, ioMax, modify, recordOf, stage, unstage } = await nodeWith(t);
  const limited = await create('limited', { readIops: '500' });
  ioMax.cgroup = cgroupV1;
  t.is(await reasonOf(create('other', { readIops: '500' })), 'no-space', 'another node may do');
  t.is(await reasonOf(stage(limited)), 'wrong-state', 'never used without its limits');
  const plain = await create('plain');
  const error = await t.throwsAsync(modify(plain, { limits }));
  t.regex(
    error.message,
    /^volume 'plain\.[0-9a-f]{8}': I\/O limits cannot be set on this node: .* is not a directory of cgroup v2; boot the node/,
  );
  t.deepEqual((await recordOf(plain)).limits, noLimits, 'nothing was recorded');
  await stage(plain);
  await modify(plain, { trim: 'off', limits: {} });
  t.is((await recordOf(plain)).trim, 'off');
  await unstage(plain);
  await modify(limited, { limits: noLimits });
  await stage(limited);
});

test('without a cgroup, the limits of an attached volume can be cleared but not changed; its trim can', async (t) => {
  const { create, ioMax, modify, recordOf, stage } = await nodeWith(t);
  const id = await create('v', { readIops: '500', writeIops: '500' });
  await stage(id);
  ioMax.cgroup = cgroupV1;
  ioMax.devices.clear();
  await modify(id, { trim: 'off', limits: {} });
  t.is((await recordOf(id)).trim, 'off');
  t.is(await reasonOf(modify(id, { trim: 'online', limits: { readIops: null } })), 'wrong-state');
  const { limits, trim } = await recordOf(id);
  t.deepEqual([limits.readIops, trim], [500n, 'off'], 'nothing was recorded');
  await modify(id, { limits: noLimits });
  t.deepEqual((await recordOf(id)).limits, noLimits);
});

test('a node that cannot set limits has no capacity for volumes with limits', async (t) => {
  const node = await fakeNode(t);
  const { volumes } = await node.open([node.settings('a')]);
  const asked = { pool: undefined, provisioning: 'thin', fsType: 'ext4' } as const;
  const bytes = async (isLimited: boolean) =>
    (await volumes.capacity({ ...asked, isLimited })).availableBytes;
  t.true((await bytes(true)) > 0n);
  node.host.ioMax.cgroup = cgroupV1;
  t.is(await bytes(true), 0n);
  t.true((await bytes(false)) > 0n);
});

test('a staged volume whose limits can no longer be set is not staged again as if it had them', async (t) => {
  const { create, ioMax, restart, stage } = await nodeWith(t);
  const id = await create('v', { readIops: '500' });
  await stage(id);
  ioMax.cgroup = cgroupV1;
  await restart();
  t.is(await reasonOf(stage(id)), 'wrong-state');
});

test('trim of a thick volume cannot be changed, and an unknown volume is not found', async (t) => {
  const { create, modify, recordOf } = await nodeWith(t);
  const id = await create('thick', { provisioning: 'thick' });
  t.is(await reasonOf(modify(id, { trim: 'online', limits })), 'invalid');
  t.deepEqual((await recordOf(id)).limits, noLimits, 'nothing was applied');
  t.is(await reasonOf(modify(id.replace('thick', 'other'), { limits })), 'not-found');
});

test('a repeated create succeeds with the first and with the present values, and conflicts with others', async (t) => {
  const { create, modify } = await nodeWith(t);
  const id = await create('v', { trim: 'off', readIops: '500' });
  await modify(id, { trim: 'online', limits: { readIops: 20n, writeIops: 30n } });
  t.is(await create('v', { trim: 'off', readIops: '500' }), id);
  t.is(await create('v', { trim: 'online', readIops: '20', writeIops: '30' }), id);
  t.is(await reasonOf(create('v', { trim: 'off', readIops: '501' })), 'conflict');
  t.is(await reasonOf(create('v', { trim: 'periodic', readIops: '500' })), 'conflict');
});
