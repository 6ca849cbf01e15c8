import test from 'ava';
import type { Agents, Node } from '../../../../src/controller/agents.ts';
import type { NodeRecords } from '../../../../src/controller/nodes/records.ts';
import { nodesMethods } from '../../../../src/controller/services/nodes.ts';
import { aCall } from '../../../helpers/controller-context.ts';

test('the time since when a node is in a state is a valid Timestamp, whatever fraction of a millisecond the clocks differ by', async (t) => {
  // With every number of milliseconds, one of them is just before a full second.
  const nodes = Array.from({ length: 1_000 }, (_, ms) => ({
    name: `n${ms}`,
    tag: undefined,
    absence: { kind: 'connecting', sinceMs: -ms - 0.3 },
    addresses: [],
  })) as unknown as readonly Node[];
  const agents = {
    requireSynced: () => undefined,
    nodes: () => nodes,
    forgottenNodes: () => [],
    nowMs: () => 0,
  } as unknown as Agents;
  const records = { all: () => [] } as unknown as NodeRecords;
  const { nodes: listed } = (await nodesMethods({ agents, records }).ListNodes?.({}, aCall())) ?? {
    nodes: [],
  };
  t.is(listed.length, 1_000);
  for (const { since } of listed) {
    const { nanos = -1 } = since ?? {};
    t.true(nanos >= 0 && nanos < 1_000_000_000, `${nanos}`);
  }
});
