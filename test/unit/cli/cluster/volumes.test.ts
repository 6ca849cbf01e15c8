import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { checkOrphans } from '../../../../src/cli/cluster/checks/orphans.ts';
import { findDriver, loadCluster } from '../../../../src/cli/cluster/cluster.ts';
import { listNodeVolumes } from '../../../../src/cli/cluster/node-volumes.ts';
import { listNodes } from '../../../../src/cli/cluster/nodes.ts';
import { withoutSecrets, writeBundle } from '../../../../src/cli/cluster/support-bundle.ts';
import { joinVolumes } from '../../../../src/cli/cluster/volumes.ts';
import {
  driverName,
  driverPod,
  makeFakeCluster,
  nodeVolume,
  persistentVolume,
  user,
} from '../../../helpers/fake-cluster.ts';

test('a volume has its claim, its running pods and its node; what only one side knows is told', async (t) => {
  const fake = makeFakeCluster(['n1', 'n2']);
  fake.objects['persistentvolumes'] = [
    persistentVolume('pv-1', 'n1', 'a.1'),
    persistentVolume('pv-2', 'n2', 'gone.1'),
  ];
  fake.objects['pods']?.push(user('app', 'data', { node: 'n1' }), {
    ...user('done', 'data'),
    status: { phase: 'Succeeded' },
  });
  fake.answers['n1'] = {
    'volume list --json': JSON.stringify([
      nodeVolume('a.1', { usedBytes: 512, problems: [{ reason: 'PoolNearlyFull', message: 'm' }] }),
      nodeVolume('docker.1', {
        kind: 'block',
        fsType: null,
        allocatedBytes: null,
        usedBytes: null,
      }),
    ]),
  };
  const cluster = await loadCluster(fake.kubectl, await findDriver(fake.kubectl, driverName));
  const rows = joinVolumes(cluster, await listNodeVolumes(fake.kubectl, cluster.driverPods));
  t.like(rows[0], {
    id: 'a.1',
    claim: 'default/data',
    pods: ['default/app'],
    node: 'n1',
    persistentVolume: 'pv-1',
    usedBytes: 512n,
    status: 'PoolNearlyFull',
  });
  t.like(rows[1], {
    id: 'docker.1',
    claim: '',
    pods: [],
    format: 'block',
    allocatedBytes: null,
    usedBytes: null,
    status: 'ok',
  });
  t.like(rows[2], { id: 'gone.1', node: 'n2', status: 'not on its node', sizeBytes: null });
  t.is(rows.length, 3);
});

test('a node that does not answer is named, with the reason', async (t) => {
  const fake = makeFakeCluster(['n1', 'n2', 'n3']);
  fake.answers['n2'] = {};
  fake.objects['pods'] = [driverPod('n1'), driverPod('n2'), driverPod('n3', { isReady: false })];
  const cluster = await loadCluster(fake.kubectl, await findDriver(fake.kubectl, driverName));
  const { answers, silent } = await listNodeVolumes(fake.kubectl, cluster.driverPods);
  t.deepEqual(
    answers.map(({ node }) => node),
    ['n1'],
  );
  t.deepEqual(
    silent.map(({ node }) => node),
    ['n3', 'n2'],
  );
});

test('a volume of a node that did not answer is unknown, not lost', async (t) => {
  const fake = makeFakeCluster(['n1']);
  fake.answers['n1'] = { 'volume list --json': 'Terminat' };
  fake.objects['persistentvolumes'] = [persistentVolume('pv', 'n1', 'a.1')];
  const cluster = await loadCluster(fake.kubectl, await findDriver(fake.kubectl, driverName));
  const found = await listNodeVolumes(fake.kubectl, cluster.driverPods);
  t.regex(found.silent[0]?.problem ?? '', /not complete/);
  t.is(joinVolumes(cluster, found)[0]?.status, 'unknown, the node did not list it');
});

test('a volume that may be in a pool which its node has not read is unknown, not lost', async (t) => {
  const fake = makeFakeCluster(['n1']);
  const warning =
    "What pool 'b' contains is missing here, because it has not been read since the driver started: pool 'b': /b is not mounted; mount it";
  fake.answers['n1'] = {
    ...fake.answers['n1'],
    'volume list --json': JSON.stringify([nodeVolume('a.1')]),
    stderr: `some line\n${warning}\n`,
  };
  fake.objects['persistentvolumes'] = [
    persistentVolume('known', 'n1', 'a.1'),
    persistentVolume('unread', 'n1', 'b.1'),
  ];
  const cluster = await loadCluster(fake.kubectl, await findDriver(fake.kubectl, driverName));
  const found = await listNodeVolumes(fake.kubectl, cluster.driverPods);
  t.deepEqual(found.silent, [{ node: 'n1', problem: warning, isPartial: true }]);
  t.deepEqual(
    joinVolumes(cluster, found).map(({ id, status }) => [id, status]),
    [
      ['a.1', 'ok'],
      ['b.1', 'unknown, the node did not list it'],
    ],
  );
  t.deepEqual(
    checkOrphans(cluster, found.answers).filter(({ state }) => state === 'fail'),
    [],
    'no doctor says that its data is lost',
  );
});

