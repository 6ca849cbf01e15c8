import test from 'ava';
import { dashboard, dashboardQueries } from '../../helpers/dashboard.ts';
import { queryableLabels } from '../../helpers/metric-names.ts';
import { queriedLabels, queriedMetrics } from '../../helpers/promql.ts';

const targetLabels = ['job', 'instance', 'node'];

test('metrics and labels of the queries exist', (t) => {
  const queries = dashboardQueries({
    node: '.*',
    pool: '.*',
    namespace: '.*',
    __rate_interval: '5m',
  });
  t.true(queries.length > 0);
  for (const expr of queries) {
    t.notRegex(expr, /\$/, 'every variable is defined');
    const metrics = queriedMetrics(expr);
    t.true(metrics.length > 0, expr);
    for (const name of metrics) t.true(queryableLabels.has(name), name);
    const labels = metrics.flatMap((name) => [...(queryableLabels.get(name) ?? [])]);
    for (const label of queriedLabels(expr)) {
      t.true([...labels, ...targetLabels].includes(label), `${label} in ${expr}`);
    }
  }
});

test('variables are taken from metrics and labels that exist', (t) => {
  const definitions = dashboard.templating.list.flatMap(({ query }) =>
    typeof query === 'object' ? [JSON.stringify(query)] : [],
  );
  t.is(definitions.length, 3);
  for (const definition of definitions) {
    const [, metric = '', label = ''] = /label_values\((\w+), (\w+)\)/.exec(definition) ?? [];
    t.true(queryableLabels.has(metric), metric);
    t.true(label === 'node' || queryableLabels.get(metric)?.has(label), label);
  }
});

test('panels have ids of their own and do not overlap', (t) => {
  const { panels } = dashboard;
  t.is(new Set(panels.map(({ id }) => id)).size, panels.length);
  const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) => {
    t.true(x + w <= 24);
    return Array.from({ length: w * h }, (_, i) => `${x + (i % w)} ${y + Math.floor(i / w)}`);
  });
  t.is(new Set(cells).size, cells.length);
});
