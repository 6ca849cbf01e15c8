import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import * as v from 'valibot';
import { parse } from 'yaml';
import { queryableLabels } from '../../helpers/metric-names.ts';
import { queriedLabels, queriedMetrics } from '../../helpers/promql.ts';

const root = join(import.meta.dirname, '..', '..', '..', '..');
const rule = v.strictObject({
  alert: v.pipe(v.string(), v.regex(/^Loopcsi[A-Z][A-Za-z]+$/)),
  expr: v.string(),
  for: v.optional(v.string()),
  labels: v.strictObject({ severity: v.picklist(['info', 'warning', 'critical']) }),
  annotations: v.strictObject({ summary: v.string(), description: v.string() }),
});
const schema = v.object({
  groups: v.array(v.strictObject({ name: v.string(), rules: v.array(rule) })),
});
const text = await readFile(join(root, 'charts/loopcsi/files/alerts.yaml'), 'utf8');
const rules = v.parse(schema, parse(text)).groups.flatMap((group) => group.rules);

/** Labels of a target. */
const targetLabels = ['job', 'instance', 'node'];

for (const { alert, expr, annotations } of rules) {
  test(`${alert}: metrics and labels exist`, (t) => {
    const metrics = queriedMetrics(expr);
    t.true(metrics.length > 0);
    for (const name of metrics) t.true(name === 'up' || queryableLabels.has(name), name);
    const labels = metrics.flatMap((name) => [...(queryableLabels.get(name) ?? [])]);
    const inText = [...annotations.description.matchAll(/\$labels\.(\w+)/g)].map(
      ([, name]) => name,
    );
    for (const label of [...queriedLabels(expr), ...inText]) {
      t.true([...labels, ...targetLabels].includes(label ?? ''), label);
    }
  });
}

test('docs/runbooks.md has a section for each alert, in the same order, and no other', async (t) => {
  const page = await readFile(join(root, 'docs/runbooks.md'), 'utf8');
  const sections = [...page.matchAll(/^## (.*)$/gm)].map(([, name]) => name);
  t.deepEqual(
    sections,
    rules.map(({ alert }) => alert),
  );
  for (const section of page.split(/^## /m).slice(1)) {
    t.regex(section, /\*\*Meaning\.\*\*[^]*\*\*What to do\.\*\*/);
  }
});
