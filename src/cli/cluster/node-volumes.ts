/** The volumes that each node's driver lists. */
import * as v from 'valibot';
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
}

export interface SilentNode {
  readonly node: string;
  readonly problem: string;
}

export interface Volumes {
  readonly answers: readonly NodeVolumes[];
  /** Nodes that did not answer, with the reason. */
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
    }));
  for (const { pod, node, value, problem } of found) {
    if (value === undefined) silent.push({ node, problem });
    else answers.push({ node, pod: pod.metadata, volumes: value });
  }
  return { answers, silent };
}
