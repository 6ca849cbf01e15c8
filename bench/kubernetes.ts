/**
 * `npm run bench:kubernetes [-- --shape daemonset|controller]` installs the chart in a real cluster and compares the start of pods that
 * use a volume with the start of pods that use an emptyDir, in both shapes of the chart one after the other, or in one. Prints tables for
 * docs/benchmarks.md. test/e2e/run.ts runs this file in the cluster's network namespace.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { api, firstNode } from '../test/e2e/kube/scenario.ts';
import { changeShape } from '../test/e2e/kube/shape.ts';
import { asMarkdown, median, percentile, residentMiB } from './measure.ts';
import { deletePod, namespace, type PodTimes, startPod } from './pods.ts';

/** Pods of each kind; fewer only to try this program. */
const rounds = Number(process.env['LOOPCSI_BENCH_PODS'] ?? 50);
const atOnceRounds = 3;

async function runInTurn(kind: string, withVolume: boolean): Promise<readonly PodTimes[]> {
  const times: PodTimes[] = [];
  for (let round = 0; round < rounds; round += 1) {
    const name = `${kind}-${round}`;
    times.push(await startPod(name, withVolume));
    await deletePod(name, withVolume);
  }
  return times;
}

async function runAtOnce(kind: string, withVolume: boolean): Promise<readonly PodTimes[]> {
  const names = Array.from({ length: rounds }, (_, index) => `${kind}-${index}`);
  const times = await Promise.all(names.map(async (name) => startPod(name, withVolume)));
  await Promise.all(names.map(async (name) => deletePod(name, withVolume)));
  return times;
}

function row(name: string, values: readonly number[]): readonly string[] {
  const cells = [percentile(values, 50), percentile(values, 99)];
  return [name, ...cells.map((value) => value.toFixed(value < 10 ? 1 : 0))];
}

/** Durations of successful calls of an RPC since a point in time, from the driver's log. */
async function readDriverDurations(rpc: string, since: string): Promise<number[]> {
  const root = join(firstNode.layout.logs, 'pods');
  const durations: number[] = [];
  for (const path of await readdir(root, { recursive: true })) {
    if (!path.includes('/driver/') || !path.endsWith('.log')) continue;
    for (const line of (await readFile(join(root, path), 'utf8')).split('\n')) {
      if (!line.includes(`"rpc":"${rpc}"`) || !line.includes('"code":"OK"') || line < since)
        continue;
      durations.push(Number(/"durationMs":([\d.]+)/.exec(line)?.[1]));
    }
  }
  return durations;
}

/** Number of requests to the API server, except those of this program. */
async function countRequests(): Promise<number> {
  const metrics = String(await api.call('GET', '/metrics'));
  const counts = metrics.matchAll(/^apiserver_request_total\{[^}]*\} (\S+)$/gm);
  const all = [...counts].reduce((sum, [, count]) => sum + Number(count), 0);
  return all - api.sentCount;
}

/** Requests per second while no pods are created or deleted. */
async function idleRequestRate(): Promise<number> {
  const before = await countRequests();
  await delay(20_000);
  return ((await countRequests()) - before) / 20;
}

