/** The fields of the log lines of a call, from its request. */
import type { Volumes } from '../volumes/api.ts';
import { ownerFields, ownerOf, podIn, snapshotFields, snapshotOwnerOf } from '../volumes/owner.ts';

type Fields = Readonly<Record<string, string>>;

/** The maximum length of an id or name in CSI, in bytes. The size limits have not been checked yet. */
const maxLength = 128;

const loggedIds = {
  name: 'name',
  volume_id: 'volumeId',
  source_volume_id: 'sourceVolumeId',
  snapshot_id: 'snapshotId',
} as const;

/**
 * Returns the ids of the request, and the claim, pod and VolumeSnapshot that the request or the record names, so that one search
 * finds all lines about a claim.
 */
export function callFields(
  request: unknown,
  { ownerFieldsOf }: Pick<Volumes, 'ownerFieldsOf'>,
): Fields {
  if (typeof request !== 'object' || request === null) return {};
  const values: Readonly<Record<string, unknown>> = { ...request };
  const ids: Record<string, string> = {};
  for (const [key, field] of Object.entries(loggedIds)) {
    const value = values[key];
    if (typeof value === 'string' && value !== '') ids[field] = value.slice(0, maxLength);
  }
  const { volumeId = ids['sourceVolumeId'], snapshotId } = ids;
  return {
    ...ids,
    ...ownerFieldsOf({ volumeId, snapshotId }),
    ...parameterFields(stringMapIn(values['parameters'])),
    ...podFields(stringMapIn(values['volume_context'])),
  };
}

/** Sidecars name the object that they create a volume or snapshot for (--extra-create-metadata). */
function parameterFields(parameters: Fields): Fields {
  return {
    ...ownerFields(ownerOf({ parameters })),
    ...snapshotFields(snapshotOwnerOf({ parameters })),
  };
}

/** The kubelet names the pod of a publish call (podInfoOnMount). */
function podFields(context: Fields): Fields {
  const pod = podIn(context);
  return pod === undefined ? {} : { namespace: pod.namespace, pod: pod.name };
}

function stringMapIn(value: unknown): Fields {
  // The codec decodes every map of CSI to an object of strings.
  return typeof value === 'object' && value !== null ? (value as Fields) : {};
}
