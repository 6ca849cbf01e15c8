/** `kubectl loopcsi nodes`: the nodes with their driver and its pools. */
import * as v from 'valibot';
import { type Column, formatSize } from '../output.ts';
import { askNodes, type DriverPods, driverContainer, isReady, makeList } from './cluster.ts';
import type { Kubectl } from './kubectl.ts';
import { nodeObject, type Pod } from './objects.ts';

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
    roomBytes: v.optional(v.nullable(v.union([v.number(), v.string()]))),
  }),
);

export async function listNodes(
  kubectl: Kubectl,
  { driverPods }: DriverPods,
): Promise<readonly ClusterNode[]> {
  const nodes = await makeList(kubectl)('nodes', nodeObject);
  const answers = await askNodes(kubectl, driverPods.filter(isReady), poolsJson, 'pool', 'list');
  return nodes.map(({ metadata: { name } }) => {
    const pod = driverPods.find(({ spec }) => spec.nodeName === name);
    const answer = answers.find(({ node }) => node === name);
    const pools = answer?.value ?? [];
    const capacities = pools.flatMap(({ roomBytes }) =>
      roomBytes === null || roomBytes === undefined ? [] : [BigInt(roomBytes)],
    );
    return {
      name,
      driver: stateOf(pod, answer?.problem ?? ''),
      image: pod?.spec.containers.find((one) => one.name === driverContainer)?.image ?? '',
      pools: pools.map((pool) => pool.name),
      capacityBytes:
        capacities.length === 0 ? null : capacities.reduce((sum, one) => sum + one, 0n),
    };
  });
}

function stateOf(pod: Pod | undefined, problem: string): string {
  if (pod === undefined) return 'none';
  if (!isReady(pod)) return 'not ready';
  return problem || 'ready';
}
