import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import * as v from 'valibot';
import { attempt } from '../../scripts/command.ts';
import { fullName, helmCommand, parseImageName } from '../../scripts/image/reference.ts';
import { projectRoot } from '../e2e/cluster/cache.ts';
import { clusterPrograms } from '../e2e/cluster/programs.ts';
import { chart, containersOf, type Manifest, podOf, render, withSnapshotCrds } from './helm.ts';
import { everything, image, nodeGroups } from './samples.ts';

const templateLabels = v.looseObject({
  spec: v.looseObject({
    template: v.looseObject({
      metadata: v.looseObject({ labels: v.record(v.string(), v.string()) }),
    }),
  }),
});

test('every image can have a registry, repository and tag, or a digest instead of the tag', async (t) => {
  const digest = `sha256:${'0'.repeat(64)}`;
  for (const [more, end] of [
    [{}, ':t'],
    [{ digest }, `@${digest}`],
  ] as const) {
    const images = containersOf(await render(everything({ ...image, ...more })));
    t.true(images.length >= 9);
    t.deepEqual([...new Set(images.map((one) => one.image))], [`r.example:5000/a/b${end}`]);
  }
});

test('an image needs no registry, and the tag of the driver’s image is the version of the chart', async (t) => {
  const objects = await render({ image: { registry: '', repository: 'loopcsi' } });
  const driver = containersOf(objects).find((one) => one.name === 'driver');
  t.is(driver?.image, 'loopcsi:0.1.0');
});

test('the command that npm run image prints renders the image that it has built', async (t) => {
  const name = parseImageName('r.example:5000/team/loopcsi', '1.0');
  const [, flags = ''] = /(--set-string \S+)$/.exec(helmCommand(name)) ?? [];
  const objects = await render({}, ...flags.split(' '));
  for (const kind of ['driver', 'udev-rule', 'check', 'test']) {
    const used = containersOf(objects).find((one) => one.name === kind);
    t.is(used?.image, fullName(name), kind);
    t.is(used?.imagePullPolicy, 'Never', kind);
  }
});

