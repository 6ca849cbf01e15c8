import test from 'ava';
import { chart, helm, namespace, release, render, withSnapshotCrds } from './helm.ts';
import { everything, nodeGroups } from './samples.ts';

const matrix: Readonly<Record<string, { values: object; flags?: readonly string[] }>> = {
  defaults: { values: {} },
  'with snapshot CRDs': { values: {}, flags: withSnapshotCrds },
  everything: { values: everything() },
  'groups of nodes': { values: nodeGroups },
  'no classes': { values: { storageClasses: [], volumeSnapshotClasses: [] } },
  'another name': { values: { fullnameOverride: 'disk', driver: { name: 'disk.example.org' } } },
  'the longest name': { values: { ...everything(), fullnameOverride: `disk-${'x'.repeat(58)}` } },
  OpenShift: {
    values: { openshift: { scc: { enabled: true } }, 'snapshot-controller': { enabled: true } },
  },
  'the network of the node': { values: { hostNetwork: true } },
  'a service account that exists': { values: { serviceAccount: { create: false, name: 'own' } } },
  'without protection, resizer and snapshots': {
    values: {
      uninstallProtection: { enabled: false },
      resizer: { enabled: false },
      snapshotter: { enabled: false },
      driver: { udevRule: { enabled: false } },
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
  'SecurityContextConstraints',
];

for (const [name, { values, flags = [] }] of Object.entries(matrix)) {
  test(`${name}: helm lint passes, and every object has its labels, namespace and name`, async (t) => {
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
      // A Job's name is a label of its pods.
      t.true(metadata.name.length <= (kind === 'Job' ? 63 : 253), what);
    }
    const ids = objects.map(({ kind, metadata }) => `${kind} ${metadata.name}`);
    t.deepEqual(ids, [...new Set(ids)], 'no duplicate object');
  });
}

const pool = (name: string, path: string): object => ({ name, path });
const classWith = (parameters: object): object => ({ storageClasses: [{ name: 'a', parameters }] });

const refused = [
  {
    name: 'two pools with the same name',
    values: { pools: [pool('a', '/a'), pool('a', '/b')] },
    says: /pools: two entries are named 'a'/,
  },
  {
    name: 'a pool inside another',
    values: { pools: [pool('a', '/a'), pool('b', '/a/b')] },
    says: /'b' \(\/a\/b\) is inside 'a' \(\/a\): choose separate directories/,
  },
  {
    name: 'a pool inside another, in a node group',
    values: {
      nodeGroups: [
        { name: 'g', nodeSelector: { a: 'b' }, pools: [pool('a', '/a'), pool('b', '/a')] },
      ],
    },
    says: /nodeGroups, pools of g: /,
  },
  {
    name: 'the state directory inside a pool',
    values: { pools: [pool('a', '/var/lib/loopcsi')] },
    says: /stateDir: .*choose a directory outside/,
  },
  {
    name: 'two classes with the same name',
    values: { storageClasses: [{ name: 'a' }, { name: 'a' }] },
    says: /storageClasses: two entries are named 'a'/,
  },
  {
    name: 'a pull secret without a name',
    values: { imagePullSecrets: [{}] },
    says: /missing property 'name'/,
  },
  {
    name: 'a name that is too long',
    values: { fullnameOverride: 'x'.repeat(64) },
    says: /fullnameOverride.*want 63/,
  },
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
    name: 'the default pool deleted with null',
    values: { pools: null },
    says: /pools is empty.*remove the setting \(pools=null\) to get the default pool/,
  },
  {
    name: 'the driver deleted with null',
    values: { driver: null },
    says: /missing property 'driver'/,
  },
  {
    name: 'a setting deleted with null',
    values: { provisioner: { capacityPollInterval: null } },
    says: /\/provisioner.*missing property 'capacityPollInterval'/,
  },
  {
    name: 'a sidecar without a tag',
    values: { resizer: { image: { tag: '' } } },
    says: /csi-resizer has neither a tag nor a digest/,
  },
  {
    name: 'a parameter that does not exist',
    values: classWith({ foo: 'bar' }),
    says: /\/storageClasses\/0\/parameters.*'foo' not allowed/,
  },
  {
    name: 'a provisioning that does not exist',
    values: classWith({ provisioning: 'thik' }),
    says: /provisioning.*must be one of 'thin', 'thick'/,
  },
  {
    name: 'a sector size that does not exist',
    values: classWith({ sectorSize: 1024 }),
    says: /sectorSize.*must be one of/,
  },
  {
    name: 'a wrong boolean',
    values: classWith({ directIO: 'yes' }),
    says: /directIO.*must be one of/,
  },
  { name: 'a wrong trim', values: classWith({ trim: 'daily' }), says: /trim.*must be one of/ },
  {
    name: 'trim of a thick class',
    values: classWith({ provisioning: 'thick', trim: 'periodic' }),
    says: /trim.*must be 'off'|trim.*must be one of 'off'/,
  },
  {
    name: 'a pool that the chart does not have',
    values: classWith({ pool: 'fast' }),
    says: /'a' names pool 'fast', but the pools are default: name one of them, or add/,
  },
  {
    name: 'a pool of no group',
    values: { ...nodeGroups, ...classWith({ pool: 'default' }) },
    says: /the pools are bulk, fast, share/,
  },
  {
    name: 'two filesystems of one class',
    values: {
      storageClasses: [
        { name: 'a', fsType: 'xfs', parameters: { 'csi.storage.k8s.io/fstype': 'ext4' } },
      ],
    },
    says: /'a' has fsType and csi\.storage\.k8s\.io\/fstype/,
  },
  {
    name: 'two default classes',
    values: {
      storageClasses: [{ name: 'a', default: true }, { name: 'b' }, { name: 'c', default: true }],
    },
    says: /storageClasses: 'a', 'c' are all default: choose one/,
  },
  {
    name: 'two default snapshot classes',
    values: {
      volumeSnapshotClasses: [
        { name: 'a', default: true },
        { name: 'b', default: true },
      ],
    },
    says: /volumeSnapshotClasses: 'a', 'b' are all default/,
  },
  {
    name: 'a snapshot parameter that does not exist',
    values: { volumeSnapshotClasses: [{ name: 'a', parameters: { thaw: 'yes' } }] },
    says: /volumeSnapshotClasses\/0\/parameters.*'thaw' not allowed/,
  },
  {
    name: 'an additional volume without a name',
    values: { extraVolumes: [{ emptyDir: {} }] },
    says: /extraVolumes.*missing property 'name'/,
  },
  {
    name: 'an additional mount without a path',
    values: { driver: { extraVolumeMounts: [{ name: 'a' }] } },
    says: /extraVolumeMounts.*missing property 'mountPath'/,
  },
  {
    name: 'an additional container without an image',
    values: { extraContainers: [{ name: 'a' }] },
    says: /extraContainers.*missing property 'image'/,
  },
  {
    name: 'an environment variable without a name',
    values: { resizer: { extraEnv: [{ value: 'a' }] } },
    says: /extraEnv.*missing property 'name'/,
  },
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
    name: 'a group that selects every node',
    values: { nodeGroups: [{ name: 'a', nodeSelector: {}, pools: [{ name: 'a', path: '/a' }] }] },
    says: /minProperties/,
  },
  {
    name: 'a shutdown time above the grace period of the pod',
    values: { driver: { shutdownTimeout: '90s' } },
    says: /shutdownTimeout/,
  },
  {
    name: 'a policy for pods that it does not apply to',
    values: { hostNetwork: true, networkPolicy: { enabled: true } },
    says: /no effect on pods in the network of the node: disable it or hostNetwork/,
  },
  {
    name: 'a PodMonitor whose Prometheus the policy blocks',
    values: { podMonitor: { enabled: true }, networkPolicy: { enabled: true } },
    says: /networkPolicy\.from is empty.*add its namespace/,
  },
  {
    name: 'a peer without a selector',
    values: { networkPolicy: { enabled: true, from: [{}] } },
    says: /minProperties/,
  },
  {
    name: 'an unknown key of a peer',
    values: { networkPolicy: { enabled: true, from: [{ namespaces: ['monitoring'] }] } },
    says: /'namespaces'/,
  },
  {
    name: 'an unknown key of the snapshot-controller',
    values: { 'snapshot-controller': { enabled: true, foo: 1 } },
    says: /'foo'/,
  },
];

for (const { name, values, says } of refused) {
  test(`values are refused: ${name}`, async (t) => {
    const error = await t.throwsAsync(render(values));
    t.regex(error?.message ?? '', says);
  });
}
