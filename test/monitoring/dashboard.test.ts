/**
 * Runs a real Prometheus, which scrapes a real driver in use, and asks it every query of the dashboard as Grafana would. The same
 * Prometheus evaluates the alerts. No Grafana is run: no package here has it.
 */
import { unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { execa } from 'execa';
import { dashboard } from '../helpers/dashboard.ts';
import { until } from '../helpers/until.ts';
import { MonitoredController } from './monitored-controller.ts';
import { MonitoredNode } from './monitored-node.ts';
import { Prometheus, scrapeSeconds } from './prometheus.ts';
import { alertNames } from './promtool.ts';

const onNode = process.getuid?.() === 0 ? test : test.skip;
if (process.getuid?.() !== 0) test('skipped: loop devices and mounts need root', (t) => t.pass());

/** Queries without data on this node, and why. */
const emptyQueries: Readonly<Record<string, string>> = {
  'sum by (node) (loopcsi_stuck_owners{node=~"$node"}) > 0': 'no kernel call hangs',
};

/** Panels whose values must be greater than 0, since the node is in use. */
const movingPanels = [
  'Read and written bytes',
  'Requests',
  'Latency',
  'Busy',
  'Calls',
  'Duration of calls',
  'Freezes',
  'Trimmed bytes',
  'Used space of volumes',
  'Unhealthy volumes',
  'Unhealthy volumes by claim',
];

const stepSeconds = 2;
/** Grafana's definition of $__rate_interval. */
const rateSeconds = Math.max(stepSeconds + scrapeSeconds, 4 * scrapeSeconds);

const claim = {
  'csi.storage.k8s.io/pvc/name': 'data',
  'csi.storage.k8s.io/pvc/namespace': 'shop',
  'csi.storage.k8s.io/pv/name': 'pvc-1',
};

interface Query {
  readonly panel: string;
  readonly template: string;
  readonly isInstant: boolean;
}

const queries: readonly Query[] = dashboard.panels.flatMap(({ title: panel, targets }) =>
  targets.map((target) => ({
    panel,
    template: target.expr,
    isInstant: target['instant'] === true,
  })),
);

/** Replaces the variables of the dashboard; `$__rate_interval` is always set. Throws an Error for an unknown one. */
function substitute(template: string, variables: Readonly<Record<string, string>>): string {
  const all: typeof variables = { ...variables, __rate_interval: `${rateSeconds}s` };
  return template.replace(/\$(\w+)/g, (_, name: string) => {
    const value = all[name];
    if (value === undefined) throw new Error(`the dashboard has no variable ${name}: ${template}`);
    return value;
  });
}

/** Reads, writes, snapshots and trims the volume of a claim until the test ends. */
async function useNode(t: ExecutionContext, node: MonitoredNode): Promise<void> {
  const short = await node.volume('short', 'disk', 32, claim);
  const data = await node.volume('data', 'disk', 64, claim);
  await node.stop();
  // Unhealthy: its image is truncated.
  await execa('truncate', ['--size', '16M', join(node.entryOf('disk', short), 'disk.img')]);
  await node.start();
  const path = node.pathOf('staging-data');
  await node.makeAndStage(data, path);
  const use = async (round: number): Promise<void> => {
    const file = join(path, `file-${round % 2}`);
    await writeFile(file, Buffer.alloc(1024 * 1024, round), { flush: true });
    await execa('dd', [`if=${file}`, 'of=/dev/null', 'bs=64k', 'iflag=direct']);
    await node.controller.ListVolumes({});
    await unlink(file);
    if (round % 4 === 1) await node.trim(data);
    if (round % 4 === 3) {
      const parameters = { freeze: 'yes' };
      const request = { name: `snap-${round}`, source_volume_id: data, parameters };
      const { snapshot } = await node.controller.CreateSnapshot(request);
      if (round > 3) {
        await node.controller.DeleteSnapshot({ snapshot_id: snapshot?.snapshot_id ?? '' });
      }
    }
  };
  let isEnded = false;
  const using = (async () => {
    for (let round = 0; !isEnded; round += 1) {
      await use(round);
      await delay(200);
    }
  })();
  // A failure is the test's, not that of a promise that nobody awaits.
  using.catch((error: unknown) => t.log('the volume could not be used:', error));
  t.teardown(async () => {
    isEnded = true;
    await using;
  });
}

/** The queries that have no data yet, or no value above 0 although they should. */
async function withoutData(
  prometheus: Prometheus,
  variables: Readonly<Record<string, string>>,
): Promise<readonly string[]> {
  const missing: string[] = [];
  for (const { panel, template, isInstant } of queries) {
    const query = substitute(template, variables);
    const series = await prometheus.range(query, stepSeconds);
    const now = isInstant ? [...(await prometheus.instant(query))] : undefined;
    const hasData = [...series, ...(now === undefined ? [] : [now])].some((values) =>
      values.some((value) =>
        movingPanels.includes(panel) ? Number.isFinite(value) && value > 0 : Number.isFinite(value),
      ),
    );
    const isInstantEmpty = now !== undefined && now.length === 0;
    if (!hasData || isInstantEmpty) missing.push(template);
  }
  return missing;
}

onNode(
  'a real Prometheus answers every query of the dashboard and evaluates every alert',
  async (t) => {
    const node = await MonitoredNode.start(t);
    await useNode(t, node);
    const controller = await MonitoredController.start(t);
    await controller.call();
    const prometheus = await Prometheus.start(t, { driver: node.url, controller: controller.url });

    t.true(queries.length > 30);
    for (const panel of movingPanels)
      t.true(
        queries.some((one) => one.panel === panel),
        panel,
      );
    const expected = Object.keys(emptyQueries);
    const allValues: Record<string, string> = { node: '.*', pool: '.*', namespace: '.*' };
    let missing: readonly string[] = [];
    await until(
      'every panel that should have data has data',
      async () => {
        missing = await withoutData(prometheus, allValues);
        return (
          missing.every((template) => expected.includes(template)) || (await delay(500, false))
        );
      },
      120_000,
    ).catch((error: unknown) => {
      t.log(missing);
      throw error;
    });
    t.deepEqual(missing, expected, 'only these have none');

    // Grafana offers these values, and puts a chosen one into the queries.
    const chosen: Record<string, string> = {};
    for (const { name, definition } of dashboard.templating.list) {
      const [, metric, label] = /^label_values\((\w+), (\w+)\)$/.exec(String(definition)) ?? [];
      if (metric === undefined || label === undefined) continue;
      const [first] = await prometheus.labelValues(metric, label);
      t.truthy(first, name);
      chosen[name] = first ?? '';
    }
    t.deepEqual(chosen, { node: 'worker-1', pool: 'disk', namespace: 'shop' });
    t.deepEqual(await withoutData(prometheus, chosen), expected);

    await assertRules(t, prometheus);
  },
);

/** The alerts are those of the file, and all are evaluated; the damaged volume is reported, with its texts. */
async function assertRules(t: ExecutionContext, prometheus: Prometheus): Promise<void> {
  let rules = await prometheus.rules();
  const damaged = (): (typeof rules)[number] | undefined =>
    rules.find(({ name }) => name === 'LoopcsiVolumeDamaged');
  // An alert ends for a moment when a scrape takes longer than its interval.
  await until(
    'every alert has been evaluated, and the damaged volume is reported',
    async () => {
      rules = await prometheus.rules();
      const areEvaluated = rules.every(({ health }) => health !== 'unknown');
      return (areEvaluated && damaged()?.state !== 'inactive') || (await delay(500, false));
    },
    60_000,
  );
  t.deepEqual(
    rules.filter(({ health, lastError }) => health !== 'ok' || lastError !== ''),
    [],
  );
  t.deepEqual(rules.map(({ name }) => name).toSorted(), alertNames.toSorted());
  t.regex(damaged()?.state ?? '', /^(pending|firing)$/);
  for (const { annotations } of rules.flatMap(({ alerts }) => alerts)) {
    for (const text of Object.values(annotations)) t.notRegex(text, /error expanding|<no value>/);
  }
}
