/** Why a claim is pending: the answer is spread over the claim, its pods, their events, the class and the nodes' capacities. */
import { nodeTagOf, tagOfId } from '../../../ids.ts';
import { parseBytes } from '../../../units.ts';
import { type Finding, fail, warn } from '../../../volumes/admin/doctor.ts';
import { type Cluster, ownClasses } from '../cluster.ts';
import { type Claim, nameOf, type Pod } from '../objects.ts';

export function checkPendingClaims(cluster: Cluster): readonly Finding[] {
  return cluster.claims.flatMap((claim) => {
    if (claim.status.phase !== 'Pending') return [];
    const finding = explainClaim(cluster, claim);
    return finding === undefined ? [] : [finding];
  });
}

/** Returns undefined if the claim is not for this driver. */
export function explainClaim(cluster: Cluster, claim: Claim): Finding | undefined {
  const subject = `claim:${nameOf(claim)}`;
  const className = claim.spec.storageClassName;
  if (className === undefined) {
    return warn(
      subject,
      'it names no StorageClass, and there was no default',
      'set spec.storageClassName',
    );
  }
  // An empty name asks for a PersistentVolume that somebody creates.
  if (className === '') return undefined;
  const found = cluster.classes.find(({ metadata }) => metadata.name === className);
  if (found === undefined) {
    return warn(
      subject,
      `its StorageClass '${className}' does not exist`,
      'create the class, or a claim with another one; it also binds to a PersistentVolume that names this class',
    );
  }
  if (!ownClasses(cluster).includes(found)) return undefined;
  const users = usersOf(cluster, claim);
  if (found.volumeBindingMode === 'WaitForFirstConsumer' && users.length === 0) {
    return warn(
      subject,
      'no pod uses it, so no node has been chosen for it',
      'create the pod that uses it; this is normal',
    );
  }
  return (
    unschedulable(cluster, claim, users, subject) ??
    boundByNodeName(users, cluster, { claim, subject }) ??
    refusedByDriver(cluster, claim, subject) ??
    warn(
      subject,
      'the driver is creating it, or has not been asked yet',
      'look again in a minute; then at the log of the provisioner',
    )
  );
}

function usersOf({ pods }: Cluster, { metadata }: Claim): readonly Pod[] {
  return pods.filter(
    (pod) =>
      pod.metadata.namespace === metadata.namespace &&
      pod.spec.volumes.some(
        ({ persistentVolumeClaim, ephemeral, name }) =>
          persistentVolumeClaim?.claimName === metadata.name ||
          (ephemeral !== undefined && `${pod.metadata.name}-${name}` === metadata.name),
      ),
  );
}

/** The newest refusal of the driver, which names what to change. */
function refusedByDriver(
  cluster: Cluster,
  { metadata }: Claim,
  subject: string,
): Finding | undefined {
  const [newest] = cluster.events
    .filter(
      ({ involvedObject, reason }) =>
        reason === 'ProvisioningFailed' &&
        involvedObject.kind === 'PersistentVolumeClaim' &&
        involvedObject.namespace === metadata.namespace &&
        involvedObject.name === metadata.name,
    )
    .sort((a, b) => timeOf(b).localeCompare(timeOf(a)));
  if (newest === undefined) return undefined;
  const { code, message } = parseRefusal(newest.message);
  const refusal = `the driver refuses it: ${message}`;
  const lost =
    /(?:snapshot|volume) '(\S+)' is lost with the node with tag [0-9a-f]{8}, unless/.exec(message);
  if (lost?.[1] !== undefined) return fail(subject, refusal, remedyForLost(cluster, lost[1]));
  const [, tag, name] =
    /is on (?:the node with tag ([0-9a-f]{8})|node '([^']+)')/.exec(message) ?? [];
  if (tag !== undefined)
    return fail(subject, refusal, remedyForCopy(cluster, nodeOfTag(cluster, tag), message));
  if (name !== undefined) return fail(subject, refusal, remedyForCopy(cluster, name, message));
  return fail(subject, refusal, remedyFor(cluster, { code, message }));
}

interface Refusal {
  /** Name of the gRPC code as Go writes it; empty if the event has none. */
  readonly code: string;
  readonly message: string;
}

/** What the provisioner writes into its event around the error of the driver. */
function parseRefusal(text: string): Refusal {
  const error = text.replace(/^failed to provision volume with StorageClass "[^"]*": /, '');
  const [whole = '', code = ''] = /^rpc error: code = (\w+) desc = /.exec(error) ?? [];
  return { code, message: error.slice(whole.length) };
}

function remedyFor(cluster: Cluster, { code, message }: Refusal): string {
  switch (code) {
    case 'ResourceExhausted':
      return 'another node is tried';
    case 'NotFound':
      return remedyForMissing(cluster, message);
    case 'Unavailable':
      return absence.test(message)
        ? 'do what the message says about that node; the claim is retried, and after ten minutes without that node another one is chosen'
        : 'do what the message says; the claim is retried without a change to it';
    case 'Aborted':
    case 'Canceled':
    case 'DeadlineExceeded':
      return 'the claim is retried: look again in a minute; if the message stays, look at the log of the driver on the node that it names';
    case 'Internal':
    case 'Unknown':
      return 'look at the log of the driver; the claim is retried';
    default:
      return 'change what the message names: a class cannot be changed, so create another one and a new claim';
  }
}

