import test from 'ava';
import { textAt } from '../../kube/api.ts';
import { classes } from '../../kube/chart.ts';
import { loopcsi } from '../../kube/driver-pods.ts';
import { statefulSet } from '../../kube/objects.ts';
import { api, Scenario } from '../../kube/scenario.ts';

test('two pods on the bridge network: one serves a page from its volume over HTTP to the other', async (t) => {
  const scenario = await Scenario.begin(t, 'network');
  await scenario.claim('site');
  await scenario.claim('log');
  const serve = 'httpd -p 8080 -h /site && (nc -l -p 9000 >/log/heard </dev/null &)';
  const [author, server] = await Promise.all([
    scenario.readyPod('author', {
      claims: { '/site': 'site' },
      script: 'echo "written by the author" >/site/page',
    }),
    scenario.readyPod('server', { claims: { '/site': 'site', '/log': 'log' }, script: serve }),
  ]);
  const authorIp = textAt(author, 'status.podIP') ?? '';
  const serverIp = textAt(server, 'status.podIP') ?? '';
  t.not(authorIp, serverIp);
  t.regex(`${authorIp} ${serverIp}`, /^10\.244\.1\.\d+ 10\.244\.1\.\d+$/);

  const get = (address: string): string =>
    `printf 'GET /page HTTP/1.0\\r\\n\\r\\n' | nc -w 5 ${address} | tail -1`;
  t.is(await scenario.sh('author', get(`${serverIp} 8080`)), 'written by the author');
  await scenario.sh('author', 'echo "changed since" >/site/page');
  t.is(await scenario.sh('author', get(`${serverIp} 8080`)), 'changed since');

  const service = {
    spec: { selector: { app: 'server' }, ports: [{ port: 80, targetPort: 8080 }] },
  };
  const made = await scenario.create('Service', { metadata: { name: 'site' }, ...service });
  const clusterIp = textAt(made, 'spec.clusterIP') ?? '';
  const through = `for i in $(seq 20); do ${get(`${clusterIp} 80`)} | grep . && exit; sleep 0.5; done`;
  t.is(await scenario.sh('author', through), 'changed since');

  // In the other direction: the server stores what it receives in its own volume.
  await scenario.sh('author', `echo "over the network" | nc -w 2 ${serverIp} 9000`);
  t.is(await scenario.sh('server', 'cat /log/heard'), 'over the network');
});

test('two pods on one node share a ReadWriteOnce volume, and volume list names the claim and both pods', async (t) => {
  const scenario = await Scenario.begin(t, 'rwo');
  await scenario.claim('data');
  await Promise.all(
    ['one', 'two'].map((name) => scenario.readyPod(name, { claims: { '/data': 'data' } })),
  );
  t.regex(
    await loopcsi('volume', 'list', 'rwo/data'),
    /^pvc-\S+ +rwo\/data .* (?:one|two) \(\+1\) /m,
  );
  await scenario.sh('one', 'echo from one >/data/file');
  t.is(await scenario.sh('two', 'cat /data/file'), 'from one');
  await scenario.delete('Pod', 'one');
  t.regex(await loopcsi('volume', 'get', 'rwo/data'), /^Pods: +rwo\/two, since \S+$/m);
  t.is(
    await scenario.sh('two', 'cat /data/file && echo more >>/data/file && tail -1 /data/file'),
    'from one\nmore',
  );
});

test('ReadWriteOncePod is refused for the second pod, and an event says why', async (t) => {
  const scenario = await Scenario.begin(t, 'rwop');
  await scenario.claim('data', { accessMode: 'ReadWriteOncePod' });
  await scenario.readyPod('first', { claims: { '/data': 'data' } });
  await scenario.pod('second', { claims: { '/data': 'data' } });
  const message = await scenario.event('second', /ReadWriteOncePod/);
  t.regex(message, /FailedScheduling/);
  await scenario.delete('Pod', 'first');
  await scenario.untilReady('second');
});

test('ReadWriteMany is refused, and an event of the claim says why', async (t) => {
  const scenario = await Scenario.begin(t, 'rwx');
  await scenario.claim('shared', { accessMode: 'ReadWriteMany' });
  await scenario.pod('one', { claims: { '/data': 'shared' } });
  t.regex(
    await scenario.event('shared', /ProvisioningFailed/),
    /ReadWriteOnce|MULTI_NODE|one node/i,
  );
});

test('a StatefulSet gets a volume for each replica, and has the same volumes after scaling down and up', async (t) => {
  const scenario = await Scenario.begin(t, 'stateful');
  const made = statefulSet('db', {
    replicas: 3,
    script: '[ -e /data/name ] || hostname >/data/name',
    claim: { storageClass: classes.xfs, size: '320Mi' },
  });
  await scenario.create('StatefulSet', made);
  const replicas = async (count: number): Promise<void> => {
    await api.patch('StatefulSet', scenario.namespace, 'db', { spec: { replicas: count } });
    const isThere = (text: string | undefined): boolean => (text ?? '0') === String(count);
    await scenario.until(
      'StatefulSet',
      'db',
      (set) =>
        isThere(textAt(set, 'status.readyReplicas')) && isThere(textAt(set, 'status.replicas')),
      120_000,
    );
  };
  await replicas(3);
  t.is(await scenario.sh('db-2', 'cat /data/name'), 'db-2');
  const before = await scenario.volumeId('data-db-2');
  await replicas(1);
  await api.untilGone('Pod', scenario.namespace, 'db-2');
  await replicas(3);
  t.is(await scenario.volumeId('data-db-2'), before);
  t.is(await scenario.sh('db-2', 'cat /data/name'), 'db-2');
});

test('Immediate: the volume is created before any pod, and the pod is scheduled to its node', async (t) => {
  const scenario = await Scenario.begin(t, 'immediate');
  await scenario.claim('data', { storageClass: classes.immediate, size: '320Mi' });
  t.truthy(await scenario.volumeId('data'));
  await scenario.readyPod('later', { claims: { '/data': 'data' }, script: 'echo ok >/data/file' });
});

test('WaitForFirstConsumer: no volume is created before a pod uses the claim', async (t) => {
  const scenario = await Scenario.begin(t, 'waiting');
  await scenario.claim('data');
  t.regex(await scenario.event('data', /WaitForFirstConsumer/), /waiting for first consumer/);
  const claim = await scenario.get('PersistentVolumeClaim', 'data');
  t.is(textAt(claim, 'status.phase'), 'Pending');
  await scenario.readyPod('first', { claims: { '/data': 'data' } });
  t.truthy(await scenario.volumeId('data'));
});
