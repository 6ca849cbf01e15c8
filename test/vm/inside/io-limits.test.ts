/**
 * The I/O limits that the driver sets (docs/limits-io.md), with programs in the cgroup of a pod. Only the kernel can make I/O slow
 * for certain, but any busy host can. So I/O is within a limit if no measurement exceeds it, and is not limited if one does: the
 * measurement is repeated until then, and no result depends on the speed of the machine.
 */
import { mkdir, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
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
import { LimitedPod, numberOf, writtenBytes } from './limited-pod.ts';
import {
  limitedLine,
  limitedRate,
  limitParameters,
  limitLines as lines,
  podsCgroup as pods,
} from './limited-volume.ts';

const ok = { code: 'OK', message: '' };

const blocks = 128n;
const blockBytes = 64n * 1024n;
const rate = limitedRate;
const parameters = limitParameters;
/** The duration of one access at the limit. */
const limitedMs = Number((blocks * blockBytes * 1000n) / rate);
const isLimited = (ms: number): boolean => ms > limitedMs * 0.75;
/** How long to wait for I/O that is faster than the limit, on a host that is busy with something else. */
const unlimitedWithinMs = 30_000;

const access = [`bs=${blockBytes}`, `count=${blocks}`];
const write = (file: string, how: readonly string[]): readonly string[] => [
  ...['dd', 'if=/dev/zero', `of=${file}`],
  ...access,
  ...how,
];
const directWrite = (file: string) => write(file, ['oflag=direct', 'conv=notrunc']);
const bufferedWrite = (file: string) => write(file, ['conv=notrunc,fsync']);
const directRead = (file: string): readonly string[] => [
  ...['dd', `if=${file}`, 'of=/dev/null', 'iflag=direct'],
  ...access,
];
const accesses = (file: string) => [
  { title: 'direct write', args: directWrite(file) },
  { title: 'buffered write', args: bufferedWrite(file) },
  { title: 'direct read', args: directRead(file) },
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

/** Drops the page cache, so that reads come from the disk. */
async function forgetCaches(): Promise<void> {
  await execa('sync');
  await writeFile('/proc/sys/vm/drop_caches', '3');
  await execa('dd', ['--version']);
}

/** Repeats the access until it takes less time than the limit allows. */
async function untilNotLimited(
  t: ExecutionContext,
  pod: LimitedPod,
  args: readonly string[],
): Promise<void> {
  const isFast = async (): Promise<boolean> => {
    const ms = await pod.run(args);
    t.log(`without a limit: ${(ms / 1000).toFixed(1)} s`);
    return !isLimited(ms);
  };
  await until(`${args.join(' ')} is not limited`, isFast, unlimitedWithinMs);
}

/** Bytes per second that the pod writes to the device during that time, by the kernel's own count. */
async function rateDuring(pod: LimitedPod, device: string, ms: number): Promise<number> {
  const startedAtMs = performance.now();
  const before = await pod.writtenBytes(device);
  await delay(ms);
  const written = (await pod.writtenBytes(device)) - before;
  return (written * 1000) / (performance.now() - startedAtMs);
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
    t.deepEqual(await lines(), [await limitedLine(device)]);
    for (const { title, args } of accesses(file)) {
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
    for (const { args } of accesses(file)) await untilNotLimited(t, pod, args);
    await endUse(t, fixture, 'v');
    t.deepEqual(await lines(), []);
  });
});

test.serial('the pod is not charged for the journal of its volume', async (t) => {
  await onNode(t, async (fixture, pod) => {
    t.deepEqual(await fixture.create('v', 'ext4', { parameters }), ok);
    const { device, file } = await stageAndPublish(t, fixture, 'v');
    // Each fsync of a new file writes blocks of metadata to the journal, and to their places later.
    const script = 'for i in $(seq 100); do : >"$1.$i"; sync "$1.$i"; done';
    const [charged, all] = [await pod.writtenBytes(device), await writtenBytes(device)];
    await pod.run(['sh', '-c', script, 'sh', file]);
    const ofPod = (await pod.writtenBytes(device)) - charged;
    const ofAll = (await writtenBytes(device)) - all;
    t.log(`100 new files: ${ofAll / 1024} KiB written, ${ofPod / 1024} KiB of them by the pod`);
    t.true(ofAll - ofPod > 100 * 4096, `${ofAll}, ${ofPod}`);
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
    await untilNotLimited(t, pod, directWrite(next.file));
    await endUse(t, fixture, 'other');
  });
});

test.serial(
  'limits are put back by a start, and when the cgroup of all pods is made anew',
  async (t) => {
    await onNode(t, async (fixture, pod) => {
      t.deepEqual(await fixture.create('v', 'ext4', { parameters }), ok);
      const { device, file } = await stageAndPublish(t, fixture, 'v');
      const line = await limitedLine(device);
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
      ...['--direct=1', '--thread', '--rate=4m', '--time_based', '--runtime=100000'],
      '--output=/dev/null',
    ]);
    const ended = fio.then(
      () => 'it ended',
      (error: unknown) => String(error),
    );
    const limitTo = async (writeBytesPerSecond: string): Promise<void> => {
      t.deepEqual(await modify(fixture, 'v', { writeBytesPerSecond }), ok);
    };
    const exceeds = async (KiBs: number): Promise<void> => {
      const isFaster = until(
        `fio writes more than ${KiBs} KiB/s`,
        async () => (await rateDuring(pod, device, 4_000)) > KiBs * 1024,
        unlimitedWithinMs,
      );
      t.is(await Promise.race([isFaster, ended]), undefined);
    };
    const staysWithin = async (KiBs: number): Promise<void> => {
      // What was admitted under the former limit is not measured.
      await delay(2_000);
      for (let measured = 0; measured < 3; measured += 1) {
        const perSecond = await rateDuring(pod, device, 4_000);
        t.log(`limited to ${KiBs} KiB/s: ${Math.round(perSecond / 1024)} KiB/s`);
        // In a short time one more request of 16 KiB may be admitted at each end.
        t.true(perSecond < KiBs * 1024 * 1.2, `${perSecond}`);
      }
    };
    await exceeds(512);
    await limitTo('128Ki');
    await staysWithin(128);
    await limitTo('384Ki');
    await exceeds(160);
    await staysWithin(384);
    await limitTo('max');
    await exceeds(512);
    fio.kill('SIGKILL');
    t.regex(await ended, /SIGKILL/, 'it ran until now');
    await endUse(t, fixture, 'v');
  });
});
