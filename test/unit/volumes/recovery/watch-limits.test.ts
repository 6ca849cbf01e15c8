import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { pino } from 'pino';
import type { IoLimits } from '../../../../src/host/host.ts';
import { noLimits } from '../../../../src/host/loop/io-limits.ts';
import { volumeLock } from '../../../../src/volumes/engine/locks.ts';
import { LimitCheck } from '../../../../src/volumes/recovery/watch-limits.ts';
import { cgroupV1 } from '../../../helpers/fake-device-limits.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { call, capability, plainSettings, volumeInput } from '../../../helpers/scratch-node.ts';
import { until } from '../../../helpers/until.ts';

const limits: IoLimits = { ...noLimits, readIops: 500n };

/** A node with two pools, each with a staged volume of its name that has limits, and a check whose log is kept. */
async function twoLimitedVolumes(t: ExecutionContext) {
  const node = await fakeNode(t);
  const { volumes, domain } = await node.open(['a', 'b'].map((name) => node.settings(name)));
  const ids: string[] = [];
  for (const pool of ['a', 'b']) {
    const settings = { ...plainSettings, pool, limits };
    const { record } = await volumes.createVolume(call(), volumeInput(pool, { settings }));
    const stagingTargetPath = join(node.directory, `staging-${pool}`);
    await mkdir(stagingTargetPath);
    const volumeId = record.id;
    await volumes.stageVolume(call(), { volumeId, stagingTargetPath, capability: capability() });
    ids.push(volumeId);
  }
  const log: string[] = [];
  const write = (line: string): void => {
    log.push(line);
  };
  const [a = '', b = ''] = [...node.host.ioMax.devices.keys()];
  const check = new LimitCheck({ ...domain, log: pino({}, { write }) });
  return { node, ioMax: node.host.ioMax, domain, ids, a, b, log, check };
}

test('a device whose limits cannot be set does not prevent the repair of others', async (t) => {
  const { ioMax, a, b, log, check } = await twoLimitedVolumes(t);
  ioMax.devices.clear();
  ioMax.devices.set('7:99', limits);
  const set = ioMax.set.bind(ioMax);
  ioMax.set = async (majorMinor, wanted) => {
    if (majorMinor === a) throw new Error('refused by the kernel');
    await set(majorMinor, wanted);
  };
  await check.run();
  t.deepEqual([...ioMax.devices.keys()], [b]);
  t.is(log.filter((line) => line.includes('refused by the kernel')).length, 1);
});

test('a pool that does not answer does not prevent the repair of others, and its volume is not locked meanwhile', async (t) => {
  const { node, ioMax, domain, ids, a, b, check } = await twoLimitedVolumes(t);
  let resume = (): void => undefined;
  const hung = new Promise<void>((resolve) => {
    resume = resolve;
  });
  const { files } = node.host;
  const imageStatus = files.imageStatus.bind(files);
  files.imageStatus = async (path) => {
    if (path.startsWith(join(node.directory, 'a'))) await hung;
    return imageStatus(path);
  };
  ioMax.devices.clear();
  const checked = check.run();
  try {
    await until('the other pool is repaired', async () => ioMax.devices.has(b), 20_000);
    t.false(ioMax.devices.has(a));
    t.is(domain.operations.locks.lockedBy(volumeLock(ids[0] ?? '')), undefined);
  } finally {
    resume();
  }
  await checked;
  t.deepEqual([...ioMax.devices.keys()].sort(), [a, b].sort());
});

test('a volume that has its limits is neither locked nor looked up in its pool', async (t) => {
  const { node, domain, check } = await twoLimitedVolumes(t);
  const { files } = node.host;
  const asked: string[] = [];
  files.imageStatus = async (path) => {
    asked.push(path);
    throw new Error('not expected');
  };
  const { locks } = domain.operations;
  const acquireForCheck = locks.acquireForCheck.bind(locks);
  locks.acquireForCheck = (plan, operation) => {
    if (operation === 'a check of its I/O limits') asked.push(operation);
    return acquireForCheck(plan, operation);
  };
  await check.run();
  t.deepEqual(asked, []);
});

test('limited volumes in use that have lost the cgroup are logged as an error, once', async (t) => {
  const { ioMax, ids, log, check } = await twoLimitedVolumes(t);
  const { cgroup } = ioMax;
  ioMax.cgroup = cgroupV1;
  await check.run();
  await check.run();
  t.is(log.length, 1);
  t.regex(log[0] ?? '', /"level":50.*volumes in use are no longer limited/);
  for (const id of ids) t.true(log[0]?.includes(id));
  ioMax.cgroup = cgroup;
  await check.run();
  ioMax.cgroup = cgroupV1;
  await check.run();
  t.is(log.length, 2, 'again after it had returned');
});

test('a device that is attached while the limits of its number are removed gets its own at once', async (t) => {
  const { node, ioMax, a, check } = await twoLimitedVolumes(t);
  const { loops } = node.host;
  const at = loops.at.bind(loops);
  let calls = 0;
  // The first look-up is before the device was attached.
  loops.at = async (number) => {
    if (a !== `7:${number}`) return at(number);
    calls += 1;
    return calls === 1 ? undefined : at(number);
  };
  await check.run();
  t.is(calls, 2);
  t.deepEqual(ioMax.devices.get(a), limits);
});

test('a device that other software attached to the number of a volume does not keep its limits', async (t) => {
  const { node, ioMax, a, b, check } = await twoLimitedVolumes(t);
  await check.run();
  const { loops } = node.host;
  const [list, at] = [loops.list.bind(loops), loops.at.bind(loops)];
  const asForeign = <T extends { label: string }>(device: T): T => ({ ...device, label: 'backup' });
  loops.list = async () => (await list()).map(asForeign);
  loops.at = async (number) => {
    const device = await at(number);
    return device === undefined ? undefined : asForeign(device);
  };
  const ofOperator = { ...noLimits, writeIops: 20n };
  ioMax.devices.set(b, ofOperator);
  await check.run();
  t.false(ioMax.devices.has(a));
  t.deepEqual(ioMax.devices.get(b), ofOperator, 'the line of an operator');
});
