import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as v from 'valibot';

const root = join(import.meta.dirname, '..', '..', '..');

const panel = v.looseObject({
  id: v.number(),
  type: v.picklist(['row', 'stat', 'table', 'timeseries']),
  title: v.pipe(v.string(), v.minLength(1)),
  gridPos: v.object({ x: v.number(), y: v.number(), w: v.number(), h: v.number() }),
  targets: v.optional(v.array(v.looseObject({ refId: v.string(), expr: v.string() })), []),
});

export const dashboard = v.parse(
  v.looseObject({
    title: v.string(),
    uid: v.string(),
    templating: v.object({
      list: v.array(v.looseObject({ name: v.string(), query: v.unknown() })),
    }),
    panels: v.array(panel),
  }),
  JSON.parse(readFileSync(join(root, 'charts', 'loopcsi', 'files', 'dashboard.json'), 'utf8')),
);

/** All queries of the panels, with values for the dashboard's variables. */
export function dashboardQueries(variables: Readonly<Record<string, string>>): readonly string[] {
  return dashboard.panels
    .flatMap(({ targets }) => targets.map(({ expr }) => expr))
    .map((expr) => expr.replace(/\$(\w+)/g, (_, name: string) => variables[name] ?? `$${name}`));
}
