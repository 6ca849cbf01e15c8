/** What scenarios on several nodes share: where pods and volumes are, and what Kubernetes knows about a node. */

import type { ClusterNode } from '../cluster/node.ts';
import { eventually } from '../eventually.ts';
import { type KubeObject, textAt } from './api.ts';
import { driverName, mountDisks } from './chart.ts';
import { nodeNameOf, untilDriverServes } from './driver-pods.ts';
import { api, cluster, isReady, type Scenario } from './scenario.ts';

/** The nodes of the cluster. Throws if it has fewer than three. */
export function threeNodes(): readonly [ClusterNode, ClusterNode, ClusterNode] {
  const [first, second, third] = cluster.nodes;
  if (first === undefined || second === undefined || third === undefined) {
    throw new Error('these scenarios need a cluster of three nodes: add --nodes 3');
  }
  return [first, second, third];
}

/** The node of a pod that was scheduled. */
export async function nodeOfPod(scenario: Scenario, name: string): Promise<ClusterNode> {
  return cluster.node(nodeNameOf(await scenario.get('Pod', name)) ?? '');
}

/** The node of a claim's volume, by its id. Asserts that the PersistentVolume can be used there and nowhere else. */
export async function nodeOfClaim(scenario: Scenario, claimName: string): Promise<ClusterNode> {
  const node = await cluster.nodeOf(await scenario.volumeId(claimName));
  const claim = await scenario.get('PersistentVolumeClaim', claimName);
  const volume = await api.find('PersistentVolume', '', textAt(claim, 'spec.volumeName') ?? '');
  const affinity = textAt(volume, 'spec.nodeAffinity') ?? '';
  const only = `"key":"topology.${driverName}/node","operator":"In","values":["${node.name}"]`;
  if (!affinity.includes(only)) throw new Error(`${claimName} has the affinity ${affinity}`);
  return node;
}

/** Waits until Kubernetes knows that the node is away. The node's lease must expire, which takes 50 s. */
export async function untilNotReady(node: ClusterNode): Promise<void> {
  const isAway = (object: KubeObject): boolean => !isReady(object);
  await api.until('Node', '', node.name, isAway, { timeoutMs: 180_000 });
}

/** Switches a node on that was powered off, with its disks, and waits until its driver serves. */
export async function bringBack(node: ClusterNode): Promise<void> {
  await node.powerOn();
  await mountDisks(node);
  await untilServing(node);
}

/** Waits until the node is ready, and its driver is registered and serves. */
export async function untilServing(node: ClusterNode): Promise<void> {
  await cluster.untilReady([node]);
  await untilDriverServes('', node);
  await eventually(`the driver to be registered on ${node.name}`, async () => {
    const found = await api.find('CSINode', '', node.name);
    return textAt(found, 'spec.drivers')?.includes(`"${driverName}"`) === true ? true : undefined;
  });
}
