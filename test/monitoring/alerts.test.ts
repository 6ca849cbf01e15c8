/**
 * Provokes each alert on a real driver, and lets promtool evaluate the rules with what the driver's /metrics showed. Each scrape is
 * repeated for as long as the alerts wait, instead of waiting.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { execa } from 'execa';
import { until } from '../helpers/until.ts';
import { MonitoredController } from './monitored-controller.ts';
import { MonitoredNode } from './monitored-node.ts';
import { alertNames, alertsText, type RuleTest, testRules } from './promtool.ts';
import { durationOf, inputSeries, type TimelineEntry } from './timeline.ts';

/** The alerts that a test has provoked. */
const provoked = new Set<string>();

const isRoot = process.getuid?.() === 0;
/** The tests run concurrently, since one waits for a minute: for the time limit of a kernel call. */
const onNode = isRoot ? test : test.skip;
if (!isRoot) test('skipped: loop devices and mounts need root', (t) => t.pass());

/** Longer than any alert waits, and than any range of an expression reaches. */
const longMinutes = 180;

interface Timeline {
  readonly healthy: string;
  readonly broken: readonly TimelineEntry[];
  /** The alerts of only this time at the end are asserted. */
  readonly lastMinutes?: number;
}

/** Asserts that exactly these alerts fire during the last entries of the timeline, and none during the first entry. */
async function assertFiring(
  t: ExecutionContext,
  name: string,
  { healthy, broken, lastMinutes = durationOf(broken) }: Timeline,
  expected: readonly string[],
): Promise<void> {
  const timeline = [{ text: healthy, minutes: longMinutes }, ...broken];
  const firing = (minutes: number): string =>
    `group by (alertname) (max_over_time(ALERTS{alertstate="firing"}[${minutes}m]))`;
  const ruleTest: RuleTest = {
    name,
    interval: '1m',
    input_series: inputSeries(
      timeline,
      (series) => series === 'up' || alertsText.includes(nameIn(series)),
    ),
    promql_expr_test: [
      { expr: firing(longMinutes), eval_time: `${longMinutes - 1}m`, exp_samples: [] },
      {
        expr: firing(lastMinutes),
        eval_time: `${durationOf(timeline) - 1}m`,
        exp_samples: expected.map((alert) => ({ labels: `{alertname="${alert}"}`, value: 1 })),
      },
    ],
  };
  await t.notThrowsAsync(testRules([ruleTest]));
  for (const alert of expected) provoked.add(alert);
}

/** Waits until a driver that is started later has another start time than in the scrape: the metric has whole seconds. */
async function untilNextSecond(text: string): Promise<void> {
  const [, seconds] = /^process_start_time_seconds (\d+)$/m.exec(text) ?? [];
  if (seconds === undefined) throw new Error('the scrape has no process_start_time_seconds');
  await until('the next second', () => Date.now() >= (Number(seconds) + 1) * 1_000);
}

/** The metric of a series of a histogram. */
function nameIn(series: string): string {
  return series.replace(/_(count|sum)$/, '_bucket');
}

onNode('no alert fires on a healthy node; full disks and volumes are reported', async (t) => {
  const node = await MonitoredNode.start(t);
  const full = await node.mountedVolume('full', 'disk', 16);
  const thin = await node.mountedVolume('thin', 'thin', 256);
  const healthy = await node.scrape();
  t.regex(healthy, /^loopcsi_pool_served\{pool="thin"\} 1$/m);

  await node.promiseRest('disk', 0);
  const promised = { text: await node.scrape(), minutes: 30 };
  await assertFiring(t, 'full without overcommit', { healthy, broken: [promised] }, []);

  // The volume first: on a full pool it could not be filled.
  await node.makeFiles(full, 4_000);
  await execa('dd', ['if=/dev/zero', `of=${join(full, 'data')}`, 'bs=64k'], { reject: false });
  await execa('sync', ['--file-system', full]);
  await node.makeFiles(join(node.pathOf('disk'), 'pool'), 1_100);
  const ballast = join(node.pathOf('disk'), 'pool', 'ballast');
  await execa('fallocate', ['--length', String(await node.freeBytes('disk', 4)), ballast]);
  const used = { text: await node.scrape(), minutes: 30 };
  await assertFiring(t, 'space of others', { healthy, broken: [used] }, [
    'LoopcsiPoolAlmostFull',
    'LoopcsiPoolInodesLow',
    'LoopcsiPoolOutOfSpace',
    'LoopcsiVolumeAlmostFull',
    'LoopcsiVolumeInodesLow',
  ]);
  const thinBallast = join(node.pathOf('thin'), 'pool', 'ballast');
  await execa('fallocate', ['--length', String(await node.freeBytes('thin', 96)), thinBallast]);
  const frozen = await node.scrapeUntil(/^loopcsi_pool_frozen_volumes\{pool="thin"\} 1$/m);
  const expired = await node.scrapeUntil(
    /^loopcsi_guard_actions_total\{pool="thin",action="expire"\} [1-9]/m,
  );
  t.truthy(thin);
  await assertFiring(
    t,
    'space',
    {
      healthy,
      broken: [
        { text: frozen, minutes: 2 },
        { text: expired, minutes: 30 },
      ],
    },
    [
      'LoopcsiGuardGaveUp',
      'LoopcsiPoolAlmostFull',
      'LoopcsiPoolInodesLow',
      'LoopcsiPoolOutOfSpace',
      'LoopcsiVolumeAlmostFull',
      'LoopcsiVolumeInodesLow',
      'LoopcsiVolumesFrozen',
    ],
  );
});

