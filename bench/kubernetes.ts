/**
 * `npm run bench:kubernetes` installs the chart in a real cluster and compares the start of pods that use a volume with the start of
 * pods that use an emptyDir. Prints tables for docs/benchmarks.md. test/e2e/run.ts runs this file in the cluster's network namespace.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { textAt } from '../test/e2e/kube/api.ts';
import { claim, type PodOptions, pod } from '../test/e2e/kube/objects.ts';
import { api, firstNode, isReady } from '../test/e2e/kube/scenario.ts';
import { asMarkdown, percentile, residentMiB } from './measure.ts';

const rounds = 50;
const namespace = 'bench';

/** Milliseconds since the pod and its claim were created. */
interface PodTimes {
  readonly scheduledMs: number;
  readonly boundMs: number;
  readonly readyMs: number;
}

const emptyDirPod: PodOptions = { volumes: { '/data': { emptyDir: {} } } };

/** Creates a pod and polls every 10 ms until it is ready, because timestamps in the API have a resolution of one second. */
async function startPod(name: string, withVolume: boolean): Promise<PodTimes> {
  const startedAt = performance.now();
  if (withVolume)
    await api.create('PersistentVolumeClaim', namespace, claim(name, { size: '64Mi' }));
  const options = withVolume ? { claims: { '/data': name } } : emptyDirPod;
  await api.create('Pod', namespace, pod(name, options));
  let scheduledMs = 0;
  let boundMs = 0;
  for (;;) {
    const found = await api.find('Pod', namespace, name);
    const elapsed = performance.now() - startedAt;
    if (scheduledMs === 0 && textAt(found, 'spec.nodeName') !== undefined) scheduledMs = elapsed;
    if (withVolume && boundMs === 0) {
      const bound = await api.find('PersistentVolumeClaim', namespace, name);
      if (textAt(bound, 'status.phase') === 'Bound') boundMs = performance.now() - startedAt;
    }
    if (found !== undefined && isReady(found)) return { scheduledMs, boundMs, readyMs: elapsed };
    if (elapsed > 300_000) throw new Error(`${name} is not ready after ${Math.round(elapsed)} ms`);
    await delay(10);
  }
}

async function deletePod(name: string, withVolume: boolean): Promise<void> {
  const volume = textAt(
    await api.find('PersistentVolumeClaim', namespace, name),
    'spec.volumeName',
  );
  await api.delete('Pod', namespace, name, { gracePeriodSeconds: 0 });
  await api.untilGone('Pod', namespace, name);
  if (!withVolume) return;
  await api.delete('PersistentVolumeClaim', namespace, name);
  await api.untilGone('PersistentVolume', '', volume ?? '');
}

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

/** Resident memory of the driver and its sidecars in MiB, by name. */
async function measureMemory(): Promise<ReadonlyMap<string, number>> {
  const memory = new Map<string, number>();
  for (const pid of await firstNode.podProcesses()) {
    const command = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0');
    const name = command.join(' ').includes('main.js serve')
      ? 'driver'
      : (command[0] ?? '').slice(1);
    if (!/^(?:driver|csi-\w+)$/.test(name)) continue;
    memory.set(name, await residentMiB(pid).catch(() => Number.NaN));
  }
  return new Map([...memory].sort(([a], [b]) => a.localeCompare(b)));
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

async function benchInTurn(idleRate: number): Promise<string> {
  const since = new Date().toISOString();
  const empty = await countRequestsPerPod(idleRate, async () => runInTurn('empty', false));
  const volume = await countRequestsPerPod(idleRate, async () => runInTurn('volume', true));
  const [emptyTimes, volumeTimes] = [empty.result, volume.result];
  const rows = [
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
    rows.push(row(`driver: ${rpc}`, await readDriverDurations(rpc, since)));
  }
  const times = asMarkdown([`${rounds} pods, one at a time, in milliseconds`, 'p50', 'p99'], rows);
  const requests = asMarkdown(
    ['API requests to create and delete one pod', ''],
    [
      ['with emptyDir', empty.requests.toFixed(0)],
      ['with a claim and its volume', volume.requests.toFixed(0)],
    ],
  );
  return `${times}\n\n${requests}`;
}

async function benchAtOnce(): Promise<string> {
  const empty = await runAtOnce('many-empty', false);
  const volume = await runAtOnce('many', true);
  return asMarkdown(
    [`${rounds} pods at once, in milliseconds`, 'p50', 'p99'],
    [
      row(
        'emptyDir: created to ready',
        empty.map(({ readyMs }) => readyMs),
      ),
      row(
        'volume: created to ready',
        volume.map(({ readyMs }) => readyMs),
      ),
    ],
  );
}

await api.create('Namespace', '', { metadata: { name: namespace } });
await delay(3_000);
const idleRate = await idleRequestRate();
const idleMemory = await measureMemory();
console.log(`\n${await benchInTurn(idleRate)}\n\n${await benchAtOnce()}\n`);
const loadedMemory = await measureMemory();
console.log(
  asMarkdown(
    ["resident memory of a node's containers, MiB", 'idle', 'after the measurements'],
    [...idleMemory].map(([name, idleMiB]) => {
      const loadedMiB = loadedMemory.get(name) ?? Number.NaN;
      return [name, idleMiB.toFixed(0), loadedMiB.toFixed(0)];
    }),
  ),
);
await api.delete('Namespace', '', namespace);