/** The source of a copy does not exist on any node that is asked. */
function remedyForMissing(cluster: Cluster, message: string): string {
  const id = /(?:snapshot|volume) '(\S+)' (?:does not exist|belongs to)/.exec(message)?.[1];
  const home = id === undefined ? undefined : nodeOfId(cluster, id);
  const remember =
    home === undefined
      ? ''
      : `; if node '${home}' was forgotten and its data is needed: kubectl loopcsi node remember ${home}`;
  return `the source was deleted, or lost with its node: delete the claim, and create it from another source${remember}`;
}

/** Its node was forgotten, and it is not known yet whether another node has it, for example because its disk was moved there. */
function remedyForLost(cluster: Cluster, id: string): string {
  const node = nodeOfId(cluster, id) ?? 'NODE';
  return `it is decided once the node at the end of the message answers, or was forgotten too: see 'kubectl loopcsi node list'; to use the forgotten node of the source again: kubectl loopcsi node remember ${node}; if its data is given up: delete the claim`;
}

/** What a controller says about a node that it cannot ask. */
const absence =
  /, which has not been seen since|node '[^']+'(?: \(tag [0-9a-f]{8}\))? (?:has been unreachable for|is (?:refused:|being connected|not ready))/;

/** A driver does not know the names of other nodes, but a node's tag is a hash of its name. */
function nodeOfTag({ nodes }: Cluster, tag: string): string | undefined {
  return nodes.map(({ metadata }) => metadata.name).find((name) => nodeTagOf(name) === tag);
}

function nodeOfId(cluster: Cluster, id: string): string | undefined {
  const tag = tagOfId(id);
  return tag === undefined ? undefined : nodeOfTag(cluster, tag);
}

/** A copy can only be made on the node of its source, so no other node helps while that one cannot be asked. */
function remedyForCopy(
  { nodes, driver }: Cluster,
  name: string | undefined,
  message: string,
): string {
  if (name === undefined || !nodes.some(({ metadata }) => metadata.name === name))
    return 'no node of the cluster has that name or tag, so the source is lost unless its node comes back: delete the claim';
  return absence.test(message)
    ? `the source is on node '${name}', which the controller cannot use now, and no other node can make the copy: see 'kubectl loopcsi node list', and make the driver of the node ready; if the node never comes back, the source is lost: delete the claim`
    : `the source is on node '${name}': other nodes are tried until it is chosen; to choose it at once, set nodeSelector {topology.${driver}/node: ${name}} in the pod`;
}

function timeOf({ lastTimestamp, eventTime, metadata }: Cluster['events'][number]): string {
  return lastTimestamp ?? eventTime ?? metadata.creationTimestamp;
}

/** The scheduler's mark on a claim for whose node it has decided. */
const selectedNode = 'volume.kubernetes.io/selected-node';

/** Such a pod bypasses the scheduler, and only the scheduler chooses the node of a claim. */
function boundByNodeName(
  users: readonly Pod[],
  { driver }: Cluster,
  { claim, subject }: { claim: Claim; subject: string },
): Finding | undefined {
  if (claim.metadata.annotations[selectedNode] !== undefined) return undefined;
  const pod = users.find(({ spec }) => spec.nodeName !== '');
  if (pod === undefined) return undefined;
  return fail(
    subject,
    `pod ${nameOf(pod)} names its node in spec.nodeName, which bypasses the scheduler, and only the scheduler chooses the node of a claim`,
    `use nodeSelector: {topology.${driver}/node: ${pod.spec.nodeName}} in the pod instead`,
  );
}

function unschedulable(
  cluster: Cluster,
  claim: Claim,
  users: readonly Pod[],
  subject: string,
): Finding | undefined {
  for (const pod of users) {
    const condition = pod.status.conditions?.find(
      ({ type, status }) => type === 'PodScheduled' && status === 'False',
    );
    if (condition === undefined || condition.message === undefined || condition.message === '')
      continue;
    // The scheduler had chosen a node, and its driver refused: that says why.
    if (/provisioning failed for PVC/.test(condition.message)) continue;
    const lacksSpace = /did not have enough free storage/.test(condition.message);
    return fail(
      subject,
      `pod ${nameOf(pod)} cannot be scheduled: ${condition.message}`,
      lacksSpace
        ? `it requests ${requestOf(claim)}; ${capacitiesText(cluster, claim)}. Delete volumes, enlarge a pool, or request less`
        : 'the message names what the nodes lack',
    );
  }
  return undefined;
}

function requestOf({ spec }: Claim): string {
  return spec.resources.requests?.['storage'] ?? 'no size';
}

/** The nodes' capacities for the claim's class, the largest first. */
function capacitiesText({ capacities, driver }: Cluster, { spec }: Claim): string {
  const published = capacities
    .filter(({ storageClassName }) => storageClassName === spec.storageClassName)
    .map(({ capacity, nodeTopology }) => ({
      node: nodeTopology?.matchLabels[`topology.${driver}/node`] ?? 'unknown node',
      capacity: capacity ?? '0',
    }))
    .sort((a, b) => (bytesOf(b.capacity) > bytesOf(a.capacity) ? 1 : -1));
  if (published.length === 0) return 'no node publishes a capacity for its class';
  return `the nodes offer ${published.map(({ node, capacity }) => `${capacity} (${node})`).join(', ')}`;
}

function bytesOf(quantity: string): bigint {
  try {
    return parseBytes(quantity);
  } catch {
    // A quantity such as 1e9, which the driver does not publish, only affects the order.
    return 0n;
  }
}