onNode(
  'leftovers, damaged volumes and a driver that is down or restarts are reported',
  async (t) => {
    const node = await MonitoredNode.start(t);
    await node.mountedVolume('used', 'disk', 16);
    const [kept, left, short, later] = [
      await node.volume('kept', 'disk', 32),
      await node.volume('left', 'disk', 32),
      await node.volume('short', 'disk', 32),
      await node.volume('later', 'disk', 32),
    ];
    const healthy = await node.scrape();

    // An image that cannot be removed, since it is immutable.
    const image = join(node.entryOf('disk', kept), 'disk.img');
    await execa('chattr', ['+i', image]);
    t.teardown(() => execa('chattr', ['-R', '-i', join(node.pathOf('disk'), 'pool', 'trash')]));
    await node.controller.DeleteVolume({ volume_id: kept });
    const trash = await node.scrape();
    await assertFiring(t, 'trash', { healthy, broken: [{ text: trash, minutes: longMinutes }] }, [
      'LoopcsiTrashNotEmptied',
    ]);
    await execa('chattr', ['-R', '-i', join(node.pathOf('disk'), 'pool', 'trash')]);

    await node.attachUnused('disk', left);
    const leftover = await node.scrapeUntil(/^loopcsi_leftover_devices 1$/m);
    await node.detachUnused();

    await node.stop();
    t.is(await node.scrapeIfUp(), undefined);
    await execa('truncate', ['--size', '16M', join(node.entryOf('disk', short), 'disk.img')]);
    const record = join(node.entryOf('disk', later), 'volume.json');
    const json = await readFile(record, 'utf8');
    const ofLaterVersion = { ...(JSON.parse(json) as object), schemaVersion: 99 };
    await writeFile(record, JSON.stringify(ofLaterVersion));
    const restarts: TimelineEntry[] = [];
    for (let start = 0; start < 4; start += 1) {
      await node.start();
      const text = await node.scrape();
      restarts.push({ text, minutes: 5 });
      await node.stop();
      await untilNextSecond(text);
    }
    await node.start();
    const unhealthy = await node.scrapeUntil(/^loopcsi_health_check_timestamp_seconds /m);
    // A scrape resets the histogram, which records delays from its second timer on.
    await delay(200);
    process.kill(node.pid, 'SIGSTOP');
    await delay(1_500);
    process.kill(node.pid, 'SIGCONT');
    const blocked = await node.scrape();

    await assertFiring(t, 'leftover', { healthy, broken: [{ text: leftover, minutes: 60 }] }, [
      'LoopcsiLeftoverDevices',
    ]);
    await assertFiring(t, 'down', { healthy, broken: [{ text: undefined, minutes: 30 }] }, [
      'LoopcsiDriverDown',
      // Nothing remains of it in the last samples.
      'LoopcsiAbsent',
    ]);
    await assertFiring(
      t,
      'absent',
      { healthy, broken: [{ text: undefined, isNoTarget: true, minutes: 30 }] },
      ['LoopcsiAbsent'],
    );
    const isDown: TimelineEntry = { text: undefined, minutes: 4 };
    const restarting = { healthy, broken: [...restarts, isDown] };
    await assertFiring(t, 'restarts', restarting, ['LoopcsiDriverRestarting']);
    await assertFiring(t, 'between two starts', { ...restarting, lastMinutes: 3 }, [
      'LoopcsiDriverRestarting',
    ]);
    await assertFiring(t, 'damaged', { healthy, broken: [{ text: unhealthy, minutes: 60 }] }, [
      'LoopcsiVolumeDamaged',
      'LoopcsiVolumeUnhealthy',
    ]);
    await assertFiring(t, 'blocked', { healthy, broken: [{ text: blocked, minutes: 60 }] }, [
      'LoopcsiEventLoopBlocked',
      'LoopcsiVolumeDamaged',
      'LoopcsiVolumeUnhealthy',
    ]);
  },
);

