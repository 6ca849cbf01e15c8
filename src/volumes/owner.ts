/** The Kubernetes objects for which a volume or snapshot was created, according to the parameters of its request. */
import type { Pod, SnapshotOwner, VolumeOwner } from './model.ts';

type KeyValues = Readonly<Record<string, string>>;

/** Names of claims, pods and most other objects: DNS subdomains. A namespace is shorter, but has the same form. */
const objectName = /^[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?$/;
/** The uid of a pod. For a static pod it is a hash. */
const objectUid = /^[0-9A-Za-z-]{1,64}$/;

const keyPrefix = 'csi.storage.k8s.io/';

/**
 * Returns the value of a key that a sidecar (--extra-create-metadata) or the kubelet (podInfoOnMount) adds to a request. Other
 * callers can set the key too, so a value that cannot be a name of Kubernetes counts as absent: names become labels of metrics
 * and fields of the log.
 */
function valueOf(values: KeyValues, key: string, form = objectName): string {
  const value = values[`${keyPrefix}${key}`] ?? '';
  return form.test(value) ? value : '';
}

/** The owner of a volume with these parameters; undefined if its request named none, as a request of Docker. */
export function ownerOf({
  parameters,
}: {
  readonly parameters: KeyValues;
}): VolumeOwner | undefined {
  const namespace = valueOf(parameters, 'pvc/namespace');
  const claim = valueOf(parameters, 'pvc/name');
  if (namespace !== '' && claim !== '') {
    return { namespace, claim, persistentVolume: valueOf(parameters, 'pv/name'), pod: '' };
  }
  const pod = podIn(parameters);
  if (pod === undefined) return undefined;
  return { namespace: pod.namespace, claim: '', persistentVolume: '', pod: pod.name };
}

/** The VolumeSnapshot or VolumeGroupSnapshot of a snapshot with these parameters. */
export function snapshotOwnerOf({
  parameters,
}: {
  readonly parameters: KeyValues;
}): SnapshotOwner | undefined {
  const owner = {
    namespace:
      valueOf(parameters, 'volumesnapshot/namespace') ||
      valueOf(parameters, 'volumegroupsnapshot/namespace'),
    volumeSnapshot: valueOf(parameters, 'volumesnapshot/name'),
    volumeSnapshotContent: valueOf(parameters, 'volumesnapshotcontent/name'),
    volumeGroupSnapshot: valueOf(parameters, 'volumegroupsnapshot/name'),
  };
  const isNamed = owner.volumeSnapshot !== '' || owner.volumeGroupSnapshot !== '';
  return owner.namespace !== '' && isNamed ? owner : undefined;
}

/** The pod of a publish call, according to its volume context. */
export function podIn(context: KeyValues): Pod | undefined {
  const namespace = valueOf(context, 'pod.namespace');
  const name = valueOf(context, 'pod.name');
  if (namespace === '' || name === '') return undefined;
  return { namespace, name, uid: valueOf(context, 'pod.uid', objectUid) };
}

/** The keys of the parameters by which `ownerOf` finds the claim. */
export function claimParameters(claim: {
  readonly namespace: string;
  readonly name: string;
}): Record<string, string> {
  return {
    [`${keyPrefix}pvc/namespace`]: claim.namespace,
    [`${keyPrefix}pvc/name`]: claim.name,
  };
}

/** The keys of the volume context by which `ownerOf` finds the pod of an inline volume. */
export function podParameters(pod: Pod): Record<string, string> {
  return {
    [`${keyPrefix}pod.namespace`]: pod.namespace,
    [`${keyPrefix}pod.name`]: pod.name,
    [`${keyPrefix}pod.uid`]: pod.uid,
  };
}

/** For messages: `claim default/data`, or `pod default/web-0` for an inline volume. */
export function ownerText({ namespace, claim, pod }: VolumeOwner): string {
  return claim === '' ? `pod ${namespace}/${pod}` : `claim ${namespace}/${claim}`;
}

/** Fields of a log line about a volume. */
export function ownerFields(owner: VolumeOwner | undefined): Record<string, string> {
  if (owner === undefined) return {};
  const { namespace, claim, pod } = owner;
  return claim === '' ? { namespace, pod } : { namespace, claim };
}

/** Fields of a log line about a snapshot. */
export function snapshotFields(owner: SnapshotOwner | undefined): Record<string, string> {
  if (owner === undefined) return {};
  const { namespace, volumeSnapshot, volumeGroupSnapshot } = owner;
  return volumeSnapshot === '' ? { namespace, volumeGroupSnapshot } : { namespace, volumeSnapshot };
}
