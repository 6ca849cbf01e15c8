/** Volumes of the nodes that no PersistentVolume names, and PersistentVolumes without a volume. */
import { type Finding, fail, ok, warn } from '../../../volumes/admin/doctor.ts';
import type { Cluster } from '../cluster.ts';
import type { NodeVolume, NodeVolumes } from '../node-volumes.ts';
import type { PersistentVolume } from '../objects.ts';

export function checkOrphans(
  cluster: Cluster,
  answers: readonly NodeVolumes[],
): readonly Finding[] {
  const findings = [
    ...volumesWithoutObject(cluster, answers),
    ...objectsWithoutVolume(cluster, answers),
  ];
  if (findings.length > 0) return findings;
  const total = answers.reduce((sum, { volumes }) => sum + volumes.length, 0);
  return [
    ok(
      'orphans',
      `${total} volumes on the nodes and ${cluster.volumes.length} PersistentVolumes belong together`,
    ),
  ];
}

/** A volume exists before its PersistentVolume. */
const minAgeMs = 10 * 60_000;

/** Only volumes that were created for a claim: others belong to Docker, the command line or a pod. */
function volumesWithoutObject(
  cluster: Cluster,
  answers: readonly NodeVolumes[],
): readonly Finding[] {
  const handles = new Set(cluster.volumes.map(({ spec }) => spec.csi?.volumeHandle));
  const isOld = ({ createdAt }: NodeVolume): boolean =>
    !(Date.now() - Date.parse(createdAt) < minAgeMs);
  return answers.flatMap(({ node, pod, volumes }) =>
    volumes
      .filter((one) => !one.ephemeral && !handles.has(one.id) && isOfClaim(one.name) && isOld(one))
      .map((volume) => adoptedVolume(cluster, node, volume) ?? forgottenVolume(node, pod, volume)),
  );
}

/** `pool adopt` gives volumes new ids, which their PersistentVolumes do not have. */
function adoptedVolume(
  { volumes }: Cluster,
  node: string,
  { id, owner }: NodeVolume,
): Finding | undefined {
  const object = volumes.find(({ metadata }) => metadata.name === owner?.persistentVolume);
  if (object === undefined) return undefined;
  return warn(
    `volume:${id}`,
    `volume ${id} on node ${node} was made for PersistentVolume ${object.metadata.name}, which names ${object.spec.csi?.volumeHandle ?? 'another volume'}: its pool was moved to this node`,
    `replace that PersistentVolume by one for the new id: loopcsi volume manifest ${id}`,
  );
}

function forgottenVolume(node: string, pod: NodeVolumes['pod'], { id, name }: NodeVolume): Finding {
  return warn(
    `volume:${id}`,
    `volume ${id} on node ${node} has no PersistentVolume: its claim ${name} was deleted while the node could not be reached, or its policy is Retain`,
    `look at its files; if nobody needs them: kubectl exec -it --namespace ${pod.namespace} ${pod.name} --container driver -- loopcsi volume delete ${id}`,
  );
}

/** external-provisioner's names of volumes: `pvc-` and the UID of the claim. */
function isOfClaim(name: string): boolean {
  return /^pvc-[\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12}$/.test(name);
}

function objectsWithoutVolume(
  cluster: Cluster,
  answers: readonly NodeVolumes[],
): readonly Finding[] {
  return cluster.volumes.flatMap((volume) => {
    const { metadata, spec } = volume;
    const node = nodeOf(volume, cluster);
    const claim =
      spec.claimRef === undefined
        ? ''
        : ` of claim ${spec.claimRef.namespace}/${spec.claimRef.name}`;
    const subject = `PersistentVolume ${metadata.name}${claim}`;
    if (node !== undefined && !cluster.nodes.some((one) => one.metadata.name === node)) {
      return [
        fail(
          `pv:${metadata.name}`,
          `${subject} is on node ${node}, which the cluster does not have`,
          'if the node is lost for good, its data is lost: delete the claim, then remove the finalizers of the PersistentVolume',
        ),
      ];
    }
    const answer = answers.find((one) => one.node === node);
    // It may be in a pool that the driver has not read; the doctor of the node reports that pool.
    if (answer?.isComplete !== true) return [];
    if (answer.volumes.some(({ id }) => id === spec.csi?.volumeHandle)) return [];
    return [
      fail(
        `pv:${metadata.name}`,
        `${subject} names volume ${spec.csi?.volumeHandle ?? ''}, which node ${answer.node} does not have`,
        'look whether a pool of that node is not mounted (loopcsi pool list); restore the pool or a backup, or delete the claim',
      ),
    ];
  });
}

/** The node of a PersistentVolume, from the topology that the driver gave it. */
export function nodeOf(
  { spec }: PersistentVolume,
  { driver }: Pick<Cluster, 'driver'>,
): string | undefined {
  const key = `topology.${driver}/node`;
  return spec.nodeAffinity?.required?.nodeSelectorTerms
    ?.flatMap(({ matchExpressions }) => matchExpressions ?? [])
    .find((one) => one.key === key)?.values[0];
}
