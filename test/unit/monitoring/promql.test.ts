import test from 'ava';
import { queriedLabels, queriedMetrics } from '../../helpers/promql.ts';

const expr =
  'sum without (code) (rate(loopcsi_calls_total{code=~"A|B", rpc!="x"}[5m])) / on (job, instance) group_left (claim) histogram_quantile(0.9, sum by (le) (loopcsi_x_seconds_bucket)) and up';

test('metrics and labels are found in expressions', (t) => {
  t.deepEqual(queriedMetrics(expr), ['loopcsi_calls_total', 'loopcsi_x_seconds', 'up']);
  t.deepEqual(queriedLabels(expr), ['code', 'rpc', 'code', 'job', 'instance', 'claim']);
});
