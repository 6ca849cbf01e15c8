/** The parts of Kubernetes' objects that the cluster commands read. Everything else in them is ignored. */
import * as v from 'valibot';

const text = v.optional(v.string(), '');
const texts = v.optional(v.array(v.string()), []);
const map = v.optional(v.record(v.string(), v.string()), {});

const metadata = v.object({
  name: v.string(),
  namespace: text,
  uid: text,
  labels: map,
  annotations: map,
  creationTimestamp: text,
  deletionTimestamp: v.optional(v.string()),
});

const condition = v.object({ type: v.string(), status: v.string(), reason: text, message: text });

const container = v.object({ name: v.string(), image: text, args: texts, command: texts });

const containerStatus = v.object({
  name: v.string(),
  ready: v.optional(v.boolean(), false),
  restartCount: v.optional(v.number(), 0),
  state: v.optional(
    v.object({
      waiting: v.optional(v.object({ reason: text, message: text })),
      terminated: v.optional(v.object({ reason: text, message: text })),
    }),
    {},
  ),
});

export const nodeObject = v.object({
  metadata,
  spec: v.optional(v.object({ unschedulable: v.optional(v.boolean(), false) }), {}),
  status: v.optional(v.object({ conditions: v.optional(v.array(condition), []) }), {}),
});

export const podObject = v.object({
  metadata,
  spec: v.object({
    nodeName: text,
    containers: v.optional(v.array(container), []),
    volumes: v.optional(
      v.array(
        v.object({
          name: v.string(),
          persistentVolumeClaim: v.optional(v.object({ claimName: v.string() })),
          ephemeral: v.optional(v.unknown()),
        }),
      ),
      [],
    ),
  }),
  status: v.optional(
    v.object({
      phase: text,
      conditions: v.optional(v.array(condition), []),
      containerStatuses: v.optional(v.array(containerStatus), []),
    }),
    {},
  ),
});

/** Helm's mark of the namespace of a release. Only administrators can change objects of the cluster. */
export const releaseNamespace = 'meta.helm.sh/release-namespace';

export const csiDriverObject = v.object({ metadata });

export const daemonSetObject = v.object({
  metadata,
  status: v.optional(
    v.object({
      desiredNumberScheduled: v.optional(v.number(), 0),
      currentNumberScheduled: v.optional(v.number(), 0),
    }),
    { desiredNumberScheduled: 0, currentNumberScheduled: 0 },
  ),
});

export const deploymentObject = v.object({
  metadata,
  spec: v.object({
    template: v.object({
      spec: v.object({ containers: v.optional(v.array(container), []) }),
    }),
  }),
});

export const persistentVolumeObject = v.object({
  metadata,
  spec: v.object({
    capacity: map,
    storageClassName: text,
    claimRef: v.optional(v.object({ namespace: text, name: text })),
    csi: v.optional(v.object({ driver: v.string(), volumeHandle: v.string() })),
    nodeAffinity: v.optional(
      v.object({
        required: v.optional(
          v.object({
            nodeSelectorTerms: v.optional(
              v.array(
                v.object({
                  matchExpressions: v.optional(
                    v.array(v.object({ key: v.string(), values: texts })),
                    [],
                  ),
                }),
              ),
              [],
            ),
          }),
        ),
      }),
    ),
  }),
  status: v.optional(v.object({ phase: text }), {}),
});

export const claimObject = v.object({
  metadata,
  spec: v.object({
    storageClassName: v.optional(v.string()),
    volumeName: text,
    dataSource: v.optional(v.object({ kind: v.string(), name: v.string() })),
    resources: v.optional(v.object({ requests: map }), {}),
  }),
  status: v.optional(v.object({ phase: text }), {}),
});

export const storageClassObject = v.object({
  metadata,
  provisioner: v.string(),
  volumeBindingMode: text,
  parameters: map,
});

export const csiNodeObject = v.object({
  metadata,
  spec: v.object({
    drivers: v.optional(v.nullable(v.array(v.object({ name: v.string() }))), []),
  }),
});

export const capacityObject = v.object({
  metadata,
  storageClassName: v.string(),
  capacity: v.optional(v.string()),
  nodeTopology: v.optional(v.object({ matchLabels: map })),
});

export const snapshotContentObject = v.object({
  metadata,
  spec: v.object({
    driver: text,
    volumeSnapshotRef: v.optional(v.object({ namespace: text, name: text }), {
      namespace: '',
      name: '',
    }),
  }),
  status: v.optional(
    v.object({
      readyToUse: v.optional(v.boolean(), false),
      error: v.optional(v.object({ message: text })),
    }),
    {},
  ),
});

export const eventObject = v.object({
  metadata,
  type: text,
  reason: text,
  message: text,
  involvedObject: v.object({ kind: text, namespace: text, name: text }),
  lastTimestamp: v.optional(v.nullable(v.string())),
  eventTime: v.optional(v.nullable(v.string())),
});

export type KubeNode = v.InferOutput<typeof nodeObject>;
export type Pod = v.InferOutput<typeof podObject>;
export type CsiDriver = v.InferOutput<typeof csiDriverObject>;
export type DaemonSet = v.InferOutput<typeof daemonSetObject>;
export type Deployment = v.InferOutput<typeof deploymentObject>;
export type PersistentVolume = v.InferOutput<typeof persistentVolumeObject>;
export type Claim = v.InferOutput<typeof claimObject>;
export type StorageClass = v.InferOutput<typeof storageClassObject>;
export type CsiNode = v.InferOutput<typeof csiNodeObject>;
export type Capacity = v.InferOutput<typeof capacityObject>;
export type SnapshotContent = v.InferOutput<typeof snapshotContentObject>;
export type KubeEvent = v.InferOutput<typeof eventObject>;

/** Reads `kubectl get --output json`: a list, or one object. Throws if an object lacks what the commands need. */
export function parseItems<T>(schema: v.GenericSchema<unknown, T>, json: string): readonly T[] {
  const list = v.parse(
    v.looseObject({ items: v.optional(v.array(v.unknown())) }),
    JSON.parse(json),
  );
  return v.parse(v.array(schema), list.items ?? [list]);
}

/** `NAMESPACE/NAME`, or the name of an object without a namespace. */
export function nameOf({
  metadata: { namespace, name },
}: {
  metadata: { namespace: string; name: string };
}): string {
  return namespace === '' ? name : `${namespace}/${name}`;
}
