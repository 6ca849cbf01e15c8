/** How long a node takes to create volumes. */
import type { ClusterNode } from '../cluster/node.ts';
import { claim, selectedNode } from './objects.ts';
import { api, isBound, type Scenario } from './scenario.ts';

const count = 20;

/**
 * Creates claims on the node, one after another, and returns the 95th percentile of the times from the creation of a claim until it is
 * bound, in milliseconds. The claims name the node as the scheduler does, so no pod is needed. They are deleted with the scenario.
 */
export async function provisioningTimes(
  scenario: Scenario,
  label: string,
  node: ClusterNode,
): Promise<number> {
  const times: number[] = [];
  for (let index = 0; index < count; index += 1) {
    const name = `${label}-${index}`;
    const body = claim(name, { size: '16Mi' });
    const annotations = { [selectedNode]: node.name };
    const startedAt = performance.now();
    await scenario.create('PersistentVolumeClaim', { ...body, metadata: { name, annotations } });
    await api.until('PersistentVolumeClaim', scenario.namespace, name, isBound, { everyMs: 20 });
    times.push(performance.now() - startedAt);
  }
  times.sort((a, b) => a - b);
  return times[Math.ceil(count * 0.95) - 1] ?? 0;
}