onNode('a disk that hangs is reported', async (t) => {
  const node = await MonitoredNode.start(t, { hasHungPool: true });
  const hung = await node.volume('hung', 'hung', 32);
  // PromQL sees no increase in the first sample of a counter, so each call was made before.
  await node.mountedVolume('used', 'disk', 16);
  await node.controller.GetCapacity({});
  const healthy = await node.scrape();

  node.stall();
  await node.controller.GetCapacity({}, { timeoutMs: 60_000 });
  const unavailable = await node.scrapeUntil(/^loopcsi_pool_served\{pool="hung"\} 0$/m);
  const staging_target_path = node.pathOf('staging-hung');
  await mkdir(staging_target_path);
  const failed: string[] = [];
  for (let call = 0; call < 5; call += 1) {
    await t.throwsAsync(node.stage(hung, staging_target_path), { message: /UNAVAILABLE/ });
    failed.push(await node.scrapeUntil(/^loopcsi_stuck_owners [1-9]/m));
  }
  node.resume();
  const repeated = failed.map((text) => ({ text, minutes: 5 }));
  const others = ['LoopcsiCallsSlow', 'LoopcsiKernelCallStuck', 'LoopcsiPoolUnavailable'];
  const before = { text: unavailable, minutes: 5 };
  await assertFiring(t, 'hung', { healthy, broken: [before, ...repeated] }, [
    'LoopcsiCallsFailing',
    ...others,
  ]);
  // The first sample of the counter shows no increase, so this is one failed call.
  const [first, second] = repeated;
  if (first === undefined || second === undefined) throw new Error('no call has failed');
  const once = [before, first, { ...second, minutes: 30 }];
  await assertFiring(t, 'one failed call', { healthy, broken: once }, others);
});

onNode(
  'a controller whose nodes are unreachable or refused, whose calls fail, and that is down',
  async (t) => {
    const monitored = await MonitoredController.start(t);
    await monitored.call();
    const healthy = await monitored.scrapeUntil(/^loopcsi_agents\{state="ready"\} 1$/m);
    const failed: string[] = [];
    for (let call = 0; call < 6; call += 1) {
      const before = failedCalls(failed.at(-1) ?? healthy);
      await monitored.failCall();
      failed.push(await monitored.scrape());
      t.true(failedCalls(failed.at(-1) ?? '') > before);
    }
    await monitored.stopDriver();
    const unreachable = await monitored.scrapeUntil(/^loopcsi_agents\{state="unreachable"\} 1$/m);
    const refused = await monitored.scrapeWithForeignAuthority();

    const repeated = failed.map((text) => ({ text, minutes: 5 }));
    await assertFiring(t, 'calls', { healthy, broken: repeated }, ['LoopcsiAgentCallsFailing']);
    await assertFiring(
      t,
      'unreachable',
      { healthy, broken: [{ text: unreachable, minutes: 30 }] },
      ['LoopcsiAgentsUnreachable'],
    );
    await assertFiring(t, 'refused', { healthy, broken: [{ text: refused, minutes: 30 }] }, [
      'LoopcsiAgentsRefused',
    ]);
    await assertFiring(
      t,
      'controller down',
      { healthy, broken: [{ text: undefined, minutes: 30 }] },
      ['LoopcsiAbsent', 'LoopcsiControllerAbsent', 'LoopcsiDriverDown'],
    );
  },
);

/** Calls to agents that got no answer in time. */
function failedCalls(text: string): number {
  const [, count = '0'] =
    /^loopcsi_agent_calls_total\{.*code="DEADLINE_EXCEEDED"\} (\d+)$/m.exec(text) ?? [];
  return Number(count);
}

test.after('every alert was provoked', (t) => {
  if (isRoot) {
    t.deepEqual(
      alertNames.filter((name) => !provoked.has(name)),
      [],
    );
  }
});
