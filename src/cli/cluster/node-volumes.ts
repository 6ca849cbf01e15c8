/** The volumes that each node's driver lists. */
import * as v from 'valibot';
import { unreadPoolWarnings } from '../list-of-pools.ts';
import { askNodes, isReady } from './cluster.ts';
import type { Kubectl } from './kubectl.ts';
import type { Pod } from './objects.ts';

/** A part of what `loopcsi volume list --json` prints (docs/command-line.md). */
const volumeJson = v.object({
  id: v.string(),
  name: v.string(),
  pool: v.string(),
  kind: v.string(),
  fsType: v.optional(v.nullable(v.string())),
  sizeBytes: v.union([v.number(), v.string()]),
  allocatedBytes: v.optional(v.nullable(v.union([v.number(), v.string()]))),
  /** null unless its filesystem is mounted and answers; an older driver lacks it. */
  usedBytes: v.optional(v.nullable(v.union([v.number(), v.string()]))),
  ephemeral: v.optional(v.boolean(), false),
  createdAt: v.optional(v.string(), ''),
  owner: v.optional(v.nullable(v.object({ persistentVolume: v.optional(v.nullable(v.string())) }))),
  publishedAt: v.optional(v.array(v.string()), []),
  problems: v.optional(v.array(v.object({ reason: v.string(), message: v.string() })), []),
});

export type NodeVolume = v.InferOutput<typeof volumeJson>;

export interface NodeVolumes {
  readonly node: string;
  /** The driver's pod there. */
  readonly pod: { readonly namespace: string; readonly name: string };
  readonly volumes: readonly NodeVolume[];
  /** Whether its volumes are all of the node: the driver has read each of its pools. */
  readonly isComplete: boolean;
}

export interface SilentNode {
  readonly node: string;
  readonly problem: string;
  /** Whether it has listed the volumes of other pools. */
  readonly isPartial: boolean;
}

export interface Volumes {
  readonly answers: readonly NodeVolumes[];
  /** Nodes of which not all volumes are known, with the reason. */
  readonly silent: readonly SilentNode[];
}

export async function listNodeVolumes(
  kubectl: Kubectl,
  driverPods: readonly Pod[],
): Promise<Volumes> {
  const pods = driverPods.filter(isReady);
  const found = await askNodes(kubectl, pods, v.array(volumeJson), 'volume', 'list');
  const answers: NodeVolumes[] = [];
  const silent: SilentNode[] = driverPods
    .filter((pod) => !isReady(pod))
    .map(({ spec, metadata }) => ({
      node: spec.nodeName,
      problem: `the driver's pod ${metadata.name} is not ready`,
      isPartial: false,
    }));
  for (const { pod, node, value, problem, warnings } of found) {
    if (value === undefined) {
      silent.push({ node, problem, isPartial: false });
      continue;
    }
    const unread = unreadPoolWarnings(warnings);
    const isComplete = unread.length === 0;
    answers.push({ node, pod: pod.metadata, volumes: value, isComplete });
    if (!isComplete) silent.push({ node, problem: unread.join('; '), isPartial: true });
  }
  return { answers, silent };
}
