/** The Deployment with `loopcsi controller` and the central sidecars (`controller.enabled`). */
import test from 'ava';
import * as v from 'valibot';
import { chart, containersOf, helm, type Manifest, namespace, podOf, render } from './helm.ts';
import { image } from './samples.ts';

const enabled = { controller: { enabled: true }, snapshotter: { enabled: true } };
/** Everything that the Deployment can contain. */
const complete = {
  ...enabled,
  controller: {
    enabled: true,
    replicas: 2,
    snapshotMetadata: { enabled: true, tlsSecret: 'metadata-tls', caBundle: 'Y2E=', image },
    healthMonitor: { enabled: true, image },
  },
};

function find(objects: readonly Manifest[], kind: string, name: string): Manifest {
  const found = objects.find((one) => one.kind === kind && one.metadata.name === name);
  if (found === undefined) throw new Error(`no ${kind} ${name}`);
  return found;
}

const argsOf = (objects: readonly Manifest[], name: string): readonly string[] =>
  containersOf(objects).find((one) => one.name === name)?.args ?? [];

test('by default there is no controller, and with it the nodes have no sidecars and no API token', async (t) => {
  const without = await render({});
  t.false(without.some(({ kind }) => ['Deployment', 'Secret', 'Service'].includes(kind)));
  t.notRegex(JSON.stringify(without), /--agent-address|--tls-dir/);
  const objects = await render(enabled);
  const node = podOf(find(objects, 'DaemonSet', 'r1-loopcsi-node'));
  t.deepEqual(
    node?.containers.map(({ name }) => name),
    ['driver'],
  );
  t.false(JSON.stringify(node).includes('api-token'));
  const registered = await render({ ...enabled, registrar: { enabled: true } });
  t.deepEqual(
    podOf(find(registered, 'DaemonSet', 'r1-loopcsi-node'))?.containers.map(({ name }) => name),
    ['driver', 'registrar'],
  );
});

test('CSIDriver and classes are the same in both shapes, so volumes stay the same', async (t) => {
  const kinds = ['CSIDriver', 'StorageClass', 'VolumeSnapshotClass'];
  const pick = async (values: object): Promise<readonly Manifest[]> =>
    (await render(values)).filter(({ kind }) => kinds.includes(kind));
  t.deepEqual(await pick(enabled), await pick({ snapshotter: { enabled: true } }));
});

test('the sidecars of the Deployment have exactly these flags', async (t) => {
  const objects = await render(complete);
  const election = ['--leader-election=true', '--leader-election-namespace=$(NAMESPACE)'];
  const rate = ['--kube-api-qps=20', '--kube-api-burst=40'];
  const expected: Readonly<Record<string, readonly string[]>> = {
    provisioner: [
      ...election,
      ...rate,
      '--strict-topology=true',
      '--enable-capacity=true',
      '--capacity-ownerref-level=2',
      '--capacity-poll-interval=1m',
      '--capacity-threads=4',
      '--kube-api-capacity-qps=20',
      '--kube-api-capacity-burst=40',
      '--worker-threads=100',
      '--retry-interval-max=1m',
      '--extra-create-metadata=true',
      '--default-fstype=ext4',
      '--timeout=120s',
    ],
    snapshotter: [
      ...election,
      ...rate,
      '--worker-threads=32',
      '--retry-interval-max=1m',
      '--extra-create-metadata=true',
      '--timeout=120s',
    ],
    resizer: [
      ...election,
      ...rate,
      '--workers=32',
      '--handle-volume-inuse-error=false',
      '--resize-timeout=120s',
      '--modify-timeout=120s',
    ],
    'snapshot-metadata': [
      '--tls-cert=/snapshot-metadata-tls/tls.crt',
      '--tls-key=/snapshot-metadata-tls/tls.key',
      '--audience=loopcsi.io',
      '--max-streaming-duration-min=60',
    ],
    'health-monitor': [...election, '--monitor-interval=1m', '--timeout=120s'],
  };
  for (const [name, flags] of Object.entries(expected)) {
    const all = ['--csi-address=/csi/csi.sock', ...flags];
    t.deepEqual([...argsOf(objects, name)].sort(), [...all].sort(), name);
  }
  const deployment = podOf(find(objects, 'Deployment', 'r1-loopcsi-controller'));
  t.deepEqual(
    deployment?.containers.map(({ name }) => name),
    ['controller', ...Object.keys(expected)],
  );
});

