import test, { type ExecutionContext } from 'ava';
import { pino } from 'pino';
import { makeKubeClient } from '../../../../src/controller/kube/client.ts';
import { leadByLease } from '../../../../src/controller/kube/lease.ts';
import { FakeKubeApi } from '../../../helpers/fake-kube-api.ts';
import { until } from '../../../helpers/until.ts';

const leases = '/apis/coordination.k8s.io/v1/namespaces/storage/leases';
const log = pino({ level: 'silent' });

interface Candidate {
  /** Whether its work is running. */
  readonly isLeading: () => boolean;
  readonly stop: () => Promise<void>;
}

function stand(t: ExecutionContext, api: FakeKubeApi, identity: string): Candidate {
  const client = makeKubeClient(api.access, { timeoutMs: 60_000 });
  const stopped = new AbortController();
  let leading = 0;
  const election = leadByLease({
    client,
    namespace: 'storage',
    name: 'controller',
    identity,
    log,
    signal: stopped.signal,
    lead: async (signal) => {
      leading += 1;
      if (!signal.aborted)
        await new Promise((resolve) => signal.addEventListener('abort', resolve));
      leading -= 1;
    },
    timing: { durationMs: 1_000, renewDeadlineMs: 100, retryMs: 5 },
  });
  const stop = async (): Promise<void> => {
    stopped.abort();
    await election;
    client.close();
  };
  t.teardown(stop);
  return { isLeading: () => leading > 0, stop };
}

async function startApi(t: ExecutionContext): Promise<FakeKubeApi> {
  const api = await FakeKubeApi.start();
  t.teardown(() => api.stop());
  return api;
}

const holderOf = (api: FakeKubeApi): string => {
  const { spec } = api.find(leases, 'controller') as unknown as {
    spec: { holderIdentity: string };
  };
  return spec.holderIdentity;
};

test('one of two leads; when it ends it releases the lease, and the other leads', async (t) => {
  const api = await startApi(t);
  const first = stand(t, api, 'a');
  await until('the first leads', first.isLeading);
  const second = stand(t, api, 'b');
  await until('the second has looked', () => api.requests.length > 10);
  t.false(second.isLeading());
  t.is(holderOf(api), 'a');
  await first.stop();
  t.false(first.isLeading());
  await until('the second leads', second.isLeading);
  t.is(holderOf(api), 'b');
});

test('two that stand at once: the API server decides', async (t) => {
  const api = await startApi(t);
  const both = [stand(t, api, 'a'), stand(t, api, 'b')];
  await until('one leads', () => both.some(({ isLeading }) => isLeading()));
  await until('both have looked', () => api.requests.length > 12);
  t.is(both.filter(({ isLeading }) => isLeading()).length, 1);
});

test('the lease of a holder that no longer renews is taken; its clock does not matter', async (t) => {
  const api = await startApi(t);
  const renewTime = '2999-01-01T00:00:00.000000Z';
  const spec = { holderIdentity: 'gone', leaseDurationSeconds: 1, renewTime, leaseTransitions: 4 };
  api.put(leases, { metadata: { name: 'controller' }, spec });
  const heir = stand(t, api, 'a');
  await until('it leads', heir.isLeading);
  const lease = api.find(leases, 'controller') as unknown as { spec: Record<string, unknown> };
  t.like(lease.spec, { holderIdentity: 'a', leaseTransitions: 5 });
  t.regex(String(lease.spec['renewTime']), /\.\d{6}Z$/);
});

test('a leader that cannot renew stops its work before its lease ends, and leads again later', async (t) => {
  const api = await startApi(t);
  const leader = stand(t, api, 'a');
  await until('it leads', leader.isLeading);
  api.interfere = () => 'drop-before';
  await until('it has stopped', () => !leader.isLeading());
  api.interfere = () => undefined;
  await until('it leads again', leader.isLeading);
  t.is(holderOf(api), 'a');
});

test('a leader whose lease was taken stops at once', async (t) => {
  const api = await startApi(t);
  const leader = stand(t, api, 'a');
  await until('it leads', leader.isLeading);
  const spec = { holderIdentity: 'b', leaseDurationSeconds: 3600 };
  api.put(leases, { metadata: { name: 'controller' }, spec });
  await until('it has stopped', () => !leader.isLeading());
  await leader.stop();
  t.is(holderOf(api), 'b', 'the lease of another is not released');
});
