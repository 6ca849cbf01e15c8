/** What users of other drivers' charts expect to be able to set. */
import test from 'ava';
import * as v from 'valibot';
import {
  chart,
  containersOf,
  helm,
  type Manifest,
  namespace,
  podOf,
  release,
  render,
} from './helm.ts';
import { everything, image, nodeGroups } from './samples.ts';

const ofKind = (objects: readonly Manifest[], kind: string): readonly Manifest[] =>
  objects.filter((object) => object.kind === kind);

const daemonSet = v.looseObject({
  spec: v.looseObject({
    selector: v.object({ matchLabels: v.record(v.string(), v.string()) }),
    updateStrategy: v.unknown(),
    template: v.looseObject({
      metadata: v.object({
        labels: v.record(v.string(), v.string()),
        annotations: v.record(v.string(), v.string()),
      }),
    }),
  }),
});

test('each container has its own environment variables and resources', async (t) => {
  const names = ['driver', 'provisioner', 'snapshotter', 'resizer', 'registrar'] as const;
  const own = (name: string): object => ({
    extraEnv: [{ name: 'OWN', value: name }],
    resources: { limits: { memory: '1Gi' } },
  });
  const objects = await render({
    ...Object.fromEntries(names.map((name) => [name, own(name)])),
    registrar: { ...own('registrar'), enabled: true },
    snapshotter: { ...own('snapshotter'), enabled: true },
  });
  const containers = containersOf(objects);
  for (const name of names) {
    const found = containers.find((one) => one.name === name);
    t.deepEqual(found?.env.at(-1), { name: 'OWN', value: name }, name);
    t.like(found?.resources, { limits: { memory: '1Gi' } }, name);
  }
});

test('the pods of hooks and the init container have resources too', async (t) => {
  const resources = { limits: { cpu: '1' } };
  const objects = await render({
    driver: { udevRule: { resources } },
    helmTest: { resources },
    uninstallProtection: { resources },
  });
  const withLimit = containersOf(objects).filter(({ resources: set }) => set?.['limits']);
  t.deepEqual(withLimit.map(({ name }) => name).sort(), ['check', 'test', 'udev-rule']);
});

test('volumes, mounts, init containers and containers can be added', async (t) => {
  const extra = { name: 'audit', image: 'audit:1', securityContext: {}, imagePullPolicy: 'Never' };
  const objects = await render({
    extraVolumes: [{ name: 'keys', secret: { secretName: 'keys' } }],
    driver: { extraVolumeMounts: [{ name: 'keys', mountPath: '/keys' }] },
    extraInitContainers: [{ ...extra, name: 'first' }],
    extraContainers: [extra],
  });
  const pod = podOf(ofKind(objects, 'DaemonSet')[0] as Manifest);
  t.deepEqual(
    pod?.initContainers.map(({ name }) => name),
    ['first', 'udev-rule'],
  );
  t.is(pod?.containers.at(-1)?.name, 'audit');
  t.truthy(pod?.volumes.find(({ name }) => name === 'keys'));
  const driver = pod?.containers.find(({ name }) => name === 'driver');
  t.deepEqual(driver?.volumeMounts.at(-1), { name: 'keys', mountPath: '/keys' });
  const alone = podOf(
    ofKind(
      await render({ driver: { udevRule: { enabled: false } }, extraInitContainers: [extra] }),
      'DaemonSet',
    )[0] as Manifest,
  );
  t.deepEqual(
    alone?.initContainers.map(({ name }) => name),
    ['audit'],
  );
});

test('labels, annotations and placement of the pods; a label of a pod replaces a common one, but no selector', async (t) => {
  const tolerations = [{ key: 'storage', operator: 'Exists' }];
  const affinity = { nodeAffinity: {} };
  const objects = await render({
    commonLabels: { team: 'common', cost: '1' },
    podLabels: { team: 'own', 'app.kubernetes.io/name': 'other' },
    podAnnotations: { note: 'yes' },
    affinity,
    tolerations,
    updateStrategy: { type: 'OnDelete', rollingUpdate: null },
    nodeSelector: { disk: 'ssd' },
  });
  const [set] = ofKind(objects, 'DaemonSet');
  const { selector, template, updateStrategy } = v.parse(daemonSet, set).spec;
  t.like(template.metadata.labels, { team: 'own', cost: '1', ...selector.matchLabels });
  t.is(template.metadata.labels['app.kubernetes.io/name'], 'loopcsi');
  t.is(template.metadata.annotations['note'], 'yes');
  t.deepEqual(updateStrategy, { type: 'OnDelete' });
  const pod = podOf(set as Manifest);
  t.deepEqual(pod?.tolerations, tolerations);
  t.deepEqual((pod as unknown as { affinity: unknown }).affinity, affinity);
  t.is(pod?.nodeSelector['disk'], 'ssd');
});