test('controller and driver find and trust each other', async (t) => {
  const objects = await render(enabled);
  t.deepEqual(argsOf(objects, 'controller'), [
    'controller',
    '--endpoint=unix:///csi/csi.sock',
    '--driver-name=loopcsi.io',
    '--agents=endpointslices://storage/r1-loopcsi-agents',
    '--tls-dir=/tls',
    '--manage-certificates=storage/r1-loopcsi',
    '--node-records=configmap://storage/r1-loopcsi-nodes',
    '--node-loss-policy=keep',
    '--forget-deleted-nodes-after=30m',
    '--claim-events',
    '--http-address=[$(POD_IP)]:9736',
    '--log-level=info',
  ]);
  const driver = argsOf(objects, 'driver');
  for (const flag of ['--agent-address=[$(POD_IP)]:9737', '--tls-dir=/tls', '--expansion=both']) {
    t.true(driver.includes(flag), flag);
  }
  t.like(find(objects, 'Service', 'r1-loopcsi-agents')['spec'], {
    clusterIP: 'None',
    publishNotReadyAddresses: true,
    ports: [{ name: 'agent', port: 9737, targetPort: 'agent', protocol: 'TCP' }],
  });
  const secretOf = (kind: string, name: string): unknown =>
    podOf(find(objects, kind, name))?.volumes.find((volume) => volume.name === 'tls')?.['secret'];
  t.like(secretOf('DaemonSet', 'r1-loopcsi-node'), {
    secretName: 'r1-loopcsi-agent-tls',
    optional: true,
  });
  t.like(secretOf('Deployment', 'r1-loopcsi-controller'), {
    secretName: 'r1-loopcsi-controller-tls',
    optional: true,
  });
});

const secured = v.looseObject({
  spec: v.looseObject({
    template: v.looseObject({
      spec: v.looseObject({ securityContext: v.record(v.string(), v.unknown()) }),
    }),
  }),
});

test('the Deployment is no root, has no capability, no directory of the node and no writable root', async (t) => {
  const deployment = find(await render(complete), 'Deployment', 'r1-loopcsi-controller');
  const pod = podOf(deployment);
  t.deepEqual(v.parse(secured, deployment).spec.template.spec.securityContext, {
    runAsNonRoot: true,
    runAsUser: 65532,
    runAsGroup: 65532,
    fsGroup: 65532,
    seccompProfile: { type: 'RuntimeDefault' },
  });
  t.is(pod?.automountServiceAccountToken, false);
  t.deepEqual(
    pod?.volumes.filter(({ hostPath }) => hostPath !== undefined),
    [],
  );
  for (const { name, securityContext, resources } of pod?.containers ?? []) {
    t.deepEqual(
      securityContext,
      {
        runAsNonRoot: true,
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ['ALL'] },
      },
      name,
    );
    t.truthy(resources?.['requests'], name);
  }
});

/** `group/resource[names]: verbs` of the rules of a role. */
const rulesOf = (role: Manifest): readonly string[] =>
  v
    .parse(
      v.array(
        v.object({
          apiGroups: v.array(v.string()),
          resources: v.array(v.string()),
          resourceNames: v.optional(v.array(v.string())),
          verbs: v.array(v.string()),
        }),
      ),
      role.rules,
    )
    .flatMap(({ apiGroups: [group = ''], resources, resourceNames, verbs }) =>
      resources.map((name) => {
        const names = resourceNames === undefined ? '' : `[${resourceNames.join(' ')}]`;
        return `${group}/${name}${names}: ${verbs.join(' ')}`;
      }),
    )
    .sort();

const leases = 'coordination.k8s.io/leases: get list watch create update patch delete';

