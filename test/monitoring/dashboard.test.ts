/** Runs every query of the dashboard, with Prometheus' engine, on what the /metrics of a real driver showed. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { execa } from 'execa';
import { dashboardQueries } from '../helpers/dashboard.ts';
import { MonitoredNode } from './monitored-node.ts';
import { testRules } from './promtool.ts';
import { durationOf, inputSeries } from './timeline.ts';

const onNode = process.getuid?.() === 0 ? test : test.skip;
if (process.getuid?.() !== 0) test('skipped: loop devices and mounts need root', (t) => t.pass());

/** Queries that return nothing on this node, since no kernel call hangs. */
const isEmpty = (expr: string): boolean => expr.includes('loopcsi_stuck_owners');

onNode('every query of the dashboard returns series of a real driver', async (t) => {
  const node = await MonitoredNode.start(t);
  const parameters = {
    'csi.storage.k8s.io/pvc/name': 'data',
    'csi.storage.k8s.io/pvc/namespace': 'shop',
    'csi.storage.k8s.io/pv/name': 'pvc-1',
  };
  const short = await node.volume('short', 'disk', 32, parameters);
  const data = await node.volume('data', 'disk', 32, parameters);
  await node.stop();
  await execa('truncate', ['--size', '16M', join(node.entryOf('disk', short), 'disk.img')]);
  await node.start();
  const path = node.pathOf('staging-data');
  await node.makeAndStage(data, path);
  await node.controller.CreateSnapshot({
    name: 'snap',
    source_volume_id: data,
    parameters: { freeze: 'yes' },
  });
  await node.controller.ListVolumes({});
  const first = await node.scrapeUntil(/^loopcsi_unhealthy_volumes\{/m);
  await node.controller.ListVolumes({});
  await writeFile(join(path, 'file'), Buffer.alloc(4 * 1024 * 1024, 1), { flush: true });
  await execa('dd', [`if=${join(path, 'file')}`, 'of=/dev/null', 'bs=1M', 'iflag=direct']);
  const timeline = [
    { text: first, minutes: 10 },
    { text: await node.scrape(), minutes: 5 },
  ];
  const queries = dashboardQueries({
    node: '.*',
    pool: '.*',
    namespace: 'shop',
    __rate_interval: '10m',
  });
  t.true(queries.length > 30);
  await t.notThrowsAsync(
    testRules([
      {
        name: 'dashboard',
        interval: '1m',
        input_series: inputSeries(timeline, () => true),
        promql_expr_test: queries.map((expr) => ({
          expr: `count(${expr}) > bool 0 or vector(0)`,
          eval_time: `${durationOf(timeline) - 1}m`,
          exp_samples: [{ labels: '{}', value: isEmpty(expr) ? 0 : 1 }],
        })),
      },
    ]),
  );
});
