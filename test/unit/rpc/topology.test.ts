import test from 'ava';
import { VolumeError } from '../../../src/errors.ts';
import { includesNode, requireReachable, topologyOfNode } from '../../../src/rpc/topology.ts';

const nodeIds = [
  { nodeId: 'node-a', value: /^node-a$/ },
  { nodeId: 'n'.repeat(63), value: /^n{63}$/ },
  { nodeId: 'n'.repeat(64), value: /^n{46}-[0-9a-f]{16}$/ },
  { nodeId: 'with space/ä', value: /^with-space---[0-9a-f]{16}$/ },
  { nodeId: '-dash', value: /^dash-[0-9a-f]{16}$/ },
  { nodeId: '💾', value: /[0-9a-f]{16}$/ },
];
for (const { nodeId, value } of nodeIds) {
  const shown = `${nodeId.slice(0, 20)}' of ${nodeId.length}`;
  test(`the value for '${shown} bytes is a valid label value`, (t) => {
    const thisNode = topologyOfNode('loopcsi.io', nodeId);
    t.regex(thisNode.value, value);
    t.regex(thisNode.value, /^[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/);
    t.is(thisNode.key, 'topology.loopcsi.io/node');
  });
}

test('two long node ids with a common prefix get different values', (t) => {
  const long = 'n'.repeat(200);
  t.not(topologyOfNode('d.io', `${long}a`).value, topologyOfNode('d.io', `${long}b`).value);
});

test('the prefix of a topology key has at most 63 characters', (t) => {
  const driver = `${'d'.repeat(60)}.io`;
  t.is(topologyOfNode(driver, 'n').key, `${driver}/node`);
});

test('keys are case-insensitive, values are not, an unknown key never matches', (t) => {
  const thisNode = topologyOfNode('loopcsi.io', 'node-a');
  t.true(includesNode({ segments: { 'Topology.LoopCSI.io/Node': 'node-a' } }, thisNode));
  t.false(includesNode({ segments: { 'topology.loopcsi.io/node': 'Node-A' } }, thisNode));
  t.false(
    includesNode({ segments: { 'topology.loopcsi.io/node': 'node-a', zone: 'a' } }, thisNode),
  );
  t.true(includesNode({ segments: {} }, thisNode));
});

test('a preferred topology does not exclude other nodes', (t) => {
  const thisNode = topologyOfNode('loopcsi.io', 'node-a');
  const there = { segments: { [thisNode.key]: 'node-b' } };
  t.notThrows(() => {
    requireReachable({ requisite: [], preferred: [there] }, thisNode);
  });
  t.throws(
    () => {
      requireReachable({ requisite: [there], preferred: [] }, thisNode);
    },
    { instanceOf: VolumeError },
  );
});
