import test from 'ava';
import { eventually } from '../../eventually.ts';
import { textAt } from '../../kube/api.ts';
import { classes, systemNamespace } from '../../kube/chart.ts';
import { nodeOfClaim, nodeOfPod, threeNodes } from '../../kube/nodes.ts';
import { statefulSet } from '../../kube/objects.ts';
import { api, cluster, Scenario } from '../../kube/scenario.ts';

const [first, second, third] = threeNodes();

test('pods on different nodes reach each other, a service and the API server', async (t) => {
  const scenario = await Scenario.begin(t, 'between-nodes');
  await scenario.claim('site');
  const server = await scenario.readyPod('server', {
    claims: { '/site': 'site' },
    node: first.name,
    script: 'echo "from the first node" >/site/page && httpd -p 8080 -h /site',
  });
  await Promise.all(
    [second, third].map(({ name }) => scenario.readyPod(`on-${name}`, { node: name })),
  );
  const service = await scenario.create('Service', {
    metadata: { name: 'site' },
    spec: { selector: { app: 'server' }, ports: [{ port: 80, targetPort: 8080 }] },
  });
  const get = (address: string): string =>
    `for i in $(seq 20); do printf 'GET /page HTTP/1.0\\r\\n\\r\\n' | nc -w 5 ${address} | tail -1 | grep . && exit; sleep 0.5; done`;
  for (const { name } of [second, third]) {
    const client = `on-${name}`;
    const podAddress = `${textAt(server, 'status.podIP') ?? ''} 8080`;
    t.is(await scenario.sh(client, get(podAddress)), 'from the first node');
    const serviceAddress = `${textAt(service, 'spec.clusterIP') ?? ''} 80`;
    t.is(await scenario.sh(client, get(serviceAddress)), 'from the first node');
    await scenario.sh(client, 'nc -w 5 $KUBERNETES_SERVICE_HOST 443 </dev/null');
  }
});

test('claims are created where the pool has enough capacity, first where it has the most', async (t) => {
  // The pool of this class has 256, 512 and 768 MiB.
  const scenario = await Scenario.begin(t, 'by-capacity');
  await eventually('a capacity of every node', async () => {
    const found = await api.list('CSIStorageCapacity', systemNamespace);
    const own = found.filter((one) => textAt(one, 'storageClassName') === classes.tiny);
    return own.length === cluster.nodes.length ? true : undefined;
  });
  const place = async (name: string, size: string): Promise<string> => {
    await scenario.claim(name, { storageClass: classes.tiny, size });
    await scenario.readyPod(name, { claims: { '/data': name } });
    t.is((await nodeOfClaim(scenario, name)).name, (await nodeOfPod(scenario, name)).name);
    return (await nodeOfPod(scenario, name)).name;
  };
  t.is(await place('small', '32Mi'), third.name, 'StorageCapacityScoring: the most capacity');
  t.is(await place('large', '600Mi'), third.name, 'the only node with enough');
  t.is(await place('medium', '300Mi'), second.name, 'the only node that has enough left');
  await scenario.claim('too-large', { storageClass: classes.tiny, size: '500Mi' });
  await scenario.pod('too-large', { claims: { '/data': 'too-large' } });
  await scenario.event(
    'too-large',
    /FailedScheduling.*3 node\(s\) did not have enough free storage/,
  );
});

test('each replica of a StatefulSet finds its volume again after rescheduling', async (t) => {
  const scenario = await Scenario.begin(t, 'rescheduled');
  const names = ['db-0', 'db-1', 'db-2'];
  const made = statefulSet('db', {
    replicas: names.length,
    spread: true,
    script: '[ -e /data/name ] || hostname >/data/name',
    claim: { storageClass: classes.xfs, size: '320Mi' },
  });
  await scenario.create('StatefulSet', made);
  const placesOf = async (): Promise<readonly string[]> =>
    Promise.all(
      names.map(async (name) => {
        await scenario.untilReady(name);
        t.is(await scenario.sh(name, 'cat /data/name'), name);
        const node = await nodeOfPod(scenario, name);
        t.is((await nodeOfClaim(scenario, `data-${name}`)).name, node.name);
        return node.name;
      }),
    );
  const before = await placesOf();
  t.is(new Set(before).size, names.length, 'one on each node');
  const uidOf = async (name: string): Promise<string | undefined> =>
    textAt(await scenario.get('Pod', name).catch(() => undefined), 'metadata.uid');
  const uids = await Promise.all(names.map(uidOf));
  await Promise.all(names.map((name) => api.delete('Pod', scenario.namespace, name)));
  await eventually('three new pods', async () => {
    const now = await Promise.all(names.map(uidOf));
    return now.every((uid, index) => uid !== undefined && uid !== uids[index]) ? true : undefined;
  });
  t.deepEqual(await placesOf(), before);
});

test('Immediate: one node creates each volume, and its pod is scheduled there', async (t) => {
  const scenario = await Scenario.begin(t, 'immediate-nodes');
  const names = ['a', 'b', 'c'];
  for (const name of names) {
    await scenario.claim(name, { storageClass: classes.immediate, size: '320Mi' });
  }
  await Promise.all(
    names.map(async (name) => {
      const node = await nodeOfClaim(scenario, name);
      await scenario.readyPod(name, { claims: { '/data': name }, script: 'echo ok >/data/file' });
      t.is((await nodeOfPod(scenario, name)).name, node.name);
    }),
  );
  const volumes = await Promise.all(names.map((name) => scenario.volumeId(name)));
  for (const node of cluster.nodes) {
    const list = await node.run('ls', '/var/lib/loopcsi/pools/default/volumes');
    for (const id of volumes) {
      t.is(list.includes(id), (await cluster.nodeOf(id)) === node, `${id} on ${node.name}`);
    }
  }
});
