import test, { type ExecutionContext } from 'ava';
import { pino } from 'pino';
import type { AgentEndpoint } from '../../../../src/controller/discovery/discovery.ts';
import {
  endpointSliceDiscovery,
  endpointsOf,
} from '../../../../src/controller/discovery/endpoint-slices.ts';
import { makeKubeClient } from '../../../../src/controller/kube/client.ts';
import { FakeKubeApi } from '../../../helpers/fake-kube-api.ts';
import { until } from '../../../helpers/until.ts';

interface Pod {
  readonly ip: string;
  readonly node?: string;
  readonly conditions?: object;
  readonly uid?: string;
}

const slice = (name: string, pods: readonly Pod[], more: object = {}): object => ({
  metadata: { name, namespace: 'storage', labels: { 'kubernetes.io/service-name': 'agents' } },
  addressType: 'IPv4',
  ports: [{ name: 'agent', port: 9737, protocol: 'TCP' }],
  endpoints: pods.map(({ ip, node, conditions, uid }) => ({
    addresses: [ip],
    nodeName: node,
    conditions,
    ...(uid === undefined ? {} : { targetRef: { uid } }),
  })),
  ...more,
});
const collection = '/apis/discovery.k8s.io/v1/namespaces/storage/endpointslices';

async function start(t: ExecutionContext) {
  const api = await FakeKubeApi.start();
  const client = makeKubeClient(api.access);
  const log = pino({ level: 'silent' });
  const seen: (readonly AgentEndpoint[])[] = [];
  t.teardown(async () => {
    watching.close();
    client.close();
    await api.stop();
  });
  api.put(collection, slice('a', [{ ip: '10.0.0.1', node: 'n1' }]));
  const discovery = endpointSliceDiscovery({
    client,
    namespace: 'storage',
    service: 'agents',
    log,
  });
  const watching = discovery.watch((endpoints) => seen.push(endpoints));
  const addresses = (): readonly string[] => seen.at(-1)?.map(({ address }) => address) ?? [];
  await until('discovery has synced', () => seen.length === 1);
  return { api, seen, addresses };
}

test('endpoints have the node of their pod; readiness and termination are conditions', (t) => {
  const object = { metadata: { name: 'a' } };
  const pods: readonly Pod[] = [
    { ip: '10.0.0.2', node: 'n2', conditions: { ready: true, serving: false, terminating: true } },
    { ip: '10.0.0.1', node: 'n1', conditions: { ready: true, serving: true, terminating: false } },
    { ip: '10.0.0.3' },
  ];
  t.deepEqual(endpointsOf([{ ...object, ...slice('a', pods) }]), [
    { address: '10.0.0.1:9737', nodeName: 'n1', isServing: true, isTerminating: false },
    { address: '10.0.0.2:9737', nodeName: 'n2', isServing: false, isTerminating: true },
    { address: '10.0.0.3:9737', isServing: true, isTerminating: false },
  ]);
});

test('a pod with addresses of two families is one endpoint; without IPv4 its address has brackets', (t) => {
  const four = slice('a', [{ ip: '10.0.0.1', node: 'n1', uid: 'u1' }]);
  const six = slice(
    'b',
    [
      { ip: 'fd00::1', node: 'n1', uid: 'u1' },
      { ip: 'fd00::2', node: 'n2', uid: 'u2' },
    ],
    { addressType: 'IPv6' },
  );
  const slices = [six, four].map((one) => ({ metadata: { name: 'x' }, ...one }));
  t.deepEqual(
    endpointsOf(slices).map(({ address }) => address),
    ['[fd00::2]:9737', '10.0.0.1:9737'],
  );
});

test('slices without endpoints or ports, as of a Service without pods, are no endpoints', (t) => {
  const metadata = { name: 'a' };
  t.deepEqual(endpointsOf([{ metadata, ...slice('a', []), endpoints: null, ports: null }]), []);
  t.deepEqual(endpointsOf([{ metadata, ...slice('a', [{ ip: '10.0.0.1' }]), ports: [{}] }]), []);
});

test('the list follows slices that appear, change and go', async (t) => {
  const { api, addresses } = await start(t);
  t.deepEqual(addresses(), ['10.0.0.1:9737']);
  t.true(api.requests[0]?.includes('labelSelector=kubernetes.io%2Fservice-name%3Dagents'));
  api.put(collection, slice('b', [{ ip: '10.0.0.2', node: 'n2' }]));
  await until('the second slice is seen', () => addresses().length === 2);
  api.put(collection, slice('a', [{ ip: '10.0.0.9', node: 'n1' }]));
  await until('the change is seen', () => addresses().includes('10.0.0.9:9737'));
  api.remove(collection, 'b');
  await until('the removal is seen', () => addresses().length === 1);
  t.deepEqual(addresses(), ['10.0.0.9:9737']);
});
