import test from 'ava';
import { pino } from 'pino';
import type { AgentEndpoint } from '../../../../src/controller/discovery/discovery.ts';
import { dnsDiscovery } from '../../../../src/controller/discovery/dns.ts';
import { until } from '../../../helpers/until.ts';

const log = pino({ level: 'silent' });
const at = (address: string): AgentEndpoint => ({ address, isServing: true, isTerminating: false });

test('all addresses of a name, with the port of the option, in a stable order', async (t) => {
  const seen: (readonly AgentEndpoint[])[] = [];
  const lookups: string[] = [];
  let addresses = [
    { address: '10.0.0.2', family: 4 },
    { address: 'fd00::1', family: 6 },
    { address: '10.0.0.2', family: 4 },
  ];
  const resolver = {
    lookup: async (name: string) => {
      lookups.push(name);
      return Promise.resolve(addresses);
    },
    resolveSrv: async () => Promise.reject(new Error('not a SRV name')),
  };
  const discovery = dnsDiscovery({ name: 'tasks.loopcsi', port: 9737, log, resolver, everyMs: 2 });
  const watching = discovery.watch((endpoints) => seen.push(endpoints));
  t.teardown(() => {
    watching.close();
  });
  await until('several lookups', () => lookups.length > 3);
  t.deepEqual(seen, [[at('10.0.0.2:9737'), at('[fd00::1]:9737')]]);
  addresses = [{ address: '10.0.0.3', family: 4 }];
  await until('the change is seen', () => seen.length === 2);
  t.deepEqual(seen[1], [at('10.0.0.3:9737')]);
  t.is(lookups[0], 'tasks.loopcsi');
});

test('SRV records have their own ports', async (t) => {
  const seen: (readonly AgentEndpoint[])[] = [];
  const resolver = {
    lookup: async (name: string) =>
      Promise.resolve([{ address: name === 'n1.example' ? '10.0.0.1' : '10.0.0.2', family: 4 }]),
    resolveSrv: async () =>
      Promise.resolve([
        { name: 'n1.example', port: 21_000, priority: 0, weight: 0 },
        { name: 'n2.example', port: 21_001, priority: 0, weight: 0 },
      ]),
  };
  const name = '_loopcsi._tcp.service.consul';
  const watching = dnsDiscovery({ name, port: 9737, log, resolver, everyMs: 2 }).watch(
    (endpoints) => seen.push(endpoints),
  );
  t.teardown(() => {
    watching.close();
  });
  await until('the records are seen', () => seen.length === 1);
  t.deepEqual(seen, [[at('10.0.0.1:21000'), at('10.0.0.2:21001')]]);
});

test('failed lookups keep the last list, and at the start they mean that nothing is known yet', async (t) => {
  const seen: (readonly AgentEndpoint[])[] = [];
  let [failures, isFailing] = [0, true];
  const resolver = {
    lookup: async () => {
      if (!isFailing) return Promise.resolve([{ address: '10.0.0.1', family: 4 }]);
      failures += 1;
      return Promise.reject(new Error('getaddrinfo ENOTFOUND agents'));
    },
    resolveSrv: async () => Promise.resolve([]),
  };
  const watching = dnsDiscovery({ name: 'agents', port: 1, log, resolver, everyMs: 2 }).watch(
    (endpoints) => seen.push(endpoints),
  );
  t.teardown(() => {
    watching.close();
  });
  await until('lookups have failed', () => failures > 2);
  t.deepEqual(seen, []);
  isFailing = false;
  await until('it has synced', () => seen.length === 1);
  [failures, isFailing] = [0, true];
  await until('lookups have failed again', () => failures > 2);
  t.deepEqual(seen, [[at('10.0.0.1:1')]]);
});

test('the system resolves names of /etc/hosts', async (t) => {
  const seen: (readonly AgentEndpoint[])[] = [];
  const watching = dnsDiscovery({ name: 'localhost', port: 9737, log }).watch((endpoints) =>
    seen.push(endpoints),
  );
  t.teardown(() => {
    watching.close();
  });
  await until('localhost is found', () => seen.length === 1);
  t.true(seen[0]?.some(({ address }) => address === '127.0.0.1:9737' || address === '[::1]:9737'));
});
