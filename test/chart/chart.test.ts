import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { clusterPrograms } from '../e2e/cluster/programs.ts';
import {
  chart,
  helm,
  type Manifest,
  namespace,
  podOf,
  release,
  render,
  withSnapshotCrds,
} from './helm.ts';

const image = {
  registry: 'r.example:5000',
  repository: 'a/b',
  tag: 't',
  digest: `sha256:${'0'.repeat(64)}`,
};

/** Everything that can be switched on. */
const everything = {
  image,
  provisioner: { image },
  snapshotter: { enabled: true, image },
  resizer: { image },
  registrar: { enabled: true, image },
  podMonitor: { enabled: true, labels: { team: 'storage' } },
  driver: { ephemeral: { enabled: true }, maxVolumes: 20, extraArgs: ['--log-level=debug'] },
  'snapshot-controller': { enabled: true, image },
};

const nodeGroups = {
  nodeGroups: [
    {
      name: 'fast',
      nodeSelector: { disk: 'nvme' },
      pools: [{ name: 'fast', path: '/mnt/nvme', mountpointRequired: true }],
    },
    {
      name: 'bulk',
      nodeSelector: { disk: 'hdd' },
      pools: [
        { name: 'bulk', path: '/mnt/hdd', reserve: '5.5%', overcommit: 1.5 },
        { name: 'share', path: '/srv/share', create: true, reflink: '100Gi' },
      ],
    },
  ],
};

const matrix: Readonly<Record<string, { values: object; flags?: readonly string[] }>> = {
  defaults: { values: {} },
  'with snapshot CRDs': { values: {}, flags: withSnapshotCrds },
  everything: { values: everything },
  'groups of nodes': { values: nodeGroups },
  'no classes': { values: { storageClasses: [], volumeSnapshotClasses: [] } },
  'another name': { values: { fullnameOverride: 'disk', driver: { name: 'disk.example.org' } } },
  'without protection, resizer and snapshots': {
    values: {
      uninstallProtection: { enabled: false },
      resizer: { enabled: false },
      snapshotter: { enabled: false },
    },
    flags: withSnapshotCrds,
  },
};

const clusterKinds = [
  'ClusterRole',
  'ClusterRoleBinding',
  'CSIDriver',
  'StorageClass',
  'VolumeSnapshotClass',
];

for (const [name, { values, flags = [] }] of Object.entries(matrix)) {
  test(`${name}: lints, and every object has its labels, namespace and name`, async (t) => {
    const lint = await helm(['lint', '--strict', chart], values);
    t.is(lint.exitCode, 0, lint.stdout + lint.stderr);
    const objects = await render(values, ...flags);
    t.true(objects.length > 5);
    for (const { kind, metadata } of objects) {
      const what = `${kind} ${metadata.name}`;
      t.is(metadata.labels['app.kubernetes.io/instance'], release, what);
      t.is(metadata.labels['app.kubernetes.io/managed-by'], 'Helm', what);
      t.is(metadata.labels['app.kubernetes.io/part-of'], 'loopcsi', what);
      t.is(metadata.namespace, clusterKinds.includes(kind) ? undefined : namespace, what);
      if (!/Class$|^CSIDriver$/.test(kind)) t.regex(metadata.name, /^(r1-|disk-)/, what);
      t.true(metadata.name.length <= 63, what);
    }
    const ids = objects.map(({ kind, metadata }) => `${kind} ${metadata.name}`);
    t.deepEqual(ids, [...new Set(ids)], 'no object twice');
  });
}

const refused = [
  { name: 'an unknown key', values: { pool: [] }, says: /additional properties 'pool'/ },
  {
    name: 'an unknown key of a pool',
    values: { pools: [{ name: 'a', path: '/a', size: '1Gi' }] },
    says: /'size'/,
  },
  {
    name: 'a pool without a path',
    values: { pools: [{ name: 'a' }] },
    says: /missing property 'path'/,
  },
  { name: 'a relative path', values: { pools: [{ name: 'a', path: 'srv' }] }, says: /path/ },
  { name: 'a path with a comma', values: { pools: [{ name: 'a', path: '/a,b' }] }, says: /path/ },
  { name: 'no pool', values: { pools: [] }, says: /minItems/ },
  {
    name: 'a wrong size',
    values: { pools: [{ name: 'a', path: '/a', reflink: '10 GB' }] },
    says: /reflink/,
  },
  {
    name: 'an overcommit below 1',
    values: { pools: [{ name: 'a', path: '/a', overcommit: 0.5 }] },
    says: /overcommit/,
  },
  {
    name: 'another filesystem',
    values: { driver: { defaultFsType: 'zfs' } },
    says: /defaultFsType/,
  },
  { name: 'a wrong digest', values: { image: { digest: 'sha256:1' } }, says: /digest/ },
  {
    name: 'a wrong binding mode',
    values: { storageClasses: [{ name: 'a', volumeBindingMode: 'Late' }] },
    says: /volumeBindingMode/,
  },
  {
    name: 'a class without a name',
    values: { storageClasses: [{ default: true }] },
    says: /missing property 'name'/,
  },
  {
    name: 'a group that would take every node',
    values: { nodeGroups: [{ name: 'a', nodeSelector: {}, pools: [{ name: 'a', path: '/a' }] }] },
    says: /minProperties/,
  },
  {
    name: 'a shutdown longer than the pod has',
    values: { driver: { shutdownTimeout: '90s' } },
    says: /shutdownTimeout/,
  },
  {
    name: 'an unknown key of the snapshot-controller',
    values: { 'snapshot-controller': { enabled: true, foo: 1 } },
    says: /'foo'/,
  },
];

