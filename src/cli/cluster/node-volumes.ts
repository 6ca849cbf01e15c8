/** The volumes that each node's driver lists. */
import * as v from 'valibot';
import { askNodes, type Cluster, isReady } from './cluster.ts';
import type { Kubectl } from './kubectl.ts';

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

export interface Volumes {
  readonly answers: readonly NodeVolumes[];
  /** Nodes that did not answer, with the reason. */
  readonly silent: readonly { readonly node: string; readonly problem: string }[];
}

export async function listNodeVolumes(kubectl: Kubectl, cluster: Cluster): Promise<Volumes> {
  const pods = cluster.driverPods.filter(isReady);
  const [found, usages] = await Promise.all([
    askNodes(kubectl, pods, 'volume', 'list', '--json'),
    askNodes(kubectl, pods, 'top', '--once', '--json'),
  ]);
  const answers: NodeVolumes[] = [];
  const silent: { node: string; problem: string }[] = cluster.driverPods
    .filter((pod) => !isReady(pod))
    .map(({ spec, metadata }) => ({
      node: spec.nodeName,
      problem: `the driver's pod ${metadata.name} is not ready`,
    }));
  for (const [index, { node, output, problem }] of found.entries()) {
    const pod = pods[index]?.metadata;
    if (output === undefined || pod === undefined) silent.push({ node, problem });
    else answers.push({ node, pod, volumes: withUsage(output, usages[index]?.output) });
  }
  return { answers, silent };
}

/** `usage` is undefined if it could not be measured. */
function withUsage(list: string, usage: string | undefined): readonly NodeVolume[] {
  const measured = v.parse(v.array(usageJson), JSON.parse(usage ?? '[]'));
  const used = new Map(measured.map(({ id, usedBytes }) => [id, usedBytes ?? undefined]));
  return v.parse(v.array(volumeJson), JSON.parse(list)).map((volume) => {
    const usedBytes = used.get(volume.id);
    return { ...volume, usedBytes: usedBytes === undefined ? undefined : BigInt(usedBytes) };
  });
}
