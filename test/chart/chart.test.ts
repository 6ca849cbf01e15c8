import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { clusterPrograms } from '../e2e/cluster/programs.ts';
import { chart, containersOf, type Manifest, podOf, render, withSnapshotCrds } from './helm.ts';
import { everything, image, nodeGroups } from './samples.ts';

test('every image takes registry, repository and tag, or a digest in place of the tag', async (t) => {
  const digest = `sha256:${'0'.repeat(64)}`;
  for (const [more, end] of [
    [{}, ':t'],
    [{ digest }, `@${digest}`],
  ] as const) {
    const images = containersOf(await render(everything({ ...image, ...more })));
    t.true(images.length >= 8);
    t.deepEqual([...new Set(images.map((one) => one.image))], [`r.example:5000/a/b${end}`]);
  }
});

test('an image without a registry, and the driver with the chart version for a tag', async (t) => {
  const objects = await render({ image: { registry: '', repository: 'loopcsi' } });
  const driver = containersOf(objects).find((one) => one.name === 'driver');
  t.is(driver?.image, 'loopcsi:0.1.0');
});

test('one registry and its secrets for all images', async (t) => {
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

test('every pod runs on Linux alone; further labels are on every object', async (t) => {
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

test('inline volumes can be switched on later: what cannot be changed says nothing of it', async (t) => {
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
  const objects = await render(everything());
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
  t.deepEqual(fast?.nodeSelector, { disk: 'nvme', 'kubernetes.io/os': 'linux' });
  const driver = bulk?.containers.find((one) => one.name === 'driver');
  const pools = driver?.args.filter((word) => word.startsWith('--pool='));
  t.deepEqual(pools, [
    '--pool=bulk=/mnt/hdd,reserve=5.5%,overcommit=1.5',
    '--pool=share=/srv/share,create,reflink=100Gi',
  ]);
  // Also those of other nodes: a class of theirs has no room here, and one of no node is told.
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

test('each node provisions and snapshots what is its own, and may give a claim back to the scheduler', async (t) => {
  const storageClasses = [{ name: 'now', volumeBindingMode: 'Immediate' }];
  const objects = await render({ storageClasses, snapshotter: { enabled: true } });
  const flagsOf = (name: string): readonly string[] =>
    containersOf(objects).find((one) => one.name === name)?.args ?? [];
  // What docs/kubernetes.md says of restores in a cluster rests on these: one place in a request, and a race where there is none.
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