for (const { name, values, says } of refused) {
  test(`refused: ${name}`, async (t) => {
    const error = await t.throwsAsync(render(values));
    t.regex(error?.message ?? '', says);
  });
}

test('every image takes registry, repository, tag and digest', async (t) => {
  const objects = await render({ ...everything, image: { ...image, pullPolicy: 'Always' } });
  const images = objects
    .flatMap((object) => podOf(object)?.containers ?? [])
    .map((one) => one.image);
  t.true(images.length >= 8);
  t.deepEqual([...new Set(images)], [`r.example:5000/a/b:t@sha256:${'0'.repeat(64)}`]);
});

test('an image without a registry, and the driver with the chart version for a tag', async (t) => {
  const objects = await render({ image: { registry: '', repository: 'loopcsi' } });
  const driver = objects
    .flatMap((object) => podOf(object)?.containers ?? [])
    .find((one) => one.name === 'driver');
  t.is(driver?.image, 'loopcsi:0.1.0');
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
const leases = 'coordination.k8s.io/leases: get list watch create update patch delete';

test('rights are exactly these', async (t) => {
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
    'ClusterRole r1-loopcsi-uninstall': ['/persistentvolumes: list'],
    'Role r1-loopcsi-test': [`${snapshots}/volumesnapshots: get create delete`],
    'ClusterRole r1-loopcsi-test': [`${snapshots}/volumesnapshotcontents: get`],
    'ClusterRole r1-snapshot-controller': [
      events,
      '/nodes: get list watch',
      '/persistentvolumeclaims: get list watch update',
      '/persistentvolumes: get list watch',
      `${snapshots}/volumesnapshotclasses: get list watch`,
      `${snapshots}/volumesnapshotcontents/status: update patch`,
      `${snapshots}/volumesnapshotcontents: get list watch create update patch delete`,
      `${snapshots}/volumesnapshots/status: update patch`,
      `${snapshots}/volumesnapshots: get list watch create update patch delete`,
    ],
    'Role r1-snapshot-controller': [leases],
  });
});

test('without snapshots and resizer their rights are gone', async (t) => {
  const names = Object.keys(
    rights(await render({ snapshotter: { enabled: false }, resizer: { enabled: false } })),
  );
  t.deepEqual(
    names.filter((name) => /snapshotter|resizer|controller/.test(name)),
    [],
  );
});

test('the driver alone is privileged and has no API token; sidecars are root without capabilities', async (t) => {
  const objects = await render(everything);
  const pod = objects.filter(({ kind }) => kind === 'DaemonSet').map(podOf)[0];
  t.is(pod?.automountServiceAccountToken, false);
  for (const { name, securityContext, volumeMounts, terminationMessagePolicy } of pod?.containers ??
    []) {
    const hasToken = volumeMounts.some((mount) => mount.name === 'api-token');
    t.is(securityContext['privileged'] === true, name === 'driver', name);
    t.is(hasToken, !['driver', 'registrar'].includes(name), name);
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

test('pools become flags and mounts that see disks that come later', async (t) => {
  const objects = await render(nodeGroups);
  const sets = objects.filter(({ kind }) => kind === 'DaemonSet');
  t.deepEqual(
    sets.map(({ metadata }) => metadata.name),
    ['r1-loopcsi-node-fast', 'r1-loopcsi-node-bulk'],
  );
  const [fast, bulk] = sets.map(podOf);
  t.deepEqual(fast?.nodeSelector, { disk: 'nvme' });
  const driver = bulk?.containers.find((one) => one.name === 'driver');
  const pools = driver?.args.filter((word) => word.startsWith('--pool='));
  t.deepEqual(pools, [
    '--pool=bulk=/mnt/hdd,reserve=5.5%,overcommit=1.5',
    '--pool=share=/srv/share,create,reflink=100Gi',
  ]);
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

test('another kubelet directory and driver name reach every path', async (t) => {
  const kubeletDir = '/var/lib/k0s/kubelet';
  const objects = await render({ kubeletDir, driver: { name: 'disk.example.org' } });
  const text = JSON.stringify(objects);
  t.false(text.includes('/var/lib/kubelet'));
  t.true(text.includes(`--kubelet-socket=${kubeletDir}/plugins/disk.example.org/csi.sock`));
  t.false(text.includes('loopcsi.io'));
});

test('the driver registers itself, unless the registrar does', async (t) => {
  const flagsOf = async (values: object): Promise<readonly string[]> =>
    (await render(values))
      .flatMap((object) => podOf(object)?.containers ?? [])
      .find((one) => one.name === 'driver')?.args ?? [];
  t.true((await flagsOf({})).includes('--registration-dir=/registration'));
  t.false((await flagsOf({ registrar: { enabled: true } })).join().includes('--registration-dir'));
});

test('a class says filesystem, parameters and options', async (t) => {
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
  const [made] = (await render({ storageClasses })).filter(({ kind }) => kind === 'StorageClass');
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

test('snapshot classes and the snapshotter appear with the CRDs, or when asked for', async (t) => {
  const has = async (values: object, ...flags: string[]): Promise<boolean> =>
    (await render(values, ...flags)).some(({ kind }) => kind === 'VolumeSnapshotClass');
  t.false(await has({}));
  t.true(await has({}, ...withSnapshotCrds));
  t.true(await has({ 'snapshot-controller': { enabled: true } }));
  t.true(await has({ snapshotter: { enabled: true } }));
  t.false(await has({ snapshotter: { enabled: false } }, ...withSnapshotCrds));
});

test('CRDs come along with the snapshot-controller only, as its release has them', async (t) => {
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
  t.is((await readdir(ours)).length, 3);
});