test('the pods can run in the network of the node, where their port is one of the node', async (t) => {
  const podWith = async (hostNetwork: boolean): Promise<object | undefined> =>
    podOf(ofKind(await render({ hostNetwork }), 'DaemonSet')[0] as Manifest);
  t.like(await podWith(true), { hostNetwork: true, dnsPolicy: 'Default' });
  const inCluster = await podWith(false);
  t.false('hostNetwork' in (inCluster ?? {}));
  const openshift = { scc: { enabled: true } };
  const [scc] = ofKind(
    await render({ hostNetwork: true, openshift }),
    'SecurityContextConstraints',
  );
  t.like(scc, { allowHostNetwork: true, allowHostPorts: true });
});

test('labels of a node group stay on its pods', async (t) => {
  const sets = ofKind(await render({ ...nodeGroups, podLabels: { team: 'a' } }), 'DaemonSet');
  for (const set of sets) {
    const { selector, template } = v.parse(daemonSet, set).spec;
    t.truthy(selector.matchLabels['loopcsi.io/node-group']);
    t.like(template.metadata.labels, { ...selector.matchLabels, team: 'a' });
  }
});

test('a service account can be annotated, named, or taken from outside', async (t) => {
  const accountOf = async (
    serviceAccount: object,
  ): Promise<readonly [string | undefined, Manifest | undefined]> => {
    const objects = await render({ serviceAccount });
    const used = podOf(ofKind(objects, 'DaemonSet')[0] as Manifest)?.serviceAccountName;
    const made = ofKind(objects, 'ServiceAccount').find(({ metadata }) => metadata.name === used);
    return [used, made];
  };
  const [name, account] = await accountOf({ annotations: { role: 'a' } });
  t.is(name, 'r1-loopcsi-node');
  t.deepEqual(account?.metadata.annotations, { role: 'a' });
  t.is((await accountOf({ name: 'own' }))[1]?.metadata.name, 'own');
  t.deepEqual(await accountOf({ create: false, name: 'own' }), ['own', undefined]);
  t.deepEqual(await accountOf({ create: false }), ['default', undefined]);
});

test('words that YAML reads as booleans reach the driver as it spells them', async (t) => {
  const values = `
storageClasses:
  - {name: a, parameters: {trim: off, directIO: no, sectorSize: 512}}
volumeSnapshotClasses:
  - {name: s, parameters: {freeze: yes}}
  - {name: r, parameters: {freeze: no}}
snapshotter: {enabled: true}
`;
  const args = ['template', release, chart, '--namespace', namespace];
  const { stdout, stderr, exitCode } = await helm(args, values);
  t.is(exitCode, 0, stderr);
  const shown = stdout
    .split('\n')
    .filter((line) => /^ {2}(trim|directIO|sectorSize|freeze): /.test(line));
  t.deepEqual(shown.map((line) => line.trim()).sort(), [
    'directIO: "false"',
    'freeze: "no"',
    'freeze: "yes"',
    'sectorSize: "512"',
    'trim: "off"',
  ]);
});

test('a quota for the priority class is created on GKE outside kube-system, and on request', async (t) => {
  const quotaOf = async (values: object, ...flags: readonly string[]): Promise<unknown> =>
    ofKind(await render(values, ...flags), 'ResourceQuota')[0]?.['spec'];
  const gke = ['--kube-version', 'v1.33.4-gke.1100000'];
  const classes = (...values: readonly string[]): object => ({
    hard: { pods: '1G' },
    scopeSelector: {
      matchExpressions: [{ scopeName: 'PriorityClass', operator: 'In', values }],
    },
  });
  t.is(await quotaOf({}), undefined);
  t.deepEqual(await quotaOf({}, ...gke), classes('system-node-critical'));
  t.is(await quotaOf({}, ...gke, '--namespace', 'kube-system'), undefined);
  t.is(await quotaOf({ priorityClassName: 'own' }, ...gke), undefined);
  t.is(await quotaOf({ priorityClassQuota: { enabled: false } }, ...gke), undefined);
  t.deepEqual(
    await quotaOf({
      priorityClassQuota: { enabled: true },
      'snapshot-controller': { enabled: true },
    }),
    classes('system-node-critical', 'system-cluster-critical'),
  );
});

