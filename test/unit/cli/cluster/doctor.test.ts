import test, { type ExecutionContext } from 'ava';
import { diagnose } from '../../../../src/cli/cluster/doctor.ts';
import type { Absence, Agents, Node } from '../../../../src/controller/agents.ts';
import { absent, undecided } from '../../../../src/controller/route.ts';
import { missing, nodeTagOf } from '../../../../src/ids.ts';
import {
  capacity,
  claim,
  driverName,
  driverPod,
  type FakeCluster,
  makeFakeCluster,
  nodeVolume,
  persistentVolume,
  snapshotController,
  storageClass,
  useController,
  user,
} from '../../../helpers/fake-cluster.ts';

/** Runs the doctor, and returns what it found wrong as lines of `state name: message -> remedy`. */
async function problemsOf({ kubectl }: FakeCluster): Promise<readonly string[]> {
  const findings = await diagnose(kubectl, driverName);
  return findings
    .filter(({ state }) => state !== 'ok')
    .map(({ state, name, message, remedy }) => `${state} ${name}: ${message} -> ${remedy}`);
}

async function findsOnly(
  t: ExecutionContext,
  cluster: FakeCluster,
  ...patterns: readonly RegExp[]
): Promise<void> {
  const found = await problemsOf(cluster);
  t.is(found.length, patterns.length, found.join('\n'));
  for (const [index, pattern] of patterns.entries()) t.regex(found[index] ?? '', pattern);
}

/** Returns the remedy for a claim of which the provisioner has reported that error. */
async function remedyFor(
  t: ExecutionContext,
  cluster: FakeCluster,
  error: string,
): Promise<string> {
  cluster.objects['events'] = [
    {
      metadata: { name: 'refusal', namespace: 'default' },
      reason: 'ProvisioningFailed',
      message: `failed to provision volume with StorageClass "loopcsi": rpc error: code = ${error}`,
      lastTimestamp: '2026-01-01T00:00:00Z',
      involvedObject: { kind: 'PersistentVolumeClaim', namespace: 'default', name: 'data' },
    },
  ];
  const [found = '', ...others] = await problemsOf(cluster);
  t.deepEqual(others, []);
  return found.split(' -> ')[1] ?? '';
}

test('a healthy cluster has no problem', async (t) => {
  await findsOnly(t, makeFakeCluster(['n1', 'n2']));
});

test('no driver, and the event that says why', async (t) => {
  const cluster = makeFakeCluster();
  cluster.objects['pods'] = [];
  cluster.objects['csistoragecapacities'] = [];
  await findsOnly(
    t,
    cluster,
    /^fail driver: no pod of driver loopcsi\.io exists -> install the chart/,
  );
  cluster.objects['events'] = [
    {
      metadata: { name: 'e', namespace: 'loopcsi' },
      reason: 'FailedCreate',
      message: 'pods "loopcsi-node-x" is forbidden: violates PodSecurity "baseline:latest"',
      involvedObject: { kind: 'DaemonSet', namespace: 'loopcsi', name: 'loopcsi-node' },
    },
  ];
  await findsOnly(
    t,
    cluster,
    /^fail pod-security: namespace loopcsi .* -> kubectl label namespace loopcsi pod-security/,
  );
});

test('a pod that cannot get its image', async (t) => {
  const cluster = makeFakeCluster(['n1', 'n2']);
  cluster.objects['pods'] = [
    driverPod('n1'),
    driverPod('n2', {
      isReady: false,
      waiting: { reason: 'ImagePullBackOff', message: 'not found' },
    }),
  ];
  await findsOnly(
    t,
    cluster,
    /^fail driver:n2: .*driver: ImagePullBackOff: not found -> the node cannot get the image/,
  );
});

test('a driver that its kubelet has not registered, and a node without driver', async (t) => {
  const cluster = makeFakeCluster(['n1']);
  cluster.objects['csinodes'] = [{ metadata: { name: 'n1' }, spec: { drivers: null } }];
  cluster.objects['nodes']?.push(
    { metadata: { name: 'n2' } },
    { metadata: { name: 'n3' }, spec: { unschedulable: true } },
  );
  await findsOnly(
    t,
    cluster,
    /^fail registration:n1: .* -> kubeletDir/,
    /^warn nodes-without-driver: .*: n2 -> /,
  );
});