test('what the controller may do, and what the sidecars may do besides what they may in a DaemonSet', async (t) => {
  const objects = await render(complete);
  t.deepEqual(rulesOf(find(objects, 'Role', 'r1-loopcsi-controller')), [
    '/configmaps[r1-loopcsi-nodes]: get list watch update',
    '/secrets[r1-loopcsi-ca r1-loopcsi-controller-tls r1-loopcsi-agent-tls]: get update',
    'coordination.k8s.io/leases: create',
    'coordination.k8s.io/leases[r1-loopcsi r1-loopcsi-nodes]: get update',
    'discovery.k8s.io/endpointslices: list watch',
  ]);
  const certificates = await render({
    controller: { enabled: true, tls: { mode: 'certManager' }, nodeLoss: { events: false } },
  });
  t.false(certificates.some(({ metadata }) => metadata.name === 'r1-loopcsi-node-loss'));
  t.deepEqual(rulesOf(find(objects, 'ClusterRole', 'r1-loopcsi-node-loss')), [
    '/events: create',
    '/nodes: get',
    '/persistentvolumes: list',
  ]);
  const forgetting = await render({
    controller: { enabled: true, nodeLoss: { policy: 'forget', events: false } },
  });
  t.deepEqual(rulesOf(find(forgetting, 'ClusterRole', 'r1-loopcsi-node-loss')), [
    '/nodes: get',
    '/persistentvolumes: list',
  ]);
  t.deepEqual(rulesOf(find(certificates, 'Role', 'r1-loopcsi-controller')), [
    '/configmaps[r1-loopcsi-nodes]: get list watch update',
    'discovery.k8s.io/endpointslices: list watch',
  ]);
  t.deepEqual(rulesOf(find(objects, 'Role', 'r1-loopcsi-provisioner')), [
    '/pods: get',
    'apps/replicasets: get',
    leases,
    'storage.k8s.io/csistoragecapacities: get list watch create update patch delete',
  ]);
  t.deepEqual(rulesOf(find(objects, 'Role', 'r1-loopcsi-snapshotter')), [leases]);
  const groups = 'groupsnapshot.storage.k8s.io/volumegroupsnapshot';
  t.deepEqual(
    rulesOf(find(objects, 'ClusterRole', 'r1-loopcsi-snapshotter')).filter((rule) =>
      rule.startsWith(groups),
    ),
    [
      `${groups}classes: get list watch`,
      `${groups}contents/status: update patch`,
      `${groups}contents: get list watch update patch`,
    ],
  );
  t.deepEqual(rulesOf(find(objects, 'ClusterRole', 'r1-loopcsi-snapshot-metadata')), [
    'authentication.k8s.io/tokenreviews: create',
    'authorization.k8s.io/subjectaccessreviews: create',
    'cbt.storage.k8s.io/snapshotmetadataservices: get list',
    'snapshot.storage.k8s.io/volumesnapshotcontents: get list',
    'snapshot.storage.k8s.io/volumesnapshots: get list',
  ]);
  t.deepEqual(rulesOf(find(objects, 'ClusterRole', 'r1-loopcsi-health-monitor')), [
    '/events: create patch',
    '/nodes: get list watch',
    '/persistentvolumeclaims/status: patch',
    '/persistentvolumeclaims: get list watch',
    '/persistentvolumes: get list watch',
    '/pods: get list watch',
  ]);
});

const binding = v.looseObject({ subjects: v.array(v.looseObject({ name: v.string() })) });

test('rights belong to the controller alone, the service account of the nodes has none', async (t) => {
  const ofNode = (objects: readonly Manifest[]): readonly string[] =>
    objects
      .filter(({ kind }) => kind.endsWith('RoleBinding') || kind === 'ClusterRoleBinding')
      .filter((one) =>
        v.parse(binding, one).subjects.some(({ name }) => name === 'r1-loopcsi-node'),
      )
      .map(({ metadata }) => metadata.name);
  t.deepEqual(ofNode(await render(complete)), []);
  t.true(ofNode(await render({ snapshotter: { enabled: true } })).length >= 5);
});

test('two replicas get a budget and prefer different nodes; one has neither', async (t) => {
  const kindsOf = (objects: readonly Manifest[]): readonly string[] =>
    objects.map(({ kind }) => kind);
  const two = await render(complete);
  t.like(find(two, 'PodDisruptionBudget', 'r1-loopcsi-controller')['spec'], { maxUnavailable: 1 });
  t.true(JSON.stringify(find(two, 'Deployment', 'r1-loopcsi-controller')).includes('AntiAffinity'));
  const one = await render(enabled);
  t.false(kindsOf(one).includes('PodDisruptionBudget'));
  t.false(JSON.stringify(one).includes('AntiAffinity'));
});

const policy = v.looseObject({
  spec: v.looseObject({ ingress: v.array(v.record(v.string(), v.unknown())) }),
});

test('only the controller and drivers reach the agents’ port, and other ports stay as they are', async (t) => {
  const pods = {
    podSelector: {
      matchLabels: { 'app.kubernetes.io/name': 'loopcsi', 'app.kubernetes.io/instance': 'r1' },
      matchExpressions: [
        { key: 'app.kubernetes.io/component', operator: 'In', values: ['controller', 'node'] },
      ],
    },
  };
  const agents = { from: [pods], ports: [{ protocol: 'TCP', port: 'agent' }] };
  const ingressOf = async (values: object): Promise<unknown> =>
    v.parse(policy, find(await render(values), 'NetworkPolicy', 'r1-loopcsi-node')).spec.ingress;
  t.deepEqual(await ingressOf(enabled), [
    agents,
    {
      ports: [
        { protocol: 'TCP', port: 1, endPort: 9736 },
        { protocol: 'TCP', port: 9738, endPort: 65535 },
        { protocol: 'UDP', port: 1, endPort: 65535 },
      ],
    },
  ]);
  const from = [{ namespaceSelector: {} }];
  t.deepEqual(await ingressOf({ ...enabled, networkPolicy: { enabled: true, from } }), [
    agents,
    { from, ports: [{ protocol: 'TCP', port: 'metrics' }] },
  ]);
  t.deepEqual(await ingressOf({ ...enabled, networkPolicy: { enabled: true } }), [agents]);
  for (const values of [
    { hostNetwork: true, controller: { enabled: true } },
    { controller: { enabled: true, networkPolicy: false } },
  ]) {
    t.false((await render(values)).some(({ kind }) => kind === 'NetworkPolicy'));
  }
});

