import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import type {
  Observed,
  ObservedPool,
  ObservedVolume,
} from '../../../src/observe/metrics/observed.ts';
import { Metrics } from '../../../src/observe/metrics.ts';
import { metricNames } from '../../helpers/metric-names.ts';

const nothing: Observed = {
  pools: [],
  stuckLanes: 0,
  runningOperations: 0,
  kernelCalls: { running: 0, waiting: 0 },
  leftoverDevices: undefined,
  healthCheckedAtMs: undefined,
};
const idlePool: ObservedPool = {
  name: 'a',
  isServed: false,
  bytes: {},
  freeInodes: undefined,
  frozenVolumes: 0,
  trims: { runs: { done: 2, failed: 1 }, bytes: 4096n },
  volumes: {},
  conditions: [],
  unhealthy: {},
  images: [],
  volumesNotListed: 0,
};
const idleVolume: ObservedVolume = {
  volumeId: 'v',
  fsType: 'block',
  claim: undefined,
  sizeBytes: 5n,
  allocatedBytes: 3n,
  filesystem: undefined,
  io: undefined,
  snapshots: undefined,
  lastTrimAtMs: undefined,
  conditions: [],
};
const call = { service: 'csi.v1.Controller', rpc: 'CreateVolume', code: 'OK', durationMs: 20 };

function lineOf(body: string, start: string): string | undefined {
  return body.split('\n').find((line) => line.startsWith(start));
}

test('measurements made before the library was loaded are counted', async (t) => {
  const metrics = new Metrics({ version: '1.2.3', observe: async () => nothing });
  t.teardown(() => {
    metrics.close();
  });
  metrics.callEnded(call);
  metrics.commandEnded({ file: 'mkfs.ext4', result: '0', durationMs: 5 });
  await metrics.load();
  metrics.callEnded({ ...call, code: 'ABORTED' });
  metrics.callEnded(call);
  const { body, contentType } = await metrics.render();
  t.regex(contentType, /^text\/plain/);
  const labels = '{service="csi.v1.Controller",rpc="CreateVolume"';
  t.is(lineOf(body, `loopcsi_calls_total${labels},code="OK"}`)?.split(' ')[1], '2');
  t.is(lineOf(body, `loopcsi_calls_total${labels},code="ABORTED"}`)?.split(' ')[1], '1');
  t.is(lineOf(body, `loopcsi_call_duration_seconds_count${labels}`)?.split(' ')[1], '3');
  t.is(lineOf(body, 'loopcsi_commands_total{file="mkfs.ext4",result="0"}')?.split(' ')[1], '1');
});

test('a scrape shows current values, and none for a pool that is no longer served', async (t) => {
  let observed: Observed = {
    ...nothing,
    pools: [
      {
        ...idlePool,
        isServed: true,
        bytes: { total: 7n },
        freeInodes: 5n,
        frozenVolumes: 3,
        volumes: { xfs: 2 },
        images: [idleVolume],
      },
    ],
    stuckLanes: 1,
    runningOperations: 3,
  };
  const metrics = new Metrics({ version: '1', observe: async () => observed });
  t.teardown(() => {
    metrics.close();
  });
  const first = (await metrics.render()).body;
  t.is(lineOf(first, 'loopcsi_pool_bytes'), 'loopcsi_pool_bytes{pool="a",kind="total"} 7');
  t.is(lineOf(first, 'loopcsi_volumes'), 'loopcsi_volumes{pool="a",kind="xfs"} 2');
  t.is(lineOf(first, 'loopcsi_pool_served'), 'loopcsi_pool_served{pool="a"} 1');
  const labels = 'loopcsi_volume_bytes{pool="a",volume="v",kind=';
  t.is(lineOf(first, `${labels}"size"`)?.split(' ')[1], '5');
  t.is(lineOf(first, `${labels}"allocated"`)?.split(' ')[1], '3');
  t.is(lineOf(first, 'loopcsi_pool_free_inodes'), 'loopcsi_pool_free_inodes{pool="a"} 5');
  t.is(lineOf(first, 'loopcsi_pool_frozen_volumes'), 'loopcsi_pool_frozen_volumes{pool="a"} 3');
  const done = 'loopcsi_trim_runs_total{pool="a",result="done"} 2';
  t.is(lineOf(first, 'loopcsi_trim_runs_total{pool="a",result="done"'), done);
  t.is(lineOf(first, 'loopcsi_trim_bytes_total'), 'loopcsi_trim_bytes_total{pool="a"} 4096');
  t.is(lineOf(first, 'loopcsi_stuck_owners'), 'loopcsi_stuck_owners 1');
  t.is(lineOf(first, 'loopcsi_running_operations'), 'loopcsi_running_operations 3');
  observed = { ...nothing, pools: [idlePool] };
  const second = (await metrics.render()).body;
  t.is(lineOf(second, 'loopcsi_pool_bytes'), undefined);
  t.is(lineOf(second, 'loopcsi_volume_bytes'), undefined);
  t.is(lineOf(second, 'loopcsi_pool_free_inodes'), undefined);
  t.is(lineOf(second, 'loopcsi_pool_served'), 'loopcsi_pool_served{pool="a"} 0');
  t.is(lineOf(second, 'loopcsi_trim_runs_total{pool="a",result="done"'), done);
  t.is(lineOf(second, 'loopcsi_stuck_owners'), 'loopcsi_stuck_owners 0');
});

