/**
 * What a volume costs in a real cluster, next to the same pod with an emptyDir: `npm run bench:kubernetes`, which installs
 * the chart first. Prints a table for docs/benchmarks.md. Runs in the cluster's network namespace (test/e2e/run.ts).
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { podProcesses } from '../test/e2e/cluster/machine.ts';
import { textAt } from '../test/e2e/kube/api.ts';
import { claim, type PodOptions, pod } from '../test/e2e/kube/objects.ts';
import { api, isReady, layout } from '../test/e2e/kube/scenario.ts';

const rounds = 50;
const namespace = 'bench';

interface Timed {
  readonly scheduledMs: number;
  readonly boundMs: number;
  readonly readyMs: number;
}

const none: PodOptions = { volumes: { '/data': { emptyDir: {} } } };

/** From the creation of pod and claim to a ready container; looked at every 10 ms, since the API's own times are whole seconds. */
async function start(name: string, withVolume: boolean): Promise<Timed> {
  const startedAt = performance.now();
  if (withVolume)
    await api.create('PersistentVolumeClaim', namespace, claim(name, { size: '64Mi' }));
  await api.create('Pod', namespace, pod(name, withVolume ? { claims: { '/data': name } } : none));
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
    await new Promise((resolve) => {
      setTimeout(resolve, 10);
    });
  }
}

async function end(name: string, withVolume: boolean): Promise<void> {
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

async function inTurn(kind: string, withVolume: boolean): Promise<Timed[]> {
  const times: Timed[] = [];
  for (let round = 0; round < rounds; round += 1) {
    const name = `${kind}-${round}`;
    times.push(await start(name, withVolume));
    await end(name, withVolume);
  }
  return times;
}

async function atOnce(kind: string, withVolume: boolean): Promise<Timed[]> {
  const names = Array.from({ length: rounds }, (_, index) => `${kind}-${index}`);
  const times = await Promise.all(names.map(async (name) => start(name, withVolume)));
  await Promise.all(names.map(async (name) => end(name, withVolume)));
  return times;
}

function percentile(values: readonly number[], share: number): string {
  const sorted = values.toSorted((a, b) => a - b);
  const value = sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? 0;
  return value < 10 ? value.toFixed(1) : value.toFixed(0);
}

function row(what: string, values: readonly number[]): string {
  return `| ${what} | ${percentile(values, 0.5)} | ${percentile(values, 0.99)} |`;
}

/** How long the driver's own calls took, from its log. */
async function driverDurations(rpc: string, since: string): Promise<number[]> {
  const root = join(layout.logs, 'pods');
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

/** By others than this program. */
async function requestsServed(): Promise<number> {
  const metrics = String(await api.call('GET', '/metrics'));
  const counts = metrics.matchAll(/^apiserver_request_total\{[^}]*\} (\S+)$/gm);
  const all = [...counts].reduce((sum, [, count]) => sum + Number(count), 0);
  return all - api.sentCount;
}

/** Requests a second while nobody asks for anything. */
async function idleRate(): Promise<number> {
  const before = await requestsServed();
  await new Promise((resolve) => {
    setTimeout(resolve, 20_000);
  });
  return ((await requestsServed()) - before) / 20;
}

async function memory(): Promise<string[]> {
  const lines: string[] = [];
  for (const pid of await podProcesses(layout)) {
    const command = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0');
    const name = command.join(' ').includes('main.js serve')
      ? 'driver'
      : (command[0] ?? '').slice(1);
    if (!/^(?:driver|csi-\w+)$/.test(name)) continue;
    const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
    const kib = Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? 0);
    lines.push(`| ${name} | ${Math.round(kib / 1024)} |`);
  }
  return lines.sort();
}

await api.create('Namespace', '', { metadata: { name: namespace } });
await new Promise((resolve) => {
  setTimeout(resolve, 3_000);
});
const idle = await idleRate();
const rested = await memory();

async function counted<T>(work: () => Promise<T>): Promise<{ result: T; requests: number }> {
  const [before, startedAt] = [await requestsServed(), performance.now()];
  const result = await work();
  const seconds = (performance.now() - startedAt) / 1000;
  return { result, requests: ((await requestsServed()) - before - idle * seconds) / rounds };
}

const since = new Date().toISOString();
const empty = await counted(async () => inTurn('empty', false));
const volume = await counted(async () => inTurn('volume', true));
const calls = await Promise.all(
  [
    'CreateVolume',
    'NodeStageVolume',
    'NodePublishVolume',
    'NodeUnpublishVolume',
    'NodeUnstageVolume',
    'DeleteVolume',
  ].map(async (rpc) => [rpc, await driverDurations(rpc, since)] as const),
);
const manyEmpty = await atOnce('many-empty', false);
const manyVolume = await atOnce('many', true);
const worked = await memory();

console.log(`
| ${rounds} pods, one after the other (ms) | p50 | p99 |
|---|---|---|
${row(
  'emptyDir: created to ready',
  empty.result.map((one) => one.readyMs),
)}
${row(
  'volume: created to ready',
  volume.result.map((one) => one.readyMs),
)}
${row(
  'of that, until the claim is bound (provisioning)',
  volume.result.map((one) => one.boundMs),
)}
${row(
  'of that, until the pod has its node (scheduling, after provisioning)',
  volume.result.map((one) => one.scheduledMs - one.boundMs),
)}
${row(
  'of that, from node to ready (staging, publishing, container)',
  volume.result.map((one) => one.readyMs - one.scheduledMs),
)}
${row(
  'the same for emptyDir',
  empty.result.map((one) => one.readyMs - one.scheduledMs),
)}
${calls.map(([rpc, durations]) => row(`driver: ${rpc}`, durations)).join('\n')}

| ${rounds} pods at once (ms) | p50 | p99 |
|---|---|---|
${row(
  'emptyDir: created to ready',
  manyEmpty.map((one) => one.readyMs),
)}
${row(
  'volume: created to ready',
  manyVolume.map((one) => one.readyMs),
)}

| API requests for one | |
|---|---|
| pod with emptyDir, made and deleted | ${empty.requests.toFixed(0)} |
| pod and claim with volume, made and deleted | ${volume.requests.toFixed(0)} |

| Memory, MiB resident | at rest |
|---|---|
${rested.join('\n')}

| Memory, MiB resident | after the above |
|---|---|
${worked.join('\n')}
`);
await api.delete('Namespace', '', namespace);
