/** Makes the objects of scenarios, with the fields that all of them share. */
import { images } from '../cluster/images.ts';
import { apiVersionOf } from './api.ts';

/** The annotation with which the scheduler assigns a claim to a node. */
export const selectedNode = 'volume.kubernetes.io/selected-node';

export interface ClaimOptions {
  readonly storageClass?: string;
  readonly size?: string;
  readonly block?: boolean;
  readonly accessMode?: string;
  /** The name of the node that creates the volume: the claim is assigned to it as the scheduler assigns claims of pods. */
  readonly assignedTo?: string;
  /** The PersistentVolume that the claim is for, which exists already. */
  readonly volumeName?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly source?: {
    readonly kind: 'VolumeSnapshot' | 'PersistentVolumeClaim';
    readonly name: string;
  };
}

export function claimSpec(options: ClaimOptions): object {
  const { source } = options;
  const apiGroup = source?.kind === 'VolumeSnapshot' ? { apiGroup: 'snapshot.storage.k8s.io' } : {};
  return {
    ...(options.storageClass === undefined ? {} : { storageClassName: options.storageClass }),
    ...(options.volumeName === undefined ? {} : { volumeName: options.volumeName }),
    accessModes: [options.accessMode ?? 'ReadWriteOnce'],
    volumeMode: options.block === true ? 'Block' : 'Filesystem',
    resources: { requests: { storage: options.size ?? '64Mi' } },
    ...(source === undefined ? {} : { dataSource: { ...apiGroup, ...source } }),
  };
}

export function claim(name: string, options: ClaimOptions): object {
  const kind = 'PersistentVolumeClaim';
  const { assignedTo } = options;
  const annotations = assignedTo === undefined ? {} : { [selectedNode]: assignedTo };
  const metadata = { name, annotations, labels: options.labels ?? {} };
  return { apiVersion: apiVersionOf(kind), kind, metadata, spec: claimSpec(options) };
}

export interface PodOptions {
  /** Claims by mount path, or by device path if `block` is set. */
  readonly claims?: Readonly<Record<string, string>>;
  readonly block?: boolean;
  readonly readOnly?: boolean;
  /** A shell script that runs before the pod sleeps forever. The pod is ready once the script has succeeded. */
  readonly script?: string;
  /** Volumes other than claims, by mount path. */
  readonly volumes?: Readonly<Record<string, object>>;
  readonly labels?: Readonly<Record<string, string>>;
  readonly securityContext?: object;
  readonly restartPolicy?: 'Always' | 'Never';
  /** The name of the only node on which the pod may run. */
  readonly node?: string;
  /** Busybox by default. */
  readonly image?: string;
}

const readyMark = '/tmp/ready';

export function pod(name: string, options: PodOptions): object {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, labels: { app: name, ...options.labels } },
    spec: podSpec(options),
  };
}

interface PodSpec {
  readonly containers: readonly object[];
  readonly [field: string]: unknown;
}

export function podSpec(options: PodOptions): PodSpec {
  const mounts = [
    ...Object.entries(options.claims ?? {}).map(([path, claimName]) => ({
      path,
      source: { persistentVolumeClaim: { claimName } },
    })),
    ...Object.entries(options.volumes ?? {}).map(([path, source]) => ({ path, source })),
  ].map((mount, index) => ({ name: `v${index}`, ...mount }));
  const script = `${options.script ?? ':'} && touch ${readyMark} && exec sleep 1000000`;
  return {
    terminationGracePeriodSeconds: 1,
    dnsPolicy: 'Default', // the cluster has no name service
    restartPolicy: options.restartPolicy ?? 'Always',
    ...(options.node === undefined
      ? {}
      : { nodeSelector: { 'kubernetes.io/hostname': options.node } }),
    ...(options.securityContext === undefined ? {} : { securityContext: options.securityContext }),
    containers: [
      {
        name: 'c',
        image: options.image ?? images.busybox,
        imagePullPolicy: 'Never',
        command: ['sh', '-c', script],
        readinessProbe: { exec: { command: ['test', '-e', readyMark] }, periodSeconds: 1 },
        ...(options.block === true
          ? { volumeDevices: mounts.map(({ name, path }) => ({ name, devicePath: path })) }
          : {
              volumeMounts: mounts.map(({ name, path }) => ({
                name,
                mountPath: path,
                readOnly: options.readOnly ?? false,
              })),
            }),
      },
    ],
    volumes: mounts.map(({ name, source }) => ({ name, ...source })),
  };
}

export interface StatefulSetOptions {
  readonly replicas: number;
  readonly script: string;
  readonly claim: ClaimOptions;
  /** At most one replica on each node. */
  readonly spread?: boolean;
}

/** Its replicas have a volume each, from the claim template `data`, at /data. */
export function statefulSet(name: string, options: StatefulSetOptions): object {
  const labels = { app: name };
  const apart = {
    requiredDuringSchedulingIgnoredDuringExecution: [
      { labelSelector: { matchLabels: labels }, topologyKey: 'kubernetes.io/hostname' },
    ],
  };
  const spec = podSpec({ script: options.script });
  const volume = { volumeMounts: [{ name: 'data', mountPath: '/data' }] };
  return {
    metadata: { name },
    spec: {
      serviceName: name,
      replicas: options.replicas,
      podManagementPolicy: 'Parallel',
      selector: { matchLabels: labels },
      template: {
        metadata: { labels },
        spec: {
          ...spec,
          ...(options.spread === true ? { affinity: { podAntiAffinity: apart } } : {}),
          volumes: [],
          containers: spec.containers.map((container) => ({ ...container, ...volume })),
        },
      },
      volumeClaimTemplates: [{ metadata: { name: 'data' }, spec: claimSpec(options.claim) }],
    },
  };
}
