/**
 * `npm run bench:installs` installs the chart in a real cluster again and again, in both shapes in turn, and measures the time from `helm
 * install` to the first pod with a volume. The images are on the nodes already. Prints a table for docs/benchmarks.md. test/e2e/run.ts
 * runs this file in the cluster's network namespace.
 */

import { pollUntil } from '../src/async.ts';
import { chartPath, nodePods, release, systemNamespace } from '../test/e2e/kube/chart.ts';
import { api, helm } from '../test/e2e/kube/scenario.ts';
import { valuesOf } from '../test/e2e/kube/shape.ts';
import { asMarkdown, percentile } from './measure.ts';
import { deletePod, namespace, startPod } from './pods.ts';

const rounds = Number(process.env['LOOPCSI_BENCH_INSTALLS'] ?? 10);
const shapes = { 'sidecars on each node': false, controller: true } as const;
const inNamespace = ['--namespace', systemNamespace];
const goneMs = 120_000;

async function runHelm(args: readonly string[], input?: string): Promise<void> {
  const { exitCode, stdout, stderr } = await helm(args, input);
  if (exitCode !== 0) throw new Error(stdout + stderr);
}

/** Removes the release with its certificates and pods, so that the next installation is a first one. */
async function uninstall(): Promise<void> {
  await runHelm(['uninstall', release, ...inNamespace, '--wait']);
  const areGone = async () => (await api.list('Pod', systemNamespace, nodePods)).length === 0;
  if (!(await pollUntil(areGone, { timeoutMs: goneMs, pauseMs: 200 })))
    throw new Error('the pods of the release do not end');
}

/** Milliseconds from the installation to the first pod with a volume. */
async function installOnce(hasController: boolean, name: string): Promise<number> {
  const startedAt = performance.now();
  const install = ['install', release, chartPath, ...inNamespace, '--values', '-'];
  await runHelm(install, valuesOf(hasController));
  await startPod(name, true);
  const tookMs = performance.now() - startedAt;
  await deletePod(name, true);
  return tookMs;
}

await api.create('Namespace', '', { metadata: { name: namespace } });
const times = new Map<string, number[]>();
for (let round = 0; round < rounds; round += 1) {
  for (const [shape, hasController] of Object.entries(shapes)) {
    await uninstall();
    const tookMs = await installOnce(hasController, `first-${round}-${String(hasController)}`);
    console.error(`${shape}: ${Math.round(tookMs / 1000)} s`);
    times.set(shape, [...(times.get(shape) ?? []), tookMs]);
  }
}
const seconds = (ms: number): string => (ms / 1000).toFixed(0);
const rows = [...times].map(([shape, values]) => [
  shape,
  seconds(Math.min(...values)),
  seconds(percentile(values, 50)),
  seconds(Math.max(...values)),
]);
const title = `from helm install to the first pod with a volume, in seconds, ${rounds} times`;
console.log(`\n${asMarkdown([title, 'least', 'median', 'most'], rows)}\n`);
await api.delete('Namespace', '', namespace);