for (const [name, args, pattern] of [
  [
    'provisioner',
    ['--node-deployment=false'],
    /^fail sidecar:provisioner: provisioner runs with --node-deployment=false: .* -> remove --node-deployment from the chart's provisioner\.extraArgs/,
  ],
  ['snapshotter', ['--node-deployment=false'], /^fail sidecar:snapshotter: /],
  ['resizer', ['--leader-election=false'], /^fail sidecar:resizer: .*several resizers/],
] as const) {
  test(`a flag of the ${name} that extraArgs override`, async (t) => {
    const cluster = makeFakeCluster();
    const [pod] = cluster.objects['pods'] as {
      spec: { containers: { name: string; args: string[] }[] };
    }[];
    pod?.spec.containers.find((one) => one.name === name)?.args.push(...args);
    await findsOnly(t, cluster, pattern);
  });
}

test('with a controller, its sidecars need other flags, and no snapshot-controller needs to be distributed', async (t) => {
  const cluster = makeFakeCluster(['n1', 'n2']);
  useController(cluster);
  await findsOnly(t, cluster);
  cluster.objects['deployments.apps']?.splice(0, 1, snapshotController(['--v=5']));
  await findsOnly(t, cluster);
});

test('a controller that is not ready, and drivers without their controller', async (t) => {
  const cluster = makeFakeCluster();
  useController(cluster, { isReady: false });
  await findsOnly(
    t,
    cluster,
    /^fail controller: no pod of the controller is ready.* -> kubectl describe pod --namespace loopcsi loopcsi-controller/,
  );
  cluster.objects['deployments.apps']?.splice(1, 1);
  cluster.objects['pods']?.splice(1, 1);
  await findsOnly(
    t,
    cluster,
    /^fail controller: the drivers wait for a controller, but no Deployment/,
  );
});

test('a driver that the rollout has not replaced yet', async (t) => {
  const cluster = makeFakeCluster(['n1', 'n2']);
  useController(cluster);
  const pods = cluster.objects['pods'] as { spec: { containers: { args: string[] }[] } }[];
  pods[1]?.spec.containers[0]?.args.pop();
  await findsOnly(
    t,
    cluster,
    /^warn controller:n2: the driver on node n2 has no port for the controller yet/,
  );
});

for (const [name, arg, pattern] of [
  ['provisioner', '--leader-election=false', /^fail sidecar:provisioner: .*several provisioners/],
  [
    'provisioner',
    '--node-deployment=true',
    /^fail sidecar:provisioner: .*only volumes of the node/,
  ],
  ['provisioner', '--node-deployment', /^fail sidecar:provisioner: .*only volumes of the node/],
  [
    'snapshotter',
    '--node-deployment=true',
    /^fail sidecar:snapshotter: .*only snapshots of the node/,
  ],
  ['resizer', '--leader-election=false', /^fail sidecar:resizer: .*several resizers/],
] as const) {
  test(`with a controller: ${name} with ${arg}`, async (t) => {
    const cluster = makeFakeCluster();
    useController(cluster, { extraArgs: { [name]: [arg] } });
    await findsOnly(t, cluster, pattern);
  });
}

test('a snapshot-controller that is not distributed, or missing', async (t) => {
  const cluster = makeFakeCluster();
  cluster.objects['deployments.apps'] = [snapshotController(['--v=5'])];
  await findsOnly(
    t,
    cluster,
    /^fail snapshot-controller: .*kube-system\/snapshot-controller runs without --enable-distributed/,
  );
  cluster.objects['deployments.apps'] = [];
  await findsOnly(t, cluster, /^warn snapshot-controller: no Deployment/);
  delete cluster.objects['volumesnapshotcontents.snapshot.storage.k8s.io'];
  await findsOnly(t, cluster);
});

test('snapshot contents without a node, on a lost node, and with an error', async (t) => {
  const label = 'snapshot.storage.kubernetes.io/managed-by';
  const content = (
    name: string,
    labels: object,
    status: object = { readyToUse: true },
  ): Record<string, unknown> => ({
    metadata: { name, labels },
    spec: { driver: driverName, volumeSnapshotRef: { namespace: 'default', name: `of-${name}` } },
    status,
  });
  const cluster = makeFakeCluster();
  cluster.objects['volumesnapshotcontents.snapshot.storage.k8s.io'] = [
    content('good', { [label]: 'n1' }),
    content('bare', {}),
    content('lost', { [label]: 'n9' }),
    content(
      'late',
      { [label]: 'n1' },
      { readyToUse: false, error: { message: 'volume is in use' } },
    ),
  ];
  await findsOnly(
    t,
    cluster,
    /^fail snapshot:default\/of-bare: .* -> kubectl label volumesnapshotcontent bare /,
    /^fail snapshot:default\/of-lost: .*node n9/,
    /^warn snapshot:default\/of-late: .*volume is in use/,
  );
});