test('a volume has the metrics of what it is doing', async (t) => {
  const volume: ObservedVolume = {
    ...idleVolume,
    fsType: 'xfs',
    claim: { namespace: 'default', claim: 'data', persistentVolume: 'pvc-1' },
    filesystem: {
      sizeBytes: 100n,
      usedBytes: 40n,
      availableBytes: 55n,
      inodes: 16n,
      usedInodes: 11n,
    },
    io: {
      reads: 1,
      readBytes: 512n,
      readMs: 1_500,
      writes: 2,
      writtenBytes: 1024n,
      writeMs: 250,
      busyMs: 1_750,
      inFlight: 1,
    },
    snapshots: { count: 2, allocatedBytes: 9n, newestAtMs: 5_000 },
    lastTrimAtMs: 7_000,
    conditions: ['BufferedIo'],
  };
  const pool = { ...idlePool, images: [idleVolume, { ...volume, volumeId: 'w' }] };
  const observed: Observed = {
    ...nothing,
    kernelCalls: { running: 1, waiting: 2 },
    leftoverDevices: 0,
    healthCheckedAtMs: 9_000,
    pools: [
      {
        ...pool,
        conditions: ['PoolNearlyFull'],
        unhealthy: { BufferedIo: 1 },
        volumesNotListed: 8,
      },
    ],
  };
  const metrics = new Metrics({ version: '1', observe: async () => observed });
  t.teardown(() => {
    metrics.close();
  });
  const { body } = await metrics.render();
  const values = new Map(
    body
      .split('\n')
      .map((line) => line.split(' '))
      .map(([name, value]) => [name, value]),
  );
  t.is(lineOf(body, 'loopcsi_volume_io_now{pool="a",volume="v"'), undefined);
  t.is(
    lineOf(body, 'loopcsi_volume_info{pool="a",volume="w"'),
    'loopcsi_volume_info{pool="a",volume="w",namespace="default",persistentvolumeclaim="data",persistentvolume="pvc-1",filesystem="xfs"} 1',
  );
  t.is(
    lineOf(body, 'loopcsi_volume_info{pool="a",volume="v"'),
    'loopcsi_volume_info{pool="a",volume="v",namespace="",persistentvolumeclaim="",persistentvolume="",filesystem="block"} 1',
  );
  const labels = '{pool="a",volume="w"}';
  for (const [name, value] of Object.entries({
    filesystem_size_bytes: '100',
    filesystem_used_bytes: '40',
    filesystem_available_bytes: '55',
    filesystem_inodes: '16',
    filesystem_inodes_used: '11',
    reads_completed_total: '1',
    read_bytes_total: '512',
    read_time_seconds_total: '1.5',
    writes_completed_total: '2',
    written_bytes_total: '1024',
    write_time_seconds_total: '0.25',
    io_time_seconds_total: '1.75',
    io_now: '1',
    snapshots: '2',
    snapshot_bytes: '9',
    newest_snapshot_timestamp_seconds: '5',
    last_trim_timestamp_seconds: '7',
  })) {
    t.is(values.get(`loopcsi_volume_${name}${labels}`), value, name);
  }
  t.is(values.get('loopcsi_volume_condition{pool="a",volume="w",reason="BufferedIo"}'), '1');
  t.is(values.get('loopcsi_unhealthy_volumes{pool="a",reason="BufferedIo"}'), '1');
  t.is(values.get('loopcsi_pool_condition{pool="a",reason="PoolNearlyFull"}'), '1');
  t.is(values.get('loopcsi_volumes_not_listed{pool="a"}'), '8');
  t.is(values.get('loopcsi_kernel_calls{state="waiting"}'), '2');
  t.is(values.get('loopcsi_leftover_devices'), '0');
  t.is(values.get('loopcsi_health_check_timestamp_seconds'), '9');
  t.regex(body, /^# TYPE loopcsi_volume_read_bytes_total counter$/m);
});

test('events of the domain are counted', async (t) => {
  const metrics = new Metrics({ version: '1', observe: async () => nothing });
  t.teardown(() => {
    metrics.close();
  });
  metrics.guardActed('a', 'freeze');
  metrics.freezeEnded({ cause: 'guard', durationMs: 40_000 });
  metrics.trimEnded({ pool: 'a', durationMs: 2_000 });
  const { body } = await metrics.render();
  t.is(
    lineOf(body, 'loopcsi_guard_actions_total{'),
    'loopcsi_guard_actions_total{pool="a",action="freeze"} 1',
  );
  t.is(
    lineOf(body, 'loopcsi_freeze_duration_seconds_sum'),
    'loopcsi_freeze_duration_seconds_sum{cause="guard"} 40',
  );
  t.is(
    lineOf(body, 'loopcsi_trim_duration_seconds_sum'),
    'loopcsi_trim_duration_seconds_sum{pool="a"} 2',
  );
});

test('concurrent scrapes share one collection of values', async (t) => {
  let collections = 0;
  const metrics = new Metrics({
    version: '1',
    observe: async () => {
      collections += 1;
      return nothing;
    },
  });
  t.teardown(() => {
    metrics.close();
  });
  await metrics.load();
  await Promise.all([metrics.render(), metrics.render()]);
  t.is(collections, 1);
  await metrics.render();
  t.is(collections, 2);
});

test('nothing is counted after close', async (t) => {
  const metrics = new Metrics({ version: '1', observe: async () => nothing });
  metrics.close();
  metrics.callEnded(call);
  await metrics.load();
  t.is(lineOf((await metrics.render()).body, 'loopcsi_calls_total{'), undefined);
  metrics.close();
});

test('docs/monitoring.md has a row for every metric of the project', async (t) => {
  const root = join(import.meta.dirname, '..', '..', '..', '..');
  const docs = await readFile(join(root, 'docs', 'monitoring.md'), 'utf8');
  for (const name of metricNames) {
    const form = name.startsWith('loopcsi_') ? `| \`${name}\` |` : `\`${name}\``;
    t.true(docs.includes(form), name);
  }
});