test('where certificates come from', async (t) => {
  const modeOf = async (tls: object): Promise<readonly Manifest[]> =>
    render({ controller: { enabled: true, tls } });
  const namesOf = (objects: readonly Manifest[], kind: string): readonly string[] =>
    objects.filter((one) => one.kind === kind).map(({ metadata }) => metadata.name);
  const self = await modeOf({ mode: 'self' });
  t.deepEqual(namesOf(self, 'Secret'), [
    'r1-loopcsi-ca',
    'r1-loopcsi-controller-tls',
    'r1-loopcsi-agent-tls',
  ]);
  for (const secret of self.filter(({ kind }) => kind === 'Secret')) {
    t.false('data' in secret, 'an upgrade must not replace what the controller has written');
  }
  const issued = await modeOf({ mode: 'certManager' });
  t.deepEqual(namesOf(issued, 'Secret'), []);
  t.deepEqual(namesOf(issued, 'Issuer'), ['r1-loopcsi-self-signed', 'r1-loopcsi-ca']);
  const certificate = find(issued, 'Certificate', 'r1-loopcsi-agent')['spec'];
  t.like(certificate, {
    secretName: 'r1-loopcsi-agent-cert',
    uris: ['loopcsi://loopcsi.io/agent'],
    usages: ['digital signature', 'server auth', 'client auth'],
    issuerRef: { name: 'r1-loopcsi-ca', kind: 'Issuer' },
  });
  const issuerRef = { name: 'company', kind: 'ClusterIssuer' };
  const foreign = await modeOf({ mode: 'certManager', certManager: { issuerRef } });
  t.deepEqual(namesOf(foreign, 'Issuer'), []);
  t.like(find(foreign, 'Certificate', 'r1-loopcsi-controller')['spec'], {
    issuerRef,
    usages: ['digital signature', 'client auth'],
  });
  const own = await modeOf({ mode: 'secrets', secrets: { controller: 'c', agent: 'a' } });
  t.deepEqual([...namesOf(own, 'Secret'), ...namesOf(own, 'Certificate')], []);
  t.regex(JSON.stringify(podOf(find(own, 'DaemonSet', 'r1-loopcsi-node'))), /"secretName":"a"/);
  for (const objects of [issued, own]) {
    t.false(argsOf(objects, 'controller').join().includes('--manage-certificates'));
  }
});

test('the object that leads backup tools to changed blocks exists with its CRD', async (t) => {
  t.false((await render(complete)).some(({ kind }) => kind === 'SnapshotMetadataService'));
  const objects = await render(complete, '--api-versions', 'cbt.storage.k8s.io/v1beta1');
  t.deepEqual(find(objects, 'SnapshotMetadataService', 'loopcsi.io')['spec'], {
    address: 'r1-loopcsi-metadata.storage:6443',
    audience: 'loopcsi.io',
    caCert: 'Y2E=',
  });
  t.like(find(objects, 'Service', 'r1-loopcsi-metadata')['spec'], {
    ports: [
      { name: 'snapshot-metadata', port: 6443, targetPort: 'snap-metadata', protocol: 'TCP' },
    ],
  });
});

const refused = [
  [{ tls: { mode: 'secrets' } }, /controller\.tls\.secrets\.controller is empty/],
  [
    { tls: { mode: 'secrets', secrets: { controller: 'a' } } },
    /controller\.tls\.secrets\.agent is empty/,
  ],
  [{ tls: { mode: 'none' } }, /mode/],
  [{ agentPort: 9736 }, /controller\.agentPort and driver\.httpPort are both 9736/],
  [{ snapshotMetadata: { enabled: true } }, /needs tlsSecret and caBundle/],
  [{ replicas: 0 }, /replicas/],
] as const;
for (const [values, message] of refused) {
  test(`refused: controller: ${JSON.stringify(values)}`, async (t) => {
    await t.throwsAsync(render({ controller: { enabled: true, ...values } }), { message });
  });
}

test('names of long releases fit', async (t) => {
  const long = 'a'.repeat(53);
  const args = ['template', long, chart, '--namespace', namespace];
  const { exitCode, stdout } = await helm(args, { controller: { enabled: true, replicas: 2 } });
  t.is(exitCode, 0);
  const names = [...stdout.matchAll(/^ {2}name: (\S+-(?:controller|agents|tls))$/gm)];
  t.true(names.length >= 5);
  for (const [, name = ''] of names) t.true(name.length <= 63, name);
});
