/** Whether nodes serve new claims. */
import type { ClusterNode } from '../cluster/node.ts';
import type { Scenario } from './scenario.ts';

/** Asserts that a pod with a new claim starts on every one of these nodes. `label` begins the names. */
export async function assertNodesServe(
  scenario: Scenario,
  label: string,
  nodes: readonly ClusterNode[],
): Promise<void> {
  await Promise.all(
    nodes.map(async ({ name: node }) => {
      const name = `${label}-${node}`;
      await scenario.claim(name);
      const script = 'echo ok >/data/file';
      await scenario.readyPod(name, { claims: { '/data': name }, node, script }, 180_000);
    }),
  );
}
