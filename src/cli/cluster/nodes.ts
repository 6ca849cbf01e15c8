/** `kubectl loopcsi nodes`: the nodes with their driver and its pools. */
import * as v from 'valibot';
import { type Column, formatSize } from '../output.ts';
import { askNodes, type Cluster, isReady } from './cluster.ts';
import type { Kubectl } from './kubectl.ts';

export interface ClusterNode {
  readonly name: string;
  /** `ready`, or what is wrong. */
  readonly driver: string;
  readonly image: string;
  readonly pools: readonly string[];
  /** The capacity of all pools. */
  readonly capacityBytes: bigint | null;
}

export const columns: readonly Column<ClusterNode>[] = [
  { title: 'NODE', text: ({ name }) => name },
  { title: 'DRIVER', text: ({ driver }) => driver },
  { title: 'POOLS', text: ({ pools }) => pools.join(','), shrinks: true },
  {
    title: 'CAPACITY',
    align: 'right',
    text: ({ capacityBytes }) => (capacityBytes === null ? '' : formatSize(capacityBytes)),
    sortBy: ({ capacityBytes }) => capacityBytes ?? 0n,
  },
  { title: 'IMAGE', text: ({ image }) => image, isWide: true },
];

/** A part of what `loopcsi pool list --json` prints. */
const poolsJson = v.array(
  v.object({
    name: v.string(),
    capacityBytes: v.optional(v.nullable(v.union([v.number(), v.string()]))),
  }),
);

export async function listNodes(
  kubectl: Kubectl,
  cluster: Cluster,
): Promise<readonly ClusterNode[]> {
  const answers = await askNodes(
    kubectl,
    cluster.driverPods.filter(isReady),
    'pool',
    'list',
    '--json',
  );
  return cluster.nodes.map(({ metadata: { name } }) => {
    const pod = cluster.driverPods.find(({ spec }) => spec.nodeName === name);
    const answer = answers.find(({ node }) => node === name);
    const pools = answer?.output === undefined ? [] : v.parse(poolsJson, JSON.parse(answer.output));
    const capacities = pools.flatMap(({ capacityBytes }) =>
      capacityBytes === null || capacityBytes === undefined ? [] : [BigInt(capacityBytes)],
    );
    return {
      name,
      driver: pod === undefined ? 'none' : isReady(pod) ? answer?.problem || 'ready' : 'not ready',
      image: pod?.spec.containers.find((one) => one.name === 'driver')?.image ?? '',
      pools: pools.map((pool) => pool.name),
      capacityBytes:
        capacities.length === 0 ? null : capacities.reduce((sum, one) => sum + one, 0n),
    };
  });
}
