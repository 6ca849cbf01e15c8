/** A cluster of one or more nodes for tests of the cluster commands, as kubectl and the drivers answer. */
import type { Kubectl, KubectlResult } from '../../src/cli/cluster/kubectl.ts';

type KubeObject = Readonly<Record<string, unknown>>;

export const driverName = 'loopcsi.io';
export const topologyKey = `topology.${driverName}/node`;

/** Flags of the sidecars as the chart has them. */
export const sidecarArgs = {
  provisioner: [
    '--node-deployment=true',
    '--strict-topology=true',
    '--enable-capacity=true',
    '--extra-create-metadata=true',
  ],
  snapshotter: ['--node-deployment=true', '--extra-create-metadata=true'],
  resizer: ['--leader-election=true'],
} as const;

export interface FakeCluster {
  /** Objects by kind, as in `kubectl get KIND`. */
  readonly objects: Record<string, KubeObject[]>;
  /** What `loopcsi` prints on a node: by node, then by its arguments. */
  readonly answers: Record<string, Record<string, string>>;
  readonly kubectl: Kubectl;
  /** Every command that was run. */
  readonly commands: string[][];
}

/** A healthy cluster: the driver runs on every node, and nothing else exists. */
export function makeFakeCluster(nodes: readonly string[] = ['n1']): FakeCluster {
  const objects: FakeCluster['objects'] = {
    nodes: nodes.map((name) => ({ metadata: { name } })),
    pods: nodes.map((node) => driverPod(node)),
    'daemonsets.apps': [
      {
        metadata: {
          name: 'loopcsi-node',
          namespace: 'loopcsi',
          labels: { 'app.kubernetes.io/part-of': 'loopcsi' },
        },
        status: { desiredNumberScheduled: nodes.length, currentNumberScheduled: nodes.length },
      },
    ],
    'deployments.apps': [snapshotController(['--enable-distributed-snapshotting=true'])],
    csidrivers: [
      {
        metadata: {
          name: driverName,
          annotations: { 'meta.helm.sh/release-namespace': 'loopcsi' },
        },
      },
    ],
    csinodes: nodes.map((name) => ({
      metadata: { name },
      spec: { drivers: [{ name: driverName }] },
    })),
    storageclasses: [storageClass('loopcsi', { isDefault: true })],
    csistoragecapacities: nodes.map((node) => capacity('loopcsi', node, '10Gi')),
    persistentvolumes: [],
    persistentvolumeclaims: [],
    events: [],
    'volumesnapshotcontents.snapshot.storage.k8s.io': [],
  };
  const healthy = JSON.stringify([{ name: 'kernel', state: 'ok', message: 'fine', remedy: '' }]);
  const answers: FakeCluster['answers'] = Object.fromEntries(
    nodes.map((node) => [
      node,
      {
        'volume list --json': '[]',
        'doctor --json': healthy,
        'pool list --json': '[]',
      },
    ]),
  );
  const commands: string[][] = [];
  const attempt = async (...args: readonly string[]): Promise<KubectlResult> => {
    commands.push([...args]);
    return Promise.resolve(answer(objects, answers, args));
  };
  const run = async (...args: readonly string[]): Promise<string> => {
    const { exitCode, stdout, stderr } = await attempt(...args);
    if (exitCode !== 0) throw new Error(stderr);
    return stdout;
  };
  const attach = async (...args: readonly string[]): Promise<number> =>
    (await attempt(...args)).exitCode;
  return { objects, answers, commands, kubectl: { attempt, run, attach } };
}

function answer(
  objects: FakeCluster['objects'],
  answers: FakeCluster['answers'],
  args: readonly string[],
): KubectlResult {
  const [verb = '', kind = ''] = args;
  const done = (stdout: string): KubectlResult => ({ exitCode: 0, stdout, stderr: '' });
  const failed = (stderr: string): KubectlResult => ({ exitCode: 1, stdout: '', stderr });
  switch (verb) {
    case 'get': {
      if (kind === 'node') {
        const node = objects['nodes']?.find((one) => nameOf(one) === args[2]);
        return node === undefined
          ? failed(`Error from server (NotFound): nodes "${args[2] ?? ''}" not found`)
          : done(JSON.stringify(node));
      }
      const isOfDriver = args.some((arg) => arg.startsWith('--selector='));
      const items = objects[kind]?.filter((item) => !isOfDriver || hasDriverLabels(item));
      return items === undefined
        ? failed(`the server doesn't have a resource type "${kind}"`)
        : done(JSON.stringify({ items }));
    }
    case 'exec': {
      const command = args.slice(args.indexOf('--') + 2).join(' ');
      const pod = args[args.indexOf('--') - 1] ?? '';
      const text = answers[pod.replace('loopcsi-node-', '')]?.[command];
      if (text === undefined) return failed('command terminated with exit code 1');
      return { ...done(text), stderr: answers[pod.replace('loopcsi-node-', '')]?.['stderr'] ?? '' };
    }
    default:
      return done(`${args.join(' ')}\n`);
  }
}

function nameOf({ metadata }: KubeObject): unknown {
  return typeof metadata === 'object' && metadata !== null && 'name' in metadata
    ? metadata.name
    : undefined;
}

function hasDriverLabels(item: KubeObject): boolean {
  return JSON.stringify(item).includes('"app.kubernetes.io/part-of":"loopcsi"');
}