/** Resident memory of the processes of the release in MiB, by name, those of the snapshot-controller excepted. */
async function measureMemory(): Promise<ReadonlyMap<string, number>> {
  const memory = new Map<string, number>();
  for (const pid of await firstNode.podProcesses()) {
    const command = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0');
    const [, mode] = /\/main\.js (serve|controller)\b/.exec(command.join(' ')) ?? [];
    const program = (command[0] ?? '').replace(/^.*\//, '');
    const name = mode === undefined ? program : mode === 'serve' ? 'driver' : mode;
    if (!/^(?:driver|controller|csi-[\w-]+)$/.test(name)) continue;
    memory.set(name, await residentMiB(pid).catch(() => Number.NaN));
  }
  return memory;
}

/** Runs `work` and counts the requests that it causes per pod, above the idle rate. */
async function countRequestsPerPod<T>(idleRate: number, work: () => Promise<T>) {
  const [before, startedAt] = [await countRequests(), performance.now()];
  const result = await work();
  const seconds = (performance.now() - startedAt) / 1000;
  const requests = ((await countRequests()) - before - idleRate * seconds) / rounds;
  return { result, requests };
}

const driverCalls = [
  'CreateVolume',
  'NodeStageVolume',
  'NodePublishVolume',
  'NodeUnpublishVolume',
  'NodeUnstageVolume',
  'DeleteVolume',
] as const;

const shapes = { daemonset: 'sidecars on each node', controller: 'controller' } as const;
type Shape = keyof typeof shapes;

/** What was measured in one shape. */
interface Measured {
  readonly shape: Shape;
  readonly inTurn: readonly (readonly string[])[];
  readonly atOnce: readonly (readonly string[])[];
  readonly requests: { readonly empty: number; readonly volume: number };
  readonly idleRate: number;
  readonly idleMemory: ReadonlyMap<string, number>;
  readonly loadedMemory: ReadonlyMap<string, number>;
}

async function benchInTurn(idleRate: number): Promise<Pick<Measured, 'inTurn' | 'requests'>> {
  const since = new Date().toISOString();
  const empty = await countRequestsPerPod(idleRate, async () => runInTurn('empty', false));
  const volume = await countRequestsPerPod(idleRate, async () => runInTurn('volume', true));
  const [emptyTimes, volumeTimes] = [empty.result, volume.result];
  const inTurn = [
    row(
      'emptyDir: created to ready',
      emptyTimes.map(({ readyMs }) => readyMs),
    ),
    row(
      'volume: created to ready',
      volumeTimes.map(({ readyMs }) => readyMs),
    ),
    row(
      'volume: created to claim bound (provisioning)',
      volumeTimes.map(({ boundMs }) => boundMs),
    ),
    row(
      'volume: claim bound to pod scheduled',
      volumeTimes.map(({ scheduledMs, boundMs }) => scheduledMs - boundMs),
    ),
    row(
      'volume: scheduled to ready (staging, publishing, container start)',
      volumeTimes.map(({ readyMs, scheduledMs }) => readyMs - scheduledMs),
    ),
    row(
      'emptyDir: scheduled to ready',
      emptyTimes.map(({ readyMs, scheduledMs }) => readyMs - scheduledMs),
    ),
  ];
  for (const rpc of driverCalls) {
    inTurn.push(row(`driver: ${rpc}`, await readDriverDurations(rpc, since)));
  }
  return { inTurn, requests: { empty: empty.requests, volume: volume.requests } };
}

/** Pods with an emptyDir and pods with a volume take turns, so that a change of the machine's load affects both. */
async function benchAtOnce(): Promise<readonly (readonly string[])[]> {
  const times = new Map<string, number[]>();
  const ratios: number[] = [];
  const run = async (name: string, round: number, withVolume: boolean): Promise<number> => {
    const kind = `many-${withVolume ? 'volume' : 'empty'}-${round}`;
    const readyMs = (await runAtOnce(kind, withVolume)).map((one) => one.readyMs);
    times.set(name, [...(times.get(name) ?? []), ...readyMs]);
    return percentile(readyMs, 50);
  };
  for (let round = 0; round < atOnceRounds; round += 1) {
    const empty = await run('emptyDir: created to ready', round, false);
    ratios.push((await run('volume: created to ready', round, true)) / empty);
  }
  const rows = [...times].map(([name, values]) => row(name, values));
  return [...rows, ['ratio of the medians, in the median round', median(ratios).toFixed(2), '']];
}

async function benchShape(shape: Shape): Promise<Measured> {
  await changeShape(shape === 'controller');
  // The kubelet gives a new certificate to the driver only after a minute or more. Until then, nothing is provisioned.
  await startPod(`first-${shape}`, true);
  await deletePod(`first-${shape}`, true);
  const idleRate = await idleRequestRate();
  const idleMemory = await measureMemory();
  const inTurn = await benchInTurn(idleRate);
  const atOnce = await benchAtOnce();
  return { shape, ...inTurn, atOnce, idleRate, idleMemory, loadedMemory: await measureMemory() };
}

/** A table with two columns for each shape. */
function compare(
  title: string,
  measured: readonly Measured[],
  options: {
    readonly columns: readonly string[];
    readonly rowsOf: (one: Measured) => readonly (readonly string[])[];
  },
): string {
  const { columns, rowsOf } = options;
  const head = measured.flatMap(({ shape }) => columns.map((name) => `${shapes[shape]}, ${name}`));
  const names = [...new Set(measured.flatMap((one) => rowsOf(one).map(([name]) => name ?? '')))];
  const rows = names.map((name) => [
    name,
    ...measured.flatMap((one) => {
      const cells = rowsOf(one).find(([first]) => first === name);
      return columns.map((_, index) => cells?.[index + 1] ?? '');
    }),
  ]);
  return asMarkdown([title, ...head], rows);
}

/** Whether a process is in the pod of the controller; in the other shape all are in the pod of the node. */
function isCentral({ shape }: Measured, name: string): boolean {
  return shape === 'controller' && name !== 'driver';
}

function memoryRows(one: Measured): readonly (readonly string[])[] {
  const sum = (memory: ReadonlyMap<string, number>, central: boolean): string => {
    const parts = [...memory].filter(([name]) => isCentral(one, name) === central);
    return parts.reduce((total, [, MiB]) => total + MiB, 0).toFixed(0);
  };
  const { idleMemory, loadedMemory } = one;
  const each = [...idleMemory]
    .sort(([a], [b]) => a.localeCompare(b))
    .map(([name, idleMiB]) => [
      `${name}${isCentral(one, name) ? ' (once)' : ''}`,
      idleMiB.toFixed(0),
      (loadedMemory.get(name) ?? Number.NaN).toFixed(0),
    ]);
  return [
    ['sum on each node (goal: 110)', sum(idleMemory, false), sum(loadedMemory, false)],
    ['sum of the controller, once in the cluster', sum(idleMemory, true), sum(loadedMemory, true)],
    ...each,
  ];
}

function report(measured: readonly Measured[]): string {
  const times = ['p50', 'p99'];
  return [
    compare(`${rounds} pods, one at a time, in milliseconds`, measured, {
      columns: times,
      rowsOf: ({ inTurn }) => inTurn,
    }),
    compare(`${rounds} pods at once, in milliseconds (goal: ratio 1.15)`, measured, {
      columns: times,
      rowsOf: ({ atOnce }) => atOnce,
    }),
    compare('API requests', measured, {
      columns: ['number'],
      rowsOf: ({ requests, idleRate: perSecond }) => [
        ['to create and delete a pod with an emptyDir', requests.empty.toFixed(0)],
        ['to create and delete a pod with a claim and its volume', requests.volume.toFixed(0)],
        ['each second when nothing happens, in the whole cluster', perSecond.toFixed(1)],
      ],
    }),
    compare('resident memory, MiB', measured, {
      columns: ['idle', 'after the measurements'],
      rowsOf: memoryRows,
    }),
  ].join('\n\n');
}

const flag = process.argv.indexOf('--shape');
const only = flag < 0 ? undefined : process.argv[flag + 1];
const chosen = (Object.keys(shapes) as readonly Shape[]).filter(
  (shape) => only === undefined || shape === only,
);
await api.create('Namespace', '', { metadata: { name: namespace } });
const measured: Measured[] = [];
for (const shape of chosen) {
  measured.push(await benchShape(shape));
  // Printed again after each shape, so that a failure of the next one loses nothing.
  console.log(`\n${report(measured)}\n`);
}
await api.delete('Namespace', '', namespace);
