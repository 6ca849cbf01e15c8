/**
 * The I/O limits that the driver sets (docs/limits-io.md), with programs in the cgroup of a pod. The limits are so low that I/O
 * without a limit is much faster, even under emulation.
 */
import { mkdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { execa } from 'execa';
import { driverLane } from '../../../src/host/lane.ts';
import { CgroupState, makeDeviceLimits } from '../../../src/host/loop/device-limits.ts';
import { noLimits } from '../../../src/host/loop/io-limits.ts';
import { makeRealHost } from '../../../src/host/real-host.ts';
import { MiB } from '../../../src/units.ts';
import { limitCases } from '../../contract/limits.ts';
import { volumeIdOf } from '../../crash/calls.ts';
import { answerOf } from '../../helpers/answer.ts';
import { type NodeFixture, withFixture } from '../../helpers/node-fixture.ts';
import { realOtherSoftware } from '../../helpers/other-software.ts';
import { onScratch } from '../../helpers/root-scratch.ts';
import { until } from '../../helpers/until.ts';
import { LimitedPod, numberOf } from './limited-pod.ts';

const ok = { code: 'OK', message: '' };
/** The kubelet's cgroup for all pods, which the driver finds by its name. */
const pods = '/sys/fs/cgroup/kubepods.slice';

const bytes = 8n * MiB;
const rate = 512n * 1024n;
const parameters = { readBytesPerSecond: '512Ki', writeBytesPerSecond: '512Ki' };
/** The duration of `bytes` at the limit. */
const limitedMs = Number((bytes * 1000n) / rate);
const isLimited = (ms: number): boolean => ms > limitedMs * 0.75;

const write = (file: string, how: readonly string[]): readonly string[] => [
  'dd',
  'if=/dev/zero',
  `of=${file}`,
  'bs=64k',
  'count=128',
  ...how,
];
const directWrite = (file: string) => write(file, ['oflag=direct', 'conv=notrunc']);
const bufferedWrite = (file: string) => write(file, ['conv=notrunc,fsync']);
const directRead = (file: string): readonly string[] => [
  'dd',
  `if=${file}`,
  'of=/dev/null',
  'bs=64k',
  'count=128',
  'iflag=direct',
];

/** Runs a test with a driver whose pool has its own disk, and a pod below the cgroup of all pods. */
async function onNode(
  t: ExecutionContext,
  run: (fixture: NodeFixture, pod: LimitedPod) => Promise<void>,
): Promise<void> {
  const pod = await LimitedPod.make('pod', pods);
  const runLong = async (fixture: NodeFixture): Promise<void> => {
    t.timeout(20 * 60_000);
    await run(fixture, pod);
  };
  await withFixture(t, runLong, {
    preparePool: async (directory) => {
      await execa('mke2fs', ['-q', '-F', '-t', 'ext4', '/dev/vm/pool']);
      await mkdir(join(directory, 'pool'));
      await execa('mount', ['/dev/vm/pool', join(directory, 'pool')]);
    },
  });
  await pod.remove();
}

async function stageAndPublish(t: ExecutionContext, fixture: NodeFixture, name: string) {
  t.deepEqual(await fixture.stage(name), ok);
  t.deepEqual(await fixture.publish(name), ok);
  const [device = ''] = await fixture.devicesOf(name);
  return { device, file: join(fixture.targetOf(name), 'file') };
}

async function endUse(t: ExecutionContext, fixture: NodeFixture, name: string): Promise<void> {
  t.deepEqual(await fixture.unpublish(name), ok);
  t.deepEqual(await fixture.unstage(name), ok);
}

const modify = (fixture: NodeFixture, name: string, mutable: Readonly<Record<string, string>>) =>
  answerOf(
    fixture.testNode.controller.ControllerModifyVolume(
      { volume_id: volumeIdOf(name), mutable_parameters: mutable },
      { timeoutMs: 120_000 },
    ),
  );

/** The lines of loop devices in io.max of all pods. */
async function lines(): Promise<readonly string[]> {
  const text = await readFile(join(pods, 'io.max'), 'utf8');
  return text.split('\n').filter((line) => line.startsWith('7:'));
}

/** Drops the page cache, so that reads come from the disk. */
async function forgetCaches(): Promise<void> {
  await execa('sync');
  await writeFile('/proc/sys/vm/drop_caches', '3');
  await execa('dd', ['--version']);
}

/** Bytes that the pod writes to the device in this time. */
async function writtenDuring(pod: LimitedPod, device: string, ms: number): Promise<number> {
  const before = await pod.writtenBytes(device);
  await new Promise((resolve) => setTimeout(resolve, ms));
  return (await pod.writtenBytes(device)) - before;
}

for (const { name, run } of limitCases) {
  test.serial(name, async (t) => {
    await LimitedPod.make('contract', pods).then((pod) => pod.remove());
    await onScratch(t, (scratch) =>
      run({
        ...scratch,
        otherSoftware: realOtherSoftware,
        equal: (actual, expected, what) => t.deepEqual(actual, expected, what),
      }),
    );
    t.deepEqual(await lines(), []);
  });
}

test.serial('direct and buffered I/O is within the limit, and fast without it', async (t) => {
  await onNode(t, async (fixture, pod) => {
    t.deepEqual(await fixture.create('v', 'ext4', { parameters }), ok);
    const { device, file } = await stageAndPublish(t, fixture, 'v');
    t.deepEqual(await lines(), [
      `${await numberOf(device)} rbps=${rate} wbps=${rate} riops=max wiops=max`,
    ]);
    for (const { title, args } of [
      { title: 'direct write', args: directWrite(file) },
      { title: 'buffered write', args: bufferedWrite(file) },
      { title: 'direct read', args: directRead(file) },
    ]) {
      await forgetCaches();
      const ms = await pod.run(args);
      t.log(`${title}: ${(ms / 1000).toFixed(1)} s`);
      t.true(isLimited(ms), `${title}: ${Math.round(ms)} ms`);
    }
    t.deepEqual(
      await modify(fixture, 'v', { readBytesPerSecond: 'max', writeBytesPerSecond: 'max' }),
      ok,
    );
    t.deepEqual(await lines(), []);
    for (const args of [directWrite(file), bufferedWrite(file), directRead(file)]) {
      const ms = await pod.run(args);
      t.log(`without a limit: ${(ms / 1000).toFixed(1)} s`);
      t.false(isLimited(ms), `${Math.round(ms)} ms`);
    }
    await endUse(t, fixture, 'v');
  });
});

test.serial('the next volume with the number of a limited one is not limited', async (t) => {
  await onNode(t, async (fixture, pod) => {
    t.deepEqual(await fixture.create('limited', 'ext4', { parameters }), ok);
    t.deepEqual(await fixture.create('other'), ok);
    const first = await stageAndPublish(t, fixture, 'limited');
    await endUse(t, fixture, 'limited');
    t.deepEqual(await lines(), [], 'gone after unstage');
    await fixture.testNode.driver.stop();
    // As if a device had been detached while no driver ran.
    const number = await numberOf(first.device);
    await writeFile(join(pods, 'io.max'), `${number} wbps=${rate} rbps=${rate}`);
    await fixture.testNode.start();
    const next = await stageAndPublish(t, fixture, 'other');
    t.is(next.device, first.device);
    t.deepEqual(await lines(), []);
    t.false(isLimited(await pod.run(directWrite(next.file))));
    await endUse(t, fixture, 'other');
  });
});

test.serial(
  'limits are put back by a start, and when the cgroup of all pods is made anew',
  async (t) => {
    await onNode(t, async (fixture, pod) => {
      t.deepEqual(await fixture.create('v', 'ext4', { parameters }), ok);
      const { device, file } = await stageAndPublish(t, fixture, 'v');
      const line = `${await numberOf(device)} rbps=${rate} wbps=${rate} riops=max wiops=max`;
      process.kill(fixture.testNode.driver.pid, 'SIGKILL');
      await fixture.testNode.driver.ended;
      t.deepEqual(await lines(), [line], 'a killed driver leaves the limit');
      await writeFile(join(pods, 'io.max'), `${await numberOf(device)} wbps=max rbps=max`);
      t.deepEqual(await lines(), []);
      await fixture.testNode.start();
      t.deepEqual(await lines(), [line]);
      t.true(isLimited(await pod.run(directWrite(file))));

      await pod.remove();
      await rmdir(pods);
      const again = await LimitedPod.make('pod', pods);
      await until('the limit is back', async () => (await lines())[0] === line, 120_000);
      t.true(isLimited(await again.run(directWrite(file))));
      await endUse(t, fixture, 'v');
      t.deepEqual(await lines(), []);
    });
  },
);

test.serial('a cgroup that cannot limit devices is refused, and doctor says why', async (t) => {
  const runIn = (podsCgroup: string, run: (fixture: NodeFixture) => Promise<void>) =>
    withFixture(t, run, { flags: () => [`--pods-cgroup=${podsCgroup}`] });
  for (const [cgroup, why] of [
    [
      '/sys/fs/cgroup',
      /\/sys\/fs\/cgroup has no io\.max, because the io controller is not enabled/,
    ],
    ['/var/tmp', /\/var\/tmp is not a directory of cgroup v2/],
    ['/sys/fs/cgroup/missing', /\/sys\/fs\/cgroup\/missing is not a directory of cgroup v2/],
  ] as const) {
    await runIn(cgroup, async (fixture) => {
      const answer = await fixture.create('v', 'ext4', { parameters });
      t.is(answer.code, 'RESOURCE_EXHAUSTED');
      t.regex(answer.message, why);
      t.deepEqual(await fixture.create('v'), ok);
      const { checks } = await fixture.testNode.admin.Doctor({});
      const found = checks.find(({ name }) => name === 'io-limits');
      t.is(found?.state, 'WARN');
      t.regex(found?.message ?? '', why);
    });
  }
  t.deepEqual(
    await makeDeviceLimits(driverLane, new CgroupState('/var/tmp')).set('7:0', noLimits),
    undefined,
    'there is nothing to remove',
  );
  t.true('path' in (await makeRealHost().deviceLimits.findCgroup()));
});

test.serial('a limit is changed while fio runs', async (t) => {
  await onNode(t, async (fixture, pod) => {
    t.deepEqual(await fixture.create('v', 'ext4', { sizeBytes: 64n * MiB }), ok);
    const { device, file } = await stageAndPublish(t, fixture, 'v');
    const fio = pod.start([
      ...['fio', '--name=w', `--filename=${file}`, '--rw=write', '--bs=16k', '--size=16m'],
      ...[
        '--direct=1',
        '--thread',
        '--rate=4m',
        '--time_based',
        '--runtime=600',
        '--output=/dev/null',
      ],
    ]);
    const ended = fio.then(
      () => 'it ended',
      (error: unknown) => String(error),
    );
    const seconds = 8;
    const isWriting = until(
      'fio writes',
      async () => (await pod.writtenBytes(device)) > 4 * Number(MiB),
    );
    t.is(await Promise.race([isWriting, ended]), undefined);
    const measured: number[] = [];
    for (const limit of ['max', '128Ki', '384Ki', 'max'] as const) {
      t.deepEqual(await modify(fixture, 'v', { writeBytesPerSecond: limit }), ok);
      // What was admitted under the former limit is not measured.
      await writtenDuring(pod, device, 2_000);
      const perSecond = (await writtenDuring(pod, device, seconds * 1000)) / seconds;
      t.log(`writeBytesPerSecond ${limit}: ${Math.round(perSecond / 1024)} KiB/s`);
      measured.push(perSecond);
    }
    const [before = 0, low = 0, high = 0, after = 0] = measured;
    fio.kill('SIGKILL');
    t.regex(await ended, /SIGKILL/, 'it ran until now');
    const KiB = 1024;
    t.true(low > 0 && low < 1.5 * 128 * KiB, `${low}`);
    t.true(high > 1.5 * 128 * KiB && high < 1.3 * 384 * KiB, `${high}`);
    t.true(before > 1.3 * 384 * KiB && after > 1.3 * 384 * KiB, `${before}, ${after}`);
    await endUse(t, fixture, 'v');
  });
});
