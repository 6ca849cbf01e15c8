import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { Metrics, metricNames, type Observed } from '../../../src/observe/metrics.ts';

const nothing: Observed = { pools: [], stuckLanes: 0, runningOperations: 0 };
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
    pools: [
      {
        name: 'a',
        isServed: true,
        bytes: { total: 7n },
        freeInodes: 5n,
        frozenVolumes: 3,
        trims: { runs: { done: 2, failed: 1 }, bytes: 4096n },
        volumes: { xfs: 2 },
        images: [{ volumeId: 'v', sizeBytes: 5n, allocatedBytes: 3n }],
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
  observed = {
    ...nothing,
    pools: [
      {
        name: 'a',
        isServed: false,
        bytes: {},
        freeInodes: undefined,
        frozenVolumes: 0,
        trims: { runs: { done: 2, failed: 1 }, bytes: 4096n },
        volumes: {},
        images: [],
      },
    ],
  };
  const second = (await metrics.render()).body;
  t.is(lineOf(second, 'loopcsi_pool_bytes'), undefined);
  t.is(lineOf(second, 'loopcsi_volume_bytes'), undefined);
  t.is(lineOf(second, 'loopcsi_pool_free_inodes'), undefined);
  t.is(lineOf(second, 'loopcsi_pool_served'), 'loopcsi_pool_served{pool="a"} 0');
  t.is(lineOf(second, 'loopcsi_trim_runs_total{pool="a",result="done"'), done);
  t.is(lineOf(second, 'loopcsi_stuck_owners'), 'loopcsi_stuck_owners 0');
});

test('exactly the listed metrics exist', async (t) => {
  const metrics = new Metrics({ version: '1', observe: async () => nothing });
  t.teardown(() => {
    metrics.close();
  });
  const { body } = await metrics.render();
  const found = [...body.matchAll(/^# TYPE (\S+) /gm)].map((match) => match[1] ?? '');
  t.deepEqual(found.sort(), [...metricNames].sort());
});

test('nothing is counted after close', async (t) => {
  const metrics = new Metrics({ version: '1', observe: async () => nothing });
  metrics.close();
  metrics.callEnded(call);
  await metrics.load();
  t.is(lineOf((await metrics.render()).body, 'loopcsi_calls_total{'), undefined);
  metrics.close();
});

test('docs/operations.md lists every metric', async (t) => {
  const root = join(import.meta.dirname, '..', '..', '..', '..');
  const docs = await readFile(join(root, 'docs', 'operations.md'), 'utf8');
  for (const name of metricNames) t.true(docs.includes(`| \`${name}\` |`), name);
});