test('one registry and its secrets can be set for all images', async (t) => {
  const objects = await render({
    snapshotter: { enabled: true },
    'snapshot-controller': { enabled: true },
    imagePullSecrets: [{ name: 'own' }, { name: 'shared' }],
    global: { imageRegistry: 'mirror.example', imagePullSecrets: [{ name: 'shared' }] },
  });
  for (const { image: name } of containersOf(objects)) t.regex(name, /^mirror\.example\//);
  const pods = objects.flatMap((object) => podOf(object) ?? []);
  t.true(pods.length >= 4);
  for (const { imagePullSecrets, containers } of pods) {
    const names = imagePullSecrets.map((secret) => secret.name);
    const isSubchart = containers[0]?.name === 'snapshot-controller';
    t.deepEqual(names, isSubchart ? ['shared'] : ['own', 'shared']);
  }
});

test('every pod runs only on Linux nodes; additional labels are on every object', async (t) => {
  const objects = await render({ ...everything(), commonLabels: { team: 'storage' } });
  for (const object of objects) {
    const pod = podOf(object);
    if (pod !== undefined) t.is(pod.nodeSelector['kubernetes.io/os'], 'linux', object.kind);
    if (object.metadata.labels['app.kubernetes.io/name'] === 'loopcsi') {
      t.is(object.metadata.labels['team'], 'storage', object.metadata.name);
    }
  }
  const [own] = await render({ nodeSelector: { disk: 'ssd' } }).then((all) =>
    all.filter(({ kind }) => kind === 'DaemonSet').map(podOf),
  );
  t.deepEqual(own?.nodeSelector, { disk: 'ssd', 'kubernetes.io/os': 'linux' });
});

test('inline volumes can be enabled later: immutable fields do not depend on them', async (t) => {
  const look = async (isOn: boolean): Promise<readonly [Manifest | undefined, string]> => {
    const objects = await render({ driver: { ephemeral: { enabled: isOn } } });
    const driver = containersOf(objects).find((one) => one.name === 'driver');
    return [
      objects.find(({ kind }) => kind === 'CSIDriver'),
      driver?.args.find((word) => word.startsWith('--ephemeral-max-size')) ?? '',
    ];
  };
  const [[off, offFlag], [on, onFlag]] = await Promise.all([look(false), look(true)]);
  t.deepEqual(off, on);
  t.is(offFlag, '--ephemeral-max-size=0');
  t.is(onFlag, '--ephemeral-max-size=10Gi');
});

/** `group/resource: verbs` of every rule, by role. */
function rights(objects: readonly Manifest[]): Readonly<Record<string, readonly string[]>> {
  const roles = objects.filter(({ kind }) => kind === 'ClusterRole' || kind === 'Role');
  return Object.fromEntries(
    roles.map(({ kind, metadata, rules = [] }) => [
      `${kind} ${metadata.name}`,
      rules
        .flatMap(({ apiGroups, resources, verbs }) =>
          apiGroups.flatMap((group) =>
            resources.map((name) => `${group}/${name}: ${verbs.join(' ')}`),
          ),
        )
        .sort(),
    ]),
  );
}

const events = '/events: list watch create update patch';
const snapshots = 'snapshot.storage.k8s.io';
const groups = 'groupsnapshot.storage.k8s.io';
const leases = 'coordination.k8s.io/leases: get list watch create update patch delete';

test('the RBAC rules are exactly these', async (t) => {
  const all = rights(await render({ 'snapshot-controller': { enabled: true } }));
  t.deepEqual(all, {
    'ClusterRole r1-loopcsi-provisioner': [
      events,
      '/nodes: get list watch',
      '/persistentvolumeclaims: get list watch update',
      '/persistentvolumes: get list watch create patch delete',
      `${snapshots}/volumesnapshotcontents: get list`,
      `${snapshots}/volumesnapshots: get list watch update`,
      'storage.k8s.io/csinodes: get list watch',
      'storage.k8s.io/storageclasses: get list watch',
      'storage.k8s.io/volumeattributesclasses: get',
    ],
    'Role r1-loopcsi-provisioner': [
      '/pods: get',
      'storage.k8s.io/csistoragecapacities: get list watch create update patch delete',
    ],
    'ClusterRole r1-loopcsi-snapshotter': [
      events,
      `${groups}/volumegroupsnapshotclasses: get list watch`,
      `${groups}/volumegroupsnapshotcontents/status: update patch`,
      `${groups}/volumegroupsnapshotcontents: get list watch update patch`,
      `${snapshots}/volumesnapshotclasses: get list watch`,
      `${snapshots}/volumesnapshotcontents/status: update patch`,
      `${snapshots}/volumesnapshotcontents: get list watch update patch`,
    ],
    'ClusterRole r1-loopcsi-resizer': [
      events,
      '/persistentvolumeclaims/status: patch',
      '/persistentvolumeclaims: get list watch',
      '/persistentvolumes: get list watch patch',
      'storage.k8s.io/volumeattributesclasses: get list watch',
    ],
    'Role r1-loopcsi-resizer': [leases],
    'ClusterRole r1-loopcsi-uninstall': [
      '/persistentvolumes: list',
      `${snapshots}/volumesnapshotcontents: list`,
    ],
    'Role r1-loopcsi-test': [`${snapshots}/volumesnapshots: get create delete`],
    'ClusterRole r1-loopcsi-test': [`${snapshots}/volumesnapshotcontents: get patch`],
    'ClusterRole r1-snapshot-controller': [
      events,
      '/nodes: get list watch',
      '/persistentvolumeclaims: get list watch update',
      '/persistentvolumes: get list watch',
      `${groups}/volumegroupsnapshotclasses: get list watch`,
      `${groups}/volumegroupsnapshotcontents/status: update patch`,
      `${groups}/volumegroupsnapshotcontents: get list watch create update patch delete`,
      `${groups}/volumegroupsnapshots/status: update patch`,
      `${groups}/volumegroupsnapshots: get list watch update patch`,
      `${snapshots}/volumesnapshotclasses: get list watch`,
      `${snapshots}/volumesnapshotcontents/status: update patch`,
      `${snapshots}/volumesnapshotcontents: get list watch create update patch delete`,
      `${snapshots}/volumesnapshots/status: update patch`,
      `${snapshots}/volumesnapshots: get list watch create update patch delete`,
    ],
    'Role r1-snapshot-controller': [leases],
  });
});

test('without snapshots and resizer, their RBAC rules are not rendered', async (t) => {
  const names = Object.keys(
    rights(await render({ snapshotter: { enabled: false }, resizer: { enabled: false } })),
  );
  t.deepEqual(
    names.filter((name) => /snapshotter|resizer|controller/.test(name)),
    [],
  );
});

test('only the driver is privileged, and it has no API token; sidecars are root without capabilities', async (t) => {
  const objects = await render(everything());
  const pod = objects.filter(({ kind }) => kind === 'DaemonSet').map(podOf)[0];
  t.is(pod?.automountServiceAccountToken, false);
  const containers = [...(pod?.initContainers ?? []), ...(pod?.containers ?? [])];
  for (const { name, securityContext, volumeMounts, terminationMessagePolicy } of containers) {
    const hasToken = volumeMounts.some((mount) => mount.name === 'api-token');
    t.is(securityContext['privileged'] === true, name === 'driver', name);
    t.is(hasToken, !['udev-rule', 'driver', 'registrar'].includes(name), name);
    t.is(terminationMessagePolicy, 'FallbackToLogsOnError', name);
    t.is(securityContext['readOnlyRootFilesystem'], true, name);
    if (name === 'driver') continue;
    t.like(
      securityContext,
      { runAsUser: 0, allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } },
      name,
    );
  }
});

