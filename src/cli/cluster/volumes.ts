/** `kubectl loopcsi volumes`: the volumes of all nodes with the claims and pods they belong to. */
import { type Column, formatPromisedSize, formatSize } from '../output.ts';
import { nodeOf } from './checks/orphans.ts';
import type { Cluster } from './cluster.ts';
import type { NodeVolume, Volumes } from './node-volumes.ts';
import { nameOf, type PersistentVolume, type Pod } from './objects.ts';

/** One row: a volume of a node, a PersistentVolume, or usually both. */
export interface ClusterVolume {
  /** Id of the volume, which is the volume handle of the PersistentVolume. */
  readonly id: string;
  readonly name: string;
  readonly node: string;
  /** `NAMESPACE/NAME`; '' for a volume that has no claim. */
  readonly claim: string;
  readonly persistentVolume: string;
  /** `NAMESPACE/NAME` of each pod that uses the claim and is not finished. */
  readonly pods: readonly string[];
  readonly pool: string;
  /** `ext4`, `xfs`, `btrfs` or `block`. */
  readonly format: string;
  readonly sizeBytes: bigint | null;
  readonly allocatedBytes: bigint | null;
  readonly usedBytes: bigint | null;
  /** `ok`, the reason of the first problem, or why the node knows nothing of it. */
  readonly status: string;
}

export const columns: readonly Column<ClusterVolume>[] = [
  { title: 'CLAIM', text: ({ claim }) => claim, shrinks: true },
  {
    title: 'POD',
    text: ({ pods }) => pods.map((pod) => pod.replace(/^.*\//, '')).join(','),
    shrinks: true,
  },
  { title: 'NODE', text: ({ node }) => node },
  {
    title: 'SIZE',
    align: 'right',
    text: ({ sizeBytes }) => optional(sizeBytes, formatPromisedSize),
    sortBy: ({ sizeBytes }) => sizeBytes ?? 0n,
  },
  {
    title: 'ALLOCATED',
    align: 'right',
    text: ({ allocatedBytes }) => optional(allocatedBytes, formatSize),
    sortBy: ({ allocatedBytes }) => allocatedBytes ?? 0n,
  },
  {
    title: 'USED',
    align: 'right',
    text: ({ usedBytes }) => optional(usedBytes, formatSize),
    sortBy: ({ usedBytes }) => usedBytes ?? 0n,
  },
  { title: 'FORMAT', text: ({ format }) => format },
  { title: 'POOL', text: ({ pool }) => pool },
  { title: 'STATUS', text: ({ status }) => status },
  { title: 'VOLUME', text: ({ id }) => id, isWide: true },
  { title: 'PV', text: ({ persistentVolume }) => persistentVolume, isWide: true },
];

function optional(bytes: bigint | null, format: (bytes: bigint) => string): string {
  return bytes === null ? '' : format(bytes);
}

/** The API's objects around the volumes. */
export type VolumeObjects = Pick<Cluster, 'driver' | 'volumes' | 'pods'>;

/** Joins what the nodes have with what the API has. A row that only one of them knows says so in its status. */
export function joinVolumes(
  objects: VolumeObjects,
  { answers, silent }: Volumes,
): readonly ClusterVolume[] {
  const podsOf = podsByClaim(objects.pods);
  const silentNodes = new Set(silent.map(({ node }) => node));
  const byHandle = new Map(objects.volumes.map((one) => [one.spec.csi?.volumeHandle ?? '', one]));
  const rows = answers.flatMap(({ node, volumes }) =>
    volumes.map((volume) => {
      const object = byHandle.get(volume.id);
      byHandle.delete(volume.id);
      return rowOf(podsOf, node, volume, object);
    }),
  );
  const others = [...byHandle.values()].map((object) => {
    const node = nodeOf(object, objects) ?? '';
    return lostRow(podsOf, node, object, silentNodes.has(node));
  });
  return [...rows, ...others];
}

function rowOf(
  podsOf: PodsOfClaim,
  node: string,
  volume: NodeVolume,
  object: PersistentVolume | undefined,
): ClusterVolume {
  const claim = claimOf(object);
  return {
    id: volume.id,
    name: volume.name,
    node,
    claim,
    persistentVolume: object?.metadata.name ?? '',
    pods: podsOf(claim),
    pool: volume.pool,
    format: volume.fsType ?? 'block',
    sizeBytes: BigInt(volume.sizeBytes),
    allocatedBytes: bytes(volume.allocatedBytes),
    usedBytes: bytes(volume.usedBytes),
    status: volume.problems[0]?.reason ?? 'ok',
  };
}

function lostRow(
  podsOf: PodsOfClaim,
  node: string,
  object: PersistentVolume,
  isSilent: boolean,
): ClusterVolume {
  const claim = claimOf(object);
  return {
    id: object.spec.csi?.volumeHandle ?? '',
    name: object.metadata.name,
    node,
    claim,
    persistentVolume: object.metadata.name,
    pods: podsOf(claim),
    pool: '',
    format: '',
    sizeBytes: null,
    allocatedBytes: null,
    usedBytes: null,
    status: isSilent ? 'unknown, the node did not list it' : 'not on its node',
  };
}

function claimOf(object: PersistentVolume | undefined): string {
  const reference = object?.spec.claimRef;
  return reference === undefined ? '' : `${reference.namespace}/${reference.name}`;
}

type PodsOfClaim = (claim: string) => readonly string[];

/** Returns a function that finds the names of the pods that use a claim and have not ended. */
function podsByClaim(pods: readonly Pod[]): PodsOfClaim {
  const byClaim = new Map<string, string[]>();
  for (const pod of pods) {
    if (['Succeeded', 'Failed'].includes(pod.status.phase ?? '')) continue;
    for (const { persistentVolumeClaim, ephemeral, name } of pod.spec.volumes) {
      const own = ephemeral === undefined ? undefined : `${pod.metadata.name}-${name}`;
      const claimName = persistentVolumeClaim?.claimName ?? own;
      if (claimName === undefined) continue;
      const claim = `${pod.metadata.namespace}/${claimName}`;
      byClaim.set(claim, [...(byClaim.get(claim) ?? []), nameOf(pod)]);
    }
  }
  return (claim) => byClaim.get(claim) ?? [];
}

function bytes(value: number | string | null | undefined): bigint | null {
  return value === null || value === undefined ? null : BigInt(value);
}