test('default classes: none, several', async (t) => {
  const cluster = makeFakeCluster();
  cluster.objects['storageclasses'] = [storageClass('loopcsi')];
  await findsOnly(t, cluster, /^warn default-class: no StorageClass is the default/);
  cluster.objects['storageclasses'] = [
    storageClass('loopcsi', { isDefault: true }),
    { ...storageClass('local-path', { isDefault: true }), provisioner: 'rancher.io/local-path' },
  ];
  await findsOnly(t, cluster, /^warn default-class: several .*: loopcsi, local-path/);
});

test('a class without capacity on one node', async (t) => {
  const cluster = makeFakeCluster(['n1', 'n2']);
  cluster.objects['csistoragecapacities'] = [capacity('loopcsi', 'n1', '1Gi')];
  await findsOnly(t, cluster, /^fail capacity: .*loopcsi on n2/);
});

test('why a claim is pending: nobody uses it, unknown class, another driver', async (t) => {
  const cluster = makeFakeCluster();
  cluster.objects['persistentvolumeclaims'] = [
    claim('unused'),
    claim('typo', { className: 'loopcis' }),
    claim('static', { className: '' }),
    claim('bound', { phase: 'Bound' }),
    claim('foreign', { className: 'other' }),
  ];
  cluster.objects['storageclasses']?.push({
    metadata: { name: 'other' },
    provisioner: 'example.org',
  });
  await findsOnly(
    t,
    cluster,
    /^warn claim:default\/unused: no pod uses it.* this is normal$/,
    /^warn claim:default\/typo: its StorageClass 'loopcis' does not exist/,
  );
});

test('why a claim is pending: the driver refuses it; only its newest refusal counts', async (t) => {
  const cluster = makeFakeCluster();
  const event = (message: string, lastTimestamp: string): Record<string, unknown> => ({
    metadata: { name: message.length, namespace: 'default' },
    reason: 'ProvisioningFailed',
    message,
    lastTimestamp,
    involvedObject: { kind: 'PersistentVolumeClaim', namespace: 'default', name: 'data' },
  });
  cluster.objects['persistentvolumeclaims'] = [claim('data')];
  cluster.objects['pods']?.push(user('app', 'data'));
  cluster.objects['events'] = [
    { ...event('old', '2026-01-01T00:00:00Z'), metadata: { name: 'a', namespace: 'default' } },
    {
      ...event(
        'failed to provision volume with StorageClass "loopcsi": rpc error: code = InvalidArgument desc = pool \'fats\' does not exist',
        '2026-01-01T00:01:00Z',
      ),
      metadata: { name: 'b', namespace: 'default' },
    },
  ];
  await findsOnly(
    t,
    cluster,
    /^fail claim:default\/data: the driver refuses it: pool 'fats' does not exist -> change what the message names/,
  );
});

test('why a claim is pending: the node of its source cannot be asked, so that no other node is advised', async (t) => {
  const cluster = makeFakeCluster(['n1', 'n2']);
  cluster.objects['persistentvolumeclaims'] = [claim('data')];
  cluster.objects['pods']?.push(user('app', 'data'));
  const absences: readonly (Absence | undefined)[] = [
    { kind: 'unreachable', sinceMs: 0, problem: 'the connection was lost' },
    { kind: 'refused', sinceMs: 0, why: 'its driver is older' },
    { kind: 'connecting', sinceMs: 0 },
    undefined,
  ];
  const agents = { absentForMs: () => 60_000 } as unknown as Agents;
  const errors = absences.map((absence) => {
    const node = { name: 'n2', tag: nodeTagOf('n2'), absence } as Node;
    return absent(node, agents).message;
  });
  const unseen = undecided(
    's.1a2b3c4d',
    'snapshot',
    { kind: 'unknown', tag: nodeTagOf('n2') },
    agents,
  ).message;
  const becomes = async (code: string, message: string, remedy: RegExp): Promise<void> => {
    t.regex(await remedyFor(t, cluster, `${code} desc = ${message}`), remedy);
  };
  const noOther =
    /^the source is on node 'n2', which the controller cannot use now, and no other node can make the copy: .* make the driver of the node ready/;
  await becomes('Unavailable', unseen, noOther);
  for (const error of errors) {
    const elsewhere = `volume 'copy': its source, snapshot 's.1a2b3c4d', is on node 'n2', and the request asks for 'n1'; a copy can only be made on the node of its source; ${error}`;
    await becomes('ResourceExhausted', elsewhere, noOther);
    const copied = `volume 'copy': its source, snapshot 's.1a2b3c4d', is on node 'n2'; ${error}`;
    await becomes('Unavailable', copied, noOther);
    // Not about a source: the node itself is the only candidate.
    await becomes('Unavailable', error, /^do what the message says about that node/);
  }
  const unreachable = `volume 'v' cannot be created now, and another node should be chosen: ${errors[0] ?? ''}`;
  await becomes('ResourceExhausted', unreachable, /^another node is tried$/);
});