/** Changes a cluster to the shape with a controller: its Deployment and pod have the sidecars, the driver's pods have none. */
export function useController(
  cluster: FakeCluster,
  { isReady = true, extraArgs = {} }: ControllerShape = {},
): void {
  const sidecars = {
    provisioner: [
      '--leader-election=true',
      '--enable-capacity=true',
      '--extra-create-metadata=true',
    ],
    snapshotter: ['--leader-election=true'],
    resizer: ['--leader-election=true'],
  };
  const containers = [
    { name: 'controller', args: ['controller', `--driver-name=${driverName}`] },
    ...Object.entries(sidecars).map(([name, args]) => ({
      name,
      args: [...args, ...(extraArgs[name] ?? [])],
    })),
  ];
  const metadata = { name: 'loopcsi-controller', namespace: 'loopcsi' };
  const status = {
    phase: 'Running',
    conditions: [{ type: 'Ready', status: isReady ? 'True' : 'False' }],
  };
  for (const pod of cluster.objects['pods'] ?? []) {
    const spec = pod['spec'] as { containers: { name: string; args: string[] }[] };
    spec.containers = spec.containers.filter(({ name }) => name === 'driver');
    spec.containers[0]?.args.push('--agent-address=[$(POD_IP)]:9737');
  }
  cluster.objects['deployments.apps']?.push({
    metadata,
    spec: { template: { spec: { containers } } },
  });
  cluster.objects['pods']?.push({ metadata, spec: { nodeName: 'n1', containers }, status });
}

interface ControllerShape {
  readonly isReady?: boolean;
  readonly extraArgs?: Readonly<Record<string, readonly string[]>>;
}

export function driverPod(
  node: string,
  more: { readonly isReady?: boolean; readonly waiting?: object } = {},
): KubeObject {
  const { isReady = true, waiting } = more;
  return {
    metadata: {
      name: `loopcsi-node-${node}`,
      namespace: 'loopcsi',
      labels: { 'app.kubernetes.io/part-of': 'loopcsi', 'app.kubernetes.io/component': 'node' },
    },
    spec: {
      nodeName: node,
      containers: [
        {
          name: 'driver',
          image: 'loopcsi:0.1.0',
          args: ['serve', `--driver-name=${driverName}`],
          env: [{ name: 'A', value: 'hunter2' }],
        },
        ...Object.entries(sidecarArgs).map(([name, args]) => ({ name, args: [...args] })),
      ],
    },
    status: {
      phase: 'Running',
      conditions: [{ type: 'Ready', status: isReady ? 'True' : 'False' }],
      containerStatuses: waiting === undefined ? [] : [{ name: 'driver', state: { waiting } }],
    },
  };
}

export function snapshotController(args: readonly string[]): KubeObject {
  const containers = [
    { name: 'snapshot-controller', image: 'example.org/snapshot-controller:v8', args },
  ];
  return {
    metadata: { name: 'snapshot-controller', namespace: 'kube-system' },
    spec: { template: { spec: { containers } } },
  };
}

export function storageClass(
  name: string,
  { isDefault = false, mode = 'WaitForFirstConsumer' } = {},
): KubeObject {
  const annotations = isDefault ? { 'storageclass.kubernetes.io/is-default-class': 'true' } : {};
  return { metadata: { name, annotations }, provisioner: driverName, volumeBindingMode: mode };
}

export function capacity(className: string, node: string, bytes: string): KubeObject {
  return {
    metadata: { name: `${className}-${node}`, namespace: 'loopcsi' },
    storageClassName: className,
    capacity: bytes,
    nodeTopology: { matchLabels: { [topologyKey]: node } },
  };
}

export function claim(
  name: string,
  more: { readonly className?: string; readonly phase?: string; readonly size?: string } = {},
): KubeObject {
  const { className = 'loopcsi', phase = 'Pending', size = '1Gi' } = more;
  return {
    metadata: { name, namespace: 'default' },
    spec: { storageClassName: className, resources: { requests: { storage: size } } },
    status: { phase },
  };
}

export function persistentVolume(name: string, node: string, handle: string): KubeObject {
  return {
    metadata: { name },
    spec: {
      capacity: { storage: '1Gi' },
      storageClassName: 'loopcsi',
      claimRef: { namespace: 'default', name: 'data' },
      csi: { driver: driverName, volumeHandle: handle },
      nodeAffinity: {
        required: {
          nodeSelectorTerms: [{ matchExpressions: [{ key: topologyKey, values: [node] }] }],
        },
      },
    },
    status: { phase: 'Bound' },
  };
}

/** A pod that mounts the claim. */
export function user(
  name: string,
  claimName: string,
  more: { readonly node?: string; readonly unschedulable?: string } = {},
): KubeObject {
  const { node = '', unschedulable } = more;
  return {
    metadata: { name, namespace: 'default' },
    spec: {
      nodeName: node,
      containers: [{ name: 'main' }],
      volumes: [{ name: 'data', persistentVolumeClaim: { claimName } }],
    },
    status: {
      phase: 'Pending',
      conditions:
        unschedulable === undefined
          ? []
          : [
              {
                type: 'PodScheduled',
                status: 'False',
                reason: 'Unschedulable',
                message: unschedulable,
              },
            ],
    },
  };
}

/** A volume as `loopcsi volume list --json` prints it. */
export function nodeVolume(id: string, more: Readonly<Record<string, unknown>> = {}): KubeObject {
  return {
    id,
    name: id.replace(/\.[\da-f]{8}$/, ''),
    pool: 'default',
    kind: 'mount',
    fsType: 'ext4',
    sizeBytes: 2 ** 30,
    allocatedBytes: 2 ** 20,
    ephemeral: false,
    publishedAt: [],
    problems: [],
    ...more,
  };
}
