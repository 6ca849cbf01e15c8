import test from 'ava';
import type { AgentEndpoint } from '../../../../src/controller/discovery/discovery.ts';
import { staticDiscovery } from '../../../../src/controller/discovery/static.ts';

test('a static discovery has synced at once, and names every address with its rank', (t) => {
  const lists: (readonly AgentEndpoint[])[] = [];
  staticDiscovery(['n1.example:9737', '[fd00::1]:9737'])
    .watch((endpoints) => lists.push(endpoints))
    .close();
  t.deepEqual(lists, [
    [
      { address: 'n1.example:9737', rank: 0, isServing: true, isTerminating: false },
      { address: '[fd00::1]:9737', rank: 1, isServing: true, isTerminating: false },
    ],
  ]);
});