/** Runs the script of the init container with two directories instead of those of the image and the node. */
async function runUdevScript(source: string, target: string): Promise<string> {
  const pod = (await render({})).map(podOf).find((one) => one?.initContainers.length === 1);
  const [shell = '', ...words] = pod?.initContainers[0]?.command ?? [];
  const inImage = '/usr/lib/loopcsi/contrib/udev/';
  const ended = join(target, 'message');
  const args = words.map((word) =>
    word
      .replaceAll(inImage, `${source}/`)
      .replaceAll('/host-rules/', `${target}/`)
      .replaceAll('/dev/termination-log', ended),
  );
  const { exitCode, stderr } = await attempt(shell, args);
  if (exitCode !== 0) throw new Error(stderr);
  return readFile(ended, 'utf8').catch(() => '');
}

test('an init container copies the udev rule to the node, and the driver starts even if that fails', async (t) => {
  const udev = join(projectRoot, 'contrib', 'udev');
  const target = await mkdtemp(join(tmpdir(), 'loopcsi-udev-'));
  t.teardown(() => rm(target, { recursive: true }));
  const rule = '10-loopcsi.rules';
  for (let time = 0; time < 2; time += 1) {
    t.is(await runUdevScript(udev, target), '');
    t.deepEqual(await readdir(target), [rule], 'udev never sees a partial file');
    t.is(await readFile(join(target, rule), 'utf8'), await readFile(join(udev, rule), 'utf8'));
  }
  t.regex(await runUdevScript(join(udev, 'missing'), target), /could not be written/);

  const dockerfile = await readFile(join(projectRoot, 'Dockerfile'), 'utf8');
  t.regex(dockerfile, /^WORKDIR \/usr\/lib\/loopcsi$[^]*^COPY contrib\/udev contrib\/udev$/m);
});

test('the udev rule needs one directory of the node and no privilege, and can be disabled', async (t) => {
  const podWith = async (values: object): Promise<ReturnType<typeof podOf>> =>
    podOf((await render(values)).find(({ kind }) => kind === 'DaemonSet') as Manifest);
  const pod = await podWith({});
  t.deepEqual(pod?.initContainers[0]?.volumeMounts, [
    { name: 'udev-rules', mountPath: '/host-rules' },
  ]);
  t.deepEqual(pod?.volumes.find(({ name }) => name === 'udev-rules')?.hostPath, {
    path: '/run/udev/rules.d',
    type: 'DirectoryOrCreate',
  });
  for (const { name, volumeMounts } of pod?.containers ?? []) {
    t.false(
      volumeMounts.some((mount) => mount.name === 'udev-rules'),
      name,
    );
  }
  const without = await podWith({ driver: { udevRule: { enabled: false } } });
  t.deepEqual(without?.initContainers, []);
  t.false(JSON.stringify(without).includes('udev'));
});

