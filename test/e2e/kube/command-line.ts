/** The command line in the driver's pod, as an operator runs it. */
import { nodePods, systemNamespace } from './chart.ts';
import { api, kubectl } from './scenario.ts';

/** Runs a command in the driver's pod, and returns its trimmed output. Throws if it fails. */
export async function loopcsi(...args: readonly string[]): Promise<string> {
  const pods = await api.list('Pod', systemNamespace, nodePods);
  const pod = pods.find(({ metadata }) => metadata['deletionTimestamp'] === undefined);
  if (pod === undefined) throw new Error('no driver pod');
  const target = ['--namespace', systemNamespace, pod.metadata.name, '--container', 'driver'];
  return (await kubectl('exec', ...target, '--', 'loopcsi', ...args)).trim();
}
