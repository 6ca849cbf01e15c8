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
  ephemeral: v.optional(v.boolean(), false),
  createdAt: v.optional(v.string(), ''),
  owner: v.optional(v.nullable(v.object({ persistentVolume: v.optional(v.nullable(v.string())) }))),
  publishedAt: v.optional(v.array(v.string()), []),
  problems: v.optional(v.array(v.object({ reason: v.string(), message: v.string() })), []),
});
/** A part of what `loopcsi top --once --json` prints. */
const usageJson = v.object({
  id: v.string(),
  usedBytes: v.optional(v.nullable(v.union([v.number(), v.string()]))),
});

export type NodeVolume = v.InferOutput<typeof volumeJson> & {
  /** Used bytes of the filesystem; undefined unless it is mounted and answers. */
  readonly usedBytes: bigint | undefined;
};

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
  const [found, usages] = await Promise.all([
    askNodes(kubectl, pods, v.array(volumeJson), 'volume', 'list'),
    askNodes(kubectl, pods, v.array(usageJson), 'top', '--once'),
  ]);
  const answers: NodeVolumes[] = [];
  const silent: SilentNode[] = driverPods
    .filter((pod) => !isReady(pod))
    .map(({ spec, metadata }) => ({
      node: spec.nodeName,
      problem: `the driver's pod ${metadata.name} is not ready`,
    }));
  for (const [index, { pod, node, value, problem }] of found.entries()) {
    if (value === undefined) silent.push({ node, problem });
    // Without a measurement, only the used space is missing.
    else
      answers.push({
        node,
        pod: pod.metadata,
        volumes: withUsage(value, usages[index]?.value ?? []),
      });
  }
  return { answers, silent };
}

function withUsage(
  volumes: readonly v.InferOutput<typeof volumeJson>[],
  usages: readonly v.InferOutput<typeof usageJson>[],
): readonly NodeVolume[] {
  const used = new Map(usages.map(({ id, usedBytes }) => [id, usedBytes ?? undefined]));
  return volumes.map((volume) => {
    const usedBytes = used.get(volume.id);
    return { ...volume, usedBytes: usedBytes === undefined ? undefined : BigInt(usedBytes) };
  });
}