test('why a claim is pending: each refusal of a controller has its remedy', async (t) => {
  const cluster = makeFakeCluster(['n1', 'n2']);
  cluster.objects['persistentvolumeclaims'] = [claim('data')];
  cluster.objects['pods']?.push(user('app', 'data'));
  const agents = { absentForMs: () => 60_000 } as unknown as Agents;
  const unheard = (tag: string): string =>
    `Unavailable desc = ${
      undecided(
        `s.${tag}`,
        'snapshot',
        {
          kind: 'unheard',
          tag,
          node: { name: 'n1', tag: nodeTagOf('n1'), absence: undefined } as Node,
        },
        agents,
      ).message
    }`;
  const home = nodeTagOf('n2');
  const cases: readonly (readonly [error: string, remedy: RegExp])[] = [
    [unheard(home), /^it is decided once .* node remember n2; if its data is given up: delete/],
    [unheard('1a2b3c4d'), /node remember NODE; if its data is given up: delete the claim$/],
    [
      `NotFound desc = ${missing('snapshot', `s.${home}`).message}`,
      /^the source was deleted, or lost with its node: delete the claim.* node remember n2$/,
    ],
    [
      `NotFound desc = ${missing('snapshot', 's.1a2b3c4d').message}`,
      /^the source was deleted, or lost with its node: delete the claim[^;]*$/,
    ],
    [
      "Unavailable desc = volume 'v': no node is known to this controller yet; retry later",
      /^do what the message says; the claim is retried/,
    ],
    [
      "Unavailable desc = node 'n1' (tag 0badcafe) does not say whether it has volume 'v': pool 'a' is not mounted",
      /^do what the message says; the claim is retried/,
    ],
    [
      "Unavailable desc = volume 'v' may have been made on node 'n1' (tag 0badcafe), which does not answer; start its driver, or if it never comes back: loopcsi node forget n1",
      /^do what the message says; the claim is retried/,
    ],
    [
      "Aborted desc = volume 'v' is being created already; retry later",
      /^the claim is retried: look again in a minute/,
    ],
    [
      "DeadlineExceeded desc = node 'n1' has not answered within the deadline; if it has begun, it continues: repeat the call",
      /^the claim is retried: look again in a minute/,
    ],
    ['Internal desc = internal error, see the driver log', /^look at the log of the driver/],
    ["ResourceExhausted desc = volume 'v': no space", /^another node is tried$/],
    ["OutOfRange desc = volume 'v' is too large", /^change what the message names/],
  ];
  for (const [error, remedy] of cases) {
    t.regex(await remedyFor(t, cluster, error), remedy, error);
  }
});

test('why a claim is pending: its source is on another node, which is named', async (t) => {
  const refusal = (where: string): Record<string, unknown> => ({
    metadata: { name: 'refusal', namespace: 'default' },
    reason: 'ProvisioningFailed',
    message: `failed to provision volume with StorageClass "loopcsi": rpc error: code = ResourceExhausted desc = volume 'copy' cannot be created: its source, snapshot 's.1a2b3c4d', is on ${where}, and this is the node with tag 00000000`,
    lastTimestamp: '2026-01-01T00:00:00Z',
    involvedObject: { kind: 'PersistentVolumeClaim', namespace: 'default', name: 'data' },
  });
  const cluster = makeFakeCluster(['n1', 'n2']);
  cluster.objects['persistentvolumeclaims'] = [claim('data')];
  const unschedulable =
    'running PreBind plugin "VolumeBinding": binding volumes: provisioning failed for PVC "data"';
  cluster.objects['pods']?.push(user('app', 'data', { unschedulable }));
  const named =
    /^fail claim:default\/data: .* -> the source is on node 'n2': .* nodeSelector \{topology\.loopcsi\.io\/node: n2\}/;
  for (const where of [`the node with tag ${nodeTagOf('n2')}`, "node 'n2'"]) {
    cluster.objects['events'] = [refusal(where)];
    await findsOnly(t, cluster, named);
  }
  for (const where of [`the node with tag ${nodeTagOf('n3')}`, "node 'n3'"]) {
    cluster.objects['events'] = [refusal(where)];
    await findsOnly(
      t,
      cluster,
      /^fail claim:default\/data: .* -> no node of the cluster has that name or tag/,
    );
  }
});