test('a network policy opens the port of metrics only to the configured peers, and to none by default', async (t) => {
  const policyOf = async (values: object): Promise<unknown> =>
    (await render(values)).find(({ kind }) => kind === 'NetworkPolicy')?.['spec'];
  t.is(await policyOf({}), undefined);
  t.is(await policyOf({ networkPolicy: { from: [{ podSelector: {} }] } }), undefined);
  const podSelector = {
    matchLabels: {
      'app.kubernetes.io/name': 'loopcsi',
      'app.kubernetes.io/instance': 'r1',
      'app.kubernetes.io/component': 'node',
    },
  };
  const closed = { podSelector, policyTypes: ['Ingress'] };
  t.deepEqual(await policyOf({ networkPolicy: { enabled: true } }), { ...closed, ingress: [] });
  const from = [
    {
      namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'monitoring' } },
      podSelector: { matchLabels: { app: 'prometheus' } },
    },
    { ipBlock: { cidr: '10.0.0.0/24' } },
  ];
  t.deepEqual(await policyOf({ networkPolicy: { enabled: true, from } }), {
    ...closed,
    ingress: [{ from, ports: [{ protocol: 'TCP', port: 'metrics' }] }],
  });
  const sets = (await render(nodeGroups)).filter(({ kind }) => kind === 'DaemonSet');
  t.is(sets.length, 2);
  for (const set of sets) {
    const labels = v.parse(templateLabels, set).spec.template.metadata.labels;
    t.like(labels, podSelector.matchLabels, set.metadata.name);
  }
});

test('pools become flags, and mounts that also show disks mounted later', async (t) => {
  const objects = await render(nodeGroups);
  const sets = objects.filter(({ kind }) => kind === 'DaemonSet');
  t.deepEqual(
    sets.map(({ metadata }) => metadata.name),
    ['r1-loopcsi-node-fast', 'r1-loopcsi-node-bulk'],
  );
  const [fast, bulk] = sets.map(podOf);
  t.deepEqual(fast?.nodeSelector, { disk: 'nvme', 'kubernetes.io/os': 'linux' });
  const driver = bulk?.containers.find((one) => one.name === 'driver');
  const pools = driver?.args.filter((word) => word.startsWith('--pool='));
  t.deepEqual(pools, [
    '--pool=bulk=/mnt/hdd,reserve=5.5%,overcommit=1.5',
    '--pool=share=/srv/share,create,reflink=100Gi',
  ]);
  // Including pools of other nodes: a class of such a pool has no capacity here, and a pool of no node is reported.
  t.true(driver?.args.includes('--cluster-pools=bulk,fast,share'));
  for (const [name, path, type] of [
    ['bulk', '/mnt/hdd', 'Directory'],
    ['share', '/srv/share', 'DirectoryOrCreate'],
  ] as const) {
    t.like(
      driver?.volumeMounts.find((mount) => mount.name === `pool-${name}`),
      { mountPath: path, mountPropagation: 'HostToContainer' },
    );
    t.deepEqual(bulk?.volumes.find((volume) => volume.name === `pool-${name}`)?.hostPath, {
      path,
      type,
    });
  }
});

test('every path uses the configured kubelet directory and driver name', async (t) => {
  const kubeletDir = '/var/lib/k0s/kubelet';
  const objects = await render({ kubeletDir, driver: { name: 'disk.example.org' } });
  const text = JSON.stringify(objects);
  t.false(text.includes('/var/lib/kubelet'));
  t.true(text.includes(`--kubelet-socket=${kubeletDir}/plugins/disk.example.org/csi.sock`));
  t.false(text.includes('loopcsi.io'));
});

test('the driver registers itself, unless the registrar is enabled', async (t) => {
  const flagsOf = async (values: object): Promise<readonly string[]> =>
    (await render(values))
      .flatMap((object) => podOf(object)?.containers ?? [])
      .find((one) => one.name === 'driver')?.args ?? [];
  t.true((await flagsOf({})).includes('--registration-dir=/registration'));
  t.false((await flagsOf({ registrar: { enabled: true } })).join().includes('--registration-dir'));
});

test('each node provisions and snapshots its own volumes, and can return a claim to the scheduler', async (t) => {
  const storageClasses = [{ name: 'now', volumeBindingMode: 'Immediate' }];
  const objects = await render({ storageClasses, snapshotter: { enabled: true } });
  const flagsOf = (name: string): readonly string[] =>
    containersOf(objects).find((one) => one.name === name)?.args ?? [];
  // docs/kubernetes.md, restores in a cluster, depends on these: a request has one topology, and without one the nodes compete.
  for (const flag of [
    '--node-deployment=true',
    '--node-deployment-immediate-binding=true',
    '--strict-topology=true',
    '--immediate-topology=false',
  ]) {
    t.true(flagsOf('provisioner').includes(flag), flag);
  }
  t.false(flagsOf('provisioner').join(' ').includes('--feature-gates'));
  t.true(flagsOf('snapshotter').includes('--node-deployment=true'));
  t.is(objects.find(({ kind }) => kind === 'StorageClass')?.['volumeBindingMode'], 'Immediate');
});