test('pods of other namespaces are not the driver, whatever their labels are', async (t) => {
  const fake = makeFakeCluster(['n1']);
  const [pod] = fake.objects['pods'] ?? [];
  const metadata = pod?.['metadata'] as object;
  fake.objects['pods']?.push({ ...pod, metadata: { ...metadata, namespace: 'tenant' } });
  const { driverPods } = await findDriver(fake.kubectl, driverName);
  t.deepEqual(
    driverPods.map(({ metadata: { namespace } }) => namespace),
    ['loopcsi'],
  );
});

test('the nodes: their driver, pools and capacity', async (t) => {
  const fake = makeFakeCluster(['n1', 'n2']);
  fake.objects['pods'] = [driverPod('n1')];
  fake.answers['n1'] = {
    'pool list --json': JSON.stringify([
      { name: 'a', roomBytes: 5 },
      { name: 'b', roomBytes: '7' },
      { name: 'c' },
    ]),
  };
  const nodes = await listNodes(fake.kubectl, await findDriver(fake.kubectl, driverName));
  t.deepEqual(nodes, [
    {
      name: 'n1',
      driver: 'ready',
      image: 'loopcsi:0.1.0',
      pools: ['a', 'b', 'c'],
      capacityBytes: 12n,
    },
    { name: 'n2', driver: 'none', image: '', pools: [], capacityBytes: null },
  ]);
});

test('a support bundle has objects, logs and checks, but no value of a variable and no secret', async (t) => {
  const parent = await mkdtemp(join(tmpdir(), 'loopcsi-bundle-'));
  t.teardown(() => rm(parent, { recursive: true }));
  const directory = join(parent, 'bundle');
  const fake = makeFakeCluster();
  fake.objects['persistentvolumes'] = [
    persistentVolume('own', 'n1', 'a.1'),
    {
      metadata: { name: 'foreign' },
      spec: {
        csi: {
          driver: 'example.org',
          volumeHandle: 'x',
          volumeAttributes: { password: 'hunter2' },
        },
      },
    },
  ];
  fake.objects['csinodes'] = [];
  // A cluster in which something fails needs a bundle most.
  fake.answers['n1'] = { ...fake.answers['n1'], 'volume list --json': '[{"id"' };
  const found = await findDriver(fake.kubectl, driverName);
  const files = await writeBundle(fake.kubectl, found, '0.1.0', directory);
  const written = (await readdir(directory, { recursive: true, withFileTypes: true })).filter(
    (one) => one.isFile(),
  );
  t.is(written.length, files);
  const names = written.map((one) => join(one.parentPath, one.name).slice(directory.length + 1));
  for (const name of [
    'doctor.json',
    'nodes/n1/driver.log',
    'nodes/n1/doctor.json',
    'objects/persistentvolumes.json',
    'driver/loopcsi/pods.json',
  ]) {
    t.true(names.includes(name), `${name} is not in ${names.join(' ')}`);
  }
  for (const name of names)
    t.false((await readFile(join(directory, name), 'utf8')).includes('hunter2'), name);
  t.false(fake.commands.some((command) => command.some((word) => /secret|configmap/i.test(word))));
  const objects = await readFile(join(directory, 'objects/persistentvolumes.json'), 'utf8');
  t.regex(objects, /"own"/);
  t.notRegex(objects, /foreign/);
  await t.throwsAsync(writeBundle(fake.kubectl, found, '0.1.0', directory), {
    message: /it must not exist/,
  });
});

test('values that may be secret are removed wherever they are', (t) => {
  const input = {
    metadata: {
      managedFields: [1],
      annotations: {
        'kubectl.kubernetes.io/last-applied-configuration': 'x',
        'storageclass.kubernetes.io/is-default-class': 'true',
        note: 'y',
      },
    },
    spec: {
      env: [
        { name: 'A', value: 's' },
        { name: 'B', valueFrom: {} },
      ],
      list: [{ token: 't' }],
      csi: { volumeAttributes: { pool: 'fast', share: 's' } },
      mountOptions: ['password=s'],
    },
  };
  t.deepEqual(withoutSecrets(input), {
    metadata: {
      annotations: {
        'kubectl.kubernetes.io/last-applied-configuration': '(removed)',
        'storageclass.kubernetes.io/is-default-class': 'true',
        note: '(removed)',
      },
    },
    spec: {
      env: [
        { name: 'A', value: '(removed)' },
        { name: 'B', valueFrom: {} },
      ],
      list: [{ token: '(removed)' }],
      csi: { volumeAttributes: { pool: 'fast', share: '(removed)' } },
      mountOptions: '(removed)',
    },
  });
});