test('why a claim is pending: no space; spec.nodeName', async (t) => {
  const cluster = makeFakeCluster(['n1', 'n2']);
  cluster.objects['csistoragecapacities'] = [
    capacity('loopcsi', 'n1', '1Gi'),
    capacity('loopcsi', 'n2', '20Gi'),
  ];
  cluster.objects['persistentvolumeclaims'] = [claim('big', { size: '50Gi' }), claim('pinned')];
  cluster.objects['pods']?.push(
    user('app', 'big', {
      unschedulable: '0/2 nodes are available: 2 node(s) did not have enough free storage.',
    }),
    user('pinned', 'pinned', { node: 'n1' }),
  );
  await findsOnly(
    t,
    cluster,
    /^fail claim:default\/big: pod default\/app cannot be scheduled: .* -> it requests 50Gi; the nodes offer 20Gi \(n2\), 1Gi \(n1\)/,
    /^fail claim:default\/pinned: .*spec\.nodeName.* -> use nodeSelector: \{topology\.loopcsi\.io\/node: n1\}/,
  );
});

const ofClaim = 'pvc-11111111-2222-3333-4444-555555555555.1a2b3c4d';

test('volumes without a PersistentVolume: only those of claims', async (t) => {
  const cluster = makeFakeCluster();
  cluster.answers['n1'] = {
    ...cluster.answers['n1'],
    'volume list --json': JSON.stringify([
      nodeVolume(ofClaim),
      nodeVolume('docker-data.1a2b3c4d'),
      nodeVolume('csi-x.1a2b3c4d', { ephemeral: true }),
    ]),
  };
  await findsOnly(
    t,
    cluster,
    /^warn volume:pvc-1{8}-.* on node n1 has no PersistentVolume.* -> .*loopcsi-node-n1 .*loopcsi volume delete pvc-1/,
  );
  cluster.objects['persistentvolumes'] = [persistentVolume('pv', 'n1', ofClaim)];
  await findsOnly(t, cluster);
});

test('a new volume has no PersistentVolume yet, and an adopted one has one with another id', async (t) => {
  const cluster = makeFakeCluster();
  const list = (more: object): void => {
    const volumes = JSON.stringify([nodeVolume(ofClaim, { ...more })]);
    cluster.answers['n1'] = { ...cluster.answers['n1'], 'volume list --json': volumes };
  };
  list({ createdAt: new Date().toISOString() });
  await findsOnly(t, cluster);
  list({ createdAt: '2026-01-01T00:00:00Z', owner: { persistentVolume: 'pv' } });
  cluster.objects['persistentvolumes'] = [persistentVolume('pv', 'n9', 'before.1')];
  const [adopted] = await problemsOf(cluster);
  t.regex(adopted ?? '', /names before\.1: its pool was moved .* -> .*loopcsi volume manifest/);
});

test('snapshots that may not be read are not taken for a cluster without snapshots', async (t) => {
  const cluster = makeFakeCluster();
  const { attempt } = cluster.kubectl;
  const kubectl = {
    ...cluster.kubectl,
    attempt: async (...args: readonly string[]) =>
      args[1]?.startsWith('volumesnapshotcontents') === true
        ? { exitCode: 1, stdout: '', stderr: 'Error from server (Forbidden): cannot list' }
        : attempt(...args),
  };
  await findsOnly(t, { ...cluster, kubectl }, /^warn snapshots: .*Forbidden/);
});

test('PersistentVolumes without a volume: lost node, volume not there, node that does not answer', async (t) => {
  const cluster = makeFakeCluster(['n1', 'n2']);
  cluster.objects['persistentvolumes'] = [
    persistentVolume('lost', 'n9', 'a.1'),
    persistentVolume('missing', 'n1', 'b.1'),
    persistentVolume('unknown', 'n2', 'c.1'),
  ];
  cluster.answers['n2'] = {};
  await findsOnly(
    t,
    cluster,
    /^fail pv:lost: PersistentVolume lost of claim default\/data is on node n9/,
    /^fail pv:missing: .*names volume b\.1, which node n1 does not have/,
    /^fail node:n2: the driver on node n2 did not answer/,
  );
});

test('what the doctor of a node finds', async (t) => {
  const cluster = makeFakeCluster();
  const report = [
    { name: 'pool:fast', state: 'fail', message: 'it is not mounted', remedy: 'mount it' },
  ];
  cluster.answers['n1'] = { ...cluster.answers['n1'], 'doctor --json': JSON.stringify(report) };
  await findsOnly(t, cluster, /^fail node:n1:pool:fast: it is not mounted -> mount it$/);
});