test('requests name the claim, the VolumeSnapshot and the pod, and Prometheus keeps the namespace of the claim', async (t) => {
  const objects = await render({ snapshotter: { enabled: true }, podMonitor: { enabled: true } });
  for (const name of ['provisioner', 'snapshotter']) {
    const args = containersOf(objects).find((one) => one.name === name)?.args ?? [];
    t.true(args.includes('--extra-create-metadata=true'), name);
  }
  const specOf = (kind: string): unknown => objects.find((one) => one.kind === kind)?.['spec'];
  t.like(specOf('CSIDriver'), { podInfoOnMount: true });
  t.like(specOf('PodMonitor'), { podMetricsEndpoints: [{ port: 'metrics', honorLabels: true }] });
});

test('a class has its filesystem, parameters and mount options', async (t) => {
  const storageClasses = [
    {
      name: 'fast',
      fsType: 'xfs',
      parameters: { pool: 'fast', sectorSize: 4096 },
      mountOptions: ['noatime'],
      reclaimPolicy: 'Retain',
      allowVolumeExpansion: false,
    },
  ];
  const pools = [{ name: 'fast', path: '/mnt/fast' }];
  const [made] = (await render({ pools, storageClasses })).filter(
    ({ kind }) => kind === 'StorageClass',
  );
  t.like(made, {
    provisioner: 'loopcsi.io',
    reclaimPolicy: 'Retain',
    volumeBindingMode: 'WaitForFirstConsumer',
    allowVolumeExpansion: false,
    mountOptions: ['noatime'],
    parameters: { 'csi.storage.k8s.io/fstype': 'xfs', pool: 'fast', sectorSize: '4096' },
  });
  t.is(made?.metadata.annotations['storageclass.kubernetes.io/is-default-class'], 'false');
});

test('snapshot classes and the snapshotter are rendered with the CRDs, or if enabled', async (t) => {
  const has = async (values: object, ...flags: string[]): Promise<boolean> =>
    (await render(values, ...flags)).some(({ kind }) => kind === 'VolumeSnapshotClass');
  t.false(await has({}));
  t.true(await has({}, ...withSnapshotCrds));
  t.true(await has({ 'snapshot-controller': { enabled: true } }));
  t.true(await has({ snapshotter: { enabled: true } }));
  t.false(await has({ snapshotter: { enabled: false } }, ...withSnapshotCrds));
});

test('classes of group snapshots are rendered with a controller, if the CRDs exist or are installed', async (t) => {
  const has = async (values: object, ...flags: string[]): Promise<boolean> =>
    (await render(values, ...flags)).some(({ kind }) => kind === 'VolumeGroupSnapshotClass');
  const controller = { controller: { enabled: true } };
  const installed = { ...controller, 'snapshot-controller': { enabled: true } };
  const crds = [...withSnapshotCrds, '--api-versions', 'groupsnapshot.storage.k8s.io/v1'];
  t.false(await has(controller));
  t.false(await has(controller, ...withSnapshotCrds));
  t.false(await has({}, ...crds));
  t.true(await has(controller, ...crds));
  t.true(await has(installed));
  // Helm upgrades no CRDs.
  t.false(await has(installed, '--is-upgrade'));
  t.true(await has(installed, '--is-upgrade', ...crds));
});

test('the CRDs are rendered only with the snapshot-controller, in the version of its release', async (t) => {
  t.false(
    (await render({}, '--include-crds')).some(({ kind }) => kind === 'CustomResourceDefinition'),
  );
  const ours = join(chart, 'charts/snapshot-controller/crds');
  const released = join(await clusterPrograms(), 'crds');
  for (const name of await readdir(ours)) {
    t.is(
      await readFile(join(ours, name), 'utf8'),
      await readFile(join(released, name), 'utf8'),
      name,
    );
  }
  t.is((await readdir(ours)).length, 6);
});
