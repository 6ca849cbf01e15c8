import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import * as v from 'valibot';
import { stringify } from 'yaml';
import { alertsFile, promtool } from '../monitoring/promtool.ts';
import { chart, render } from './helm.ts';

const rules = v.looseObject({
  spec: v.looseObject({
    groups: v.array(
      v.looseObject({
        rules: v.array(
          v.looseObject({ alert: v.string(), annotations: v.record(v.string(), v.string()) }),
        ),
      }),
    ),
  }),
});
const configMap = v.looseObject({ data: v.record(v.string(), v.string()) });

const find = async (kind: string, values: object) =>
  (await render(values)).filter((one) => one.kind === kind);

test('promtool accepts the alerts, in the file and as the chart renders them', async (t) => {
  const inFile = await promtool(['check', 'rules', '--lint=all', '--lint-fatal', alertsFile]);
  t.is(inFile.exitCode, 0, inFile.stdout + inFile.stderr);
  const [object] = await find('PrometheusRule', { prometheusRule: { enabled: true } });
  const { groups } = v.parse(rules, object).spec;
  const args = ['check', 'rules', '--lint=all', '--lint-fatal'];
  const rendered = await promtool(args, { input: stringify({ groups }) });
  t.is(rendered.exitCode, 0, rendered.stdout + rendered.stderr);
  const found = /SUCCESS: (\d+) rules found/;
  t.is(found.exec(rendered.stdout)?.[1], found.exec(inFile.stdout)?.[1]);
  for (const { alert, annotations } of groups.flatMap((group) => group.rules)) {
    const page = 'https://github.com/loopcsi/loopcsi/blob/main/docs/runbooks.md';
    t.is(annotations['runbook_url'], `${page}#${alert.toLowerCase()}`);
    t.truthy(annotations['summary']);
  }
});

test('the PrometheusRule has the labels of the operator, and none of the disabled alerts', async (t) => {
  const [object] = await find('PrometheusRule', {
    prometheusRule: {
      enabled: true,
      labels: { release: 'prometheus' },
      disabled: ['LoopcsiAbsent'],
      runbookUrl: 'https://wiki.example/alerts',
    },
  });
  t.is(object?.metadata.labels['release'], 'prometheus');
  const all = v.parse(rules, object).spec.groups.flatMap((group) => group.rules);
  t.false(all.some(({ alert }) => alert === 'LoopcsiAbsent'));
  t.true(all.length > 10);
  t.regex(all[0]?.annotations['runbook_url'] ?? '', /^https:\/\/wiki\.example\/alerts#loopcsi/);
});

test('the ConfigMap of the dashboard contains the file, with the label of the sidecar', async (t) => {
  const named = async (values: object) =>
    (await find('ConfigMap', { dashboard: { enabled: true, ...values } })).find(({ metadata }) =>
      metadata.name.endsWith('-dashboard'),
    );
  const object = await named({});
  t.is(object?.metadata.labels['grafana_dashboard'], '1');
  const file = await readFile(join(chart, 'files', 'dashboard.json'), 'utf8');
  t.deepEqual(JSON.parse(v.parse(configMap, object).data['loopcsi.json'] ?? ''), JSON.parse(file));
  const other = await named({ labels: { dashboards: 'yes' }, namespace: 'monitoring' });
  t.is(other?.metadata.labels['dashboards'], 'yes');
  t.is(other?.metadata.namespace, 'monitoring');
});

test('without these values, neither is created', async (t) => {
  const objects = await render({});
  t.deepEqual(
    objects.filter(
      ({ kind, metadata }) => kind === 'PrometheusRule' || metadata.name.endsWith('-dashboard'),
    ),
    [],
  );
});