test('on OpenShift, the driver’s account may run its pods, and the others may run as their own user', async (t) => {
  t.deepEqual(ofKind(await render({}), 'SecurityContextConstraints'), []);
  const objects = await render({
    openshift: { scc: { enabled: true } },
    'snapshot-controller': { enabled: true },
  });
  const [scc] = ofKind(objects, 'SecurityContextConstraints');
  t.deepEqual(scc?.['users'], ['system:serviceaccount:storage:r1-loopcsi-node']);
  t.is(scc?.['allowPrivilegedContainer'], true);
  // Every kind of volume of the pod is allowed.
  const kinds = v.parse(v.array(v.string()), scc?.['volumes']);
  const pod = podOf(ofKind(objects, 'DaemonSet')[0] as Manifest);
  for (const { name, ...source } of pod?.volumes ?? []) {
    for (const kind of Object.keys(source)) t.true(kinds.includes(kind), `${name}: ${kind}`);
  }
  const subject = v.object({
    kind: v.literal('ServiceAccount'),
    name: v.string(),
    namespace: v.string(),
  });
  const binding = ofKind(objects, 'RoleBinding').find(({ metadata }) =>
    metadata.name.endsWith('-nonroot'),
  );
  const bound = v.parse(v.array(subject), binding?.['subjects']).map(({ name }) => name);
  const pods = objects.filter(
    (object) => podOf(object) !== undefined && object.kind !== 'DaemonSet',
  );
  t.deepEqual(bound.sort(), pods.map((object) => podOf(object)?.serviceAccountName ?? '').sort());
});

test('outgoing connections can be limited; the pods of hooks accept none', async (t) => {
  const egress = [{ ports: [{ protocol: 'TCP', port: 6443 }] }];
  const policies = ofKind(
    await render({ networkPolicy: { enabled: true, egress } }),
    'NetworkPolicy',
  );
  t.like(policies[0]?.['spec'], { policyTypes: ['Ingress', 'Egress'], egress });
  t.like(policies[1]?.['spec'], { policyTypes: ['Ingress'], ingress: [] });
});

test('with a controller, outgoing connections that are limited include those between the agents of nodes', async (t) => {
  const egress = [{ ports: [{ protocol: 'TCP', port: 6443 }] }];
  const values = { controller: { enabled: true }, networkPolicy: { enabled: true, egress } };
  const policies = ofKind(await render(values), 'NetworkPolicy');
  const ofNodes = policies.find(({ metadata }) => metadata.name.endsWith('-node'));
  const rules = v.parse(
    v.object({ egress: v.array(v.looseObject({ ports: v.array(v.unknown()) })) }),
    ofNodes?.['spec'],
  ).egress;
  t.deepEqual(
    rules.map(({ ports }) => ports),
    [[{ protocol: 'TCP', port: 6443 }], [{ protocol: 'TCP', port: 9737 }]],
  );
  t.like(rules[1], {
    to: [{ podSelector: { matchLabels: { 'app.kubernetes.io/component': 'node' } } }],
  });
});

/** helm prints the notes only on an installation. */
async function notesOf(values: object, ...flags: readonly string[]): Promise<string> {
  const args = ['install', release, chart, '--namespace', namespace, '--dry-run=client', ...flags];
  const { stdout, stderr, exitCode } = await helm(args, values);
  if (exitCode !== 0) throw new Error(stderr);
  return stdout.slice(stdout.indexOf('\nNOTES:\n'));
}

test('the notes have a claim and a pod that can be pasted, and mention snapshots only as they are', async (t) => {
  const plain = await notesOf({ image });
  const [, pasted = ''] = /^kubectl apply -f - <<'EOF'\n([^]*?)^EOF$/m.exec(plain) ?? [];
  t.regex(pasted, /^kind: PersistentVolumeClaim$[^]*^ {2}storageClassName: loopcsi$/m);
  t.regex(pasted, /^kind: Pod$[^]*image: r\.example:5000\/a\/b:t$[^]*claimName: loopcsi-hello/m);
  t.regex(plain, /check that volumes work[^]*because this cluster has no snapshot CRDs/);
  t.notRegex(plain, /volumes and snapshots/);
  const off = await notesOf({ snapshotter: { enabled: false } });
  t.regex(off, /disabled by snapshotter\.enabled=false/);
  t.notRegex(off, /CRDs|snapshot-controller/);
  const on = await notesOf({ snapshotter: { enabled: true } });
  t.regex(on, /check that volumes and snapshots work/);
  t.notRegex(on, /disabled|snapshot-controller/);
  t.regex(await notesOf({ storageClasses: [] }), /No StorageClass was created/);
});

test('every optional feature is rendered with the others', async (t) => {
  const kinds = new Set((await render(everything())).map(({ kind }) => kind));
  for (const kind of ['ResourceQuota', 'NetworkPolicy', 'PodMonitor', 'DaemonSet']) {
    t.true(kinds.has(kind), kind);
  }
});
