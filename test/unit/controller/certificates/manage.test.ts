import test from 'ava';
import { pino } from 'pino';
import {
  manageCertificates,
  parseCertificates,
} from '../../../../src/controller/certificates/manage.ts';
import { inClusterAccess, makeKubeClient } from '../../../../src/controller/kube/client.ts';
import { FakeKubeApi } from '../../../helpers/fake-kube-api.ts';
import { until } from '../../../helpers/until.ts';

test('of two controllers, the leader fills the Secrets and releases its Lease at the end', async (t) => {
  const api = await FakeKubeApi.start();
  const client = makeKubeClient(api.access, { timeoutMs: 60_000 });
  t.teardown(async () => {
    client.close();
    await api.stop();
  });
  const secrets = '/api/v1/namespaces/storage/secrets';
  for (const name of ['ca', 'controller-tls', 'agent-tls']) {
    api.put(secrets, { metadata: { name: `r1-${name}` } });
  }
  const ended = new AbortController();
  const log = pino({ level: 'silent' });
  const options = { ...parseCertificates('storage/r1'), client, driverName: 'loopcsi.io', log };
  const controllers = ['a', 'b'].map((identity) =>
    manageCertificates({ ...options, identity }, ended.signal),
  );
  const isFilled = (name: string): boolean => 'data' in (api.find(secrets, `r1-${name}`) ?? {});
  await until('both Secrets are filled', () => isFilled('controller-tls') && isFilled('agent-tls'));
  const writes = api.requests.filter((one) => one.startsWith(`PUT ${secrets}`)).length;
  t.is(writes, 3);
  ended.abort();
  await Promise.all(controllers);
  const lease = api.find('/apis/coordination.k8s.io/v1/namespaces/storage/leases', 'r1');
  t.like(lease, { spec: { holderIdentity: '' } });
});

test('the option is a namespace and a prefix', (t) => {
  t.deepEqual(parseCertificates('storage/r1-loopcsi'), {
    namespace: 'storage',
    prefix: 'r1-loopcsi',
  });
  for (const text of ['', 'storage', 'storage/', '/a', 'a/b/c', 'A/b', 'a/-b']) {
    t.throws(() => parseCertificates(text), { message: /is not NAMESPACE\/PREFIX/ }, text);
  }
});

test('the access of a pod comes from its environment; outside of a pod the message says so', (t) => {
  const variables = { KUBERNETES_SERVICE_HOST: 'fd00::1', KUBERNETES_SERVICE_PORT: '443' };
  t.is(inClusterAccess(variables).url, 'https://[fd00::1]:443');
  t.is(
    inClusterAccess({ ...variables, KUBERNETES_SERVICE_HOST: '10.0.0.1' }).url,
    'https://10.0.0.1:443',
  );
  t.throws(() => inClusterAccess({}), { message: /KUBERNETES_SERVICE_HOST .* not set/ });
});
