import test, { type ExecutionContext } from 'ava';
import { groupIdFor, nodeTagOf, volumeIdFor } from '../../../../src/ids.ts';
import { aCapability, endOf, startTestController } from '../../../helpers/controller.ts';
import { type FakeAgent, startFakeAgent } from '../../../helpers/fake-agent.ts';
import { until } from '../../../helpers/until.ts';

const attempt = 'an-attempt';

/** Nodes with a volume each, in the order of the ids of these, and a group of all volumes. */
async function withVolumes(t: ExecutionContext, nodeIds = ['node-a', 'node-b', 'node-c']) {
  const order = nodeIds.toSorted((a, b) => (nodeTagOf(a) < nodeTagOf(b) ? -1 : 1));
  const agents: FakeAgent[] = [];
  for (const nodeId of order) agents.push(await startFakeAgent(t, nodeId));
  const started = await startTestController(t, agents);
  for (const agent of agents) {
    await started.until(agent.nodeId, 'ready');
    const requisite = [{ segments: agent.hello.segments }];
    const accessibility_requirements = { requisite, preferred: requisite };
    const request = { volume_capabilities: [aCapability], accessibility_requirements };
    await started.controller.CreateVolume({ name: 'v', ...request });
    agent.calls.length = 0;
  }
  const [primary, ...others] = agents;
  if (primary === undefined) throw new Error('no node');
  const source_volume_ids = agents.map(({ tag }) => volumeIdFor('v', tag)).reverse();
  const create = async (name = 'g') =>
    endOf(started.groups.CreateVolumeGroupSnapshot({ name, source_volume_ids }));
  return { agents, primary, others, started, create, groupId: groupIdFor('g', primary.tag) };
}

const stepsOf = ({ calls }: FakeAgent) => calls.filter((rpc) => rpc !== 'FindGroup');

/** `calls` of all agents as they were when one of them got a step. */
function atEach(agents: readonly FakeAgent[]) {
  const seen: { readonly step: string; readonly others: readonly string[] }[] = [];
  for (const agent of agents) {
    agent.before = async (step) => {
      const others = agents.filter((one) => one !== agent).map((one) => one.calls.join(' '));
      seen.push({ step, others });
    };
  }
  return seen;
}

test('each node makes each step after all have made the one before it, and the record is the commit', async (t) => {
  const { agents, primary, others, create, groupId } = await withVolumes(t);
  const seen = atEach(agents);
  t.is((await create()).code, 'OK');
  await until('leases end', () => agents.every(({ calls }) => calls.includes('lease ended')));
  const steps = ['TakeGroupPart', 'flush', 'freeze', 'cut', 'thaw'];
  const last = ['commit', 'lease ended', 'GetVolumeGroupSnapshot'];
  t.deepEqual(stepsOf(primary).toSorted(), [...steps, ...last].toSorted());
  for (const other of others) {
    const own = [...steps, 'prepare', 'SettleGroupPart', 'lease ended'];
    t.deepEqual(stepsOf(other).toSorted(), own.toSorted());
  }
  for (const [step, before] of [
    ['flush', 'TakeGroupPart'],
    ['freeze', 'flush'],
    ['cut', 'freeze'],
    ['thaw', 'cut'],
    ['prepare', 'thaw'],
  ] as const) {
    const those = seen.filter((one) => one.step === step);
    t.true(those.length >= 2);
    t.true(
      those.every(({ others: calls }) => calls.every((one) => one.includes(before))),
      step,
    );
  }
  const commit = seen.find(({ step }) => step === 'commit');
  t.true(commit?.others.every((calls) => calls.includes('prepare')));
  const group = primary.groups.get(groupId);
  t.is(group?.members.length, 3);
  t.true(seen.filter(({ step }) => step === 'SettleGroupPart').length === 2);
});

test('the same call again returns the group, and settles its members again', async (t) => {
  const { agents, primary, others, create } = await withVolumes(t);
  t.is((await create()).code, 'OK');
  await until('leases end', () => agents.every(({ calls }) => calls.includes('lease ended')));
  for (const { calls } of agents) calls.length = 0;
  t.is((await create()).code, 'OK');
  t.deepEqual(stepsOf(primary), ['TakeGroupPart', 'GetVolumeGroupSnapshot']);
  for (const other of others) t.deepEqual(stepsOf(other), ['SettleGroupPart']);
});

for (const step of [
  'TakeGroupPart',
  'flush',
  'freeze',
  'cut',
  'thaw',
  'prepare',
  'commit',
] as const) {
  test(`if ${step} fails, all leases end, and nothing is committed`, async (t) => {
    const { agents, primary, others, create } = await withVolumes(t);
    const failing = step === 'commit' ? primary : others[0];
    if (failing === undefined) throw new Error('no node');
    failing.mishap = (rpc) => (rpc === step ? 'fail before' : undefined);
    if (step === 'TakeGroupPart') {
      failing.before = async (rpc) => {
        if (rpc === step) throw new Error('a failure');
      };
    }
    t.not((await create()).code, 'OK');
    const begun = agents.filter((one) => one !== failing || step !== 'TakeGroupPart');
    await until('leases end', () => begun.every(({ calls }) => calls.includes('lease ended')));
    t.is(primary.groups.size, 0);
    t.false(others.some(({ calls }) => calls.includes('SettleGroupPart')));
    const isUnsure = step === 'commit';
    t.is(primary.calls.includes('commit'), isUnsure);
    if (step === 'prepare')
      await until('others drop it', () => others.every((o) => o.calls.includes('RemoveGroupPart')));
    else t.false(others.some(({ calls }) => calls.includes('RemoveGroupPart')));
    failing.mishap = () => undefined;
    failing.before = async () => undefined;
    t.is((await create()).code, 'OK');
  });
}

test('a commit whose answer is lost is found by the repeated call', async (t) => {
  const { agents, primary, others, create } = await withVolumes(t);
  primary.mishap = (rpc) => (rpc === 'commit' ? 'fail after' : undefined);
  t.is((await create()).code, 'UNAVAILABLE');
  t.is(primary.groups.size, 1);
  t.false(others.some(({ calls }) => calls.includes('SettleGroupPart')));
  await until('leases end', () => agents.every(({ calls }) => calls.includes('lease ended')));
  for (const { calls } of agents) calls.length = 0;
  t.is((await create()).code, 'OK');
  for (const other of others) t.deepEqual(stepsOf(other), ['SettleGroupPart']);
});

test('the call succeeds only when all members are settled', async (t) => {
  const { others, create } = await withVolumes(t);
  const [other] = others;
  if (other === undefined) throw new Error('no node');
  other.mishap = (rpc) => (rpc === 'SettleGroupPart' ? 'fail before' : undefined);
  t.is((await create()).code, 'UNAVAILABLE');
  other.mishap = () => undefined;
  t.is((await create()).code, 'OK');
});

test('two block volumes in use on two nodes are refused before anything is frozen', async (t) => {
  const { agents, primary, others, create } = await withVolumes(t);
  primary.areVolumesLive = true;
  t.is((await create()).code, 'OK');
  for (const other of others) other.areVolumesLive = true;
  for (const { calls } of agents) calls.length = 0;
  const { code, message } = await create('h');
  t.is(code, 'FAILED_PRECONDITION');
  t.regex(message, /'v\.\w+' on node 'node-\w', 'v\.\w+' on node 'node-\w'/);
  t.false(agents.some(({ calls }) => calls.includes('freeze')));
});

test('while a node of the group is unreachable, nothing is begun on the others', async (t) => {
  const { agents, started, others, create } = await withVolumes(t);
  const [other] = others;
  if (other === undefined) throw new Error('no node');
  await other.cut();
  await started.until(other.nodeId, 'unreachable');
  const { code, message } = await create();
  t.is(code, 'UNAVAILABLE');
  t.regex(message, new RegExp(`node '${other.nodeId}'`));
  t.false(agents.some(({ calls }) => calls.includes('TakeGroupPart')));
});

test('a driver that is too old for groups over several nodes is named', async (t) => {
  const [one, old] = [
    await startFakeAgent(t, 'node-a'),
    await startFakeAgent(t, 'node-b', { takesGroupParts: false }),
  ];
  const { until: untilState, groups } = await startTestController(t, [one, old]);
  for (const { nodeId } of [one, old]) await untilState(nodeId, 'ready');
  const source_volume_ids = [one, old].map(({ tag }) => volumeIdFor('v', tag));
  for (const [index, agent] of [one, old].entries()) {
    const volume_id = source_volume_ids[index] ?? '';
    const context = { capacity_bytes: 1n, volume_context: {}, content_source: null };
    agent.volumes.set(volume_id, { volume_id, ...context, accessible_topology: [] });
  }
  const { code, message } = await endOf(
    groups.CreateVolumeGroupSnapshot({ name: 'g', source_volume_ids }),
  );
  t.is(code, 'FAILED_PRECONDITION');
  t.regex(message, /node 'node-b' is too old .* upgrade it/);
});

test('the name of a group is unique over the nodes', async (t) => {
  const { agents, started, create, primary } = await withVolumes(t);
  t.is((await create()).code, 'OK');
  const last = agents.at(-1);
  if (last === undefined || last === primary) throw new Error('no node');
  const source_volume_ids = [volumeIdFor('v', last.tag)];
  const { code, message } = await endOf(
    started.groups.CreateVolumeGroupSnapshot({ name: 'g', source_volume_ids }),
  );
  t.is(code, 'ALREADY_EXISTS');
  t.regex(message, new RegExp(`exists on node '${primary.nodeId}'`));
});

test('a delete removes the record first, and then the members on the other nodes, whenever those can be reached', async (t) => {
  const { agents, started, primary, others, create, groupId } = await withVolumes(t);
  await create();
  const snapshot_ids = (primary.groups.get(groupId)?.members ?? []).map((one) => one.snapshot_id);
  for (const { calls } of agents) calls.length = 0;
  const [other] = others;
  if (other === undefined) throw new Error('no node');
  await other.cut();
  await started.until(other.nodeId, 'unreachable');
  const remove = async () =>
    endOf(started.groups.DeleteVolumeGroupSnapshot({ group_snapshot_id: groupId, snapshot_ids }));
  t.is((await remove()).code, 'UNAVAILABLE');
  await other.restore();
  await started.until(other.nodeId, 'ready');
  t.is((await remove()).code, 'OK');
  t.is(primary.groups.size, 0);
  for (const one of others) t.true(one.calls.includes('RemoveGroupPart'), one.nodeId);
  t.true(primary.calls.includes('DeleteVolumeGroupSnapshot'));
  t.false(primary.calls.includes('RemoveGroupPart'));
});

/** A node that says that it has prepared members of a group of the other node. */
async function withUndecided(t: ExecutionContext) {
  const primary = await startFakeAgent(t, 'node-a');
  const groupId = groupIdFor('g', primary.tag);
  const undecided_groups = [{ group_id: groupId, attempt }];
  const other = await startFakeAgent(t, 'node-b', { hello: { undecided_groups } });
  return { primary, other, groupId };
}

test('members of a group that was committed are settled without a call', async (t) => {
  const { primary, other, groupId } = await withUndecided(t);
  primary.groups.set(groupId, { attempt, members: [] });
  await startTestController(t, [primary, other]);
  await until('it is settled', () => other.calls.includes('SettleGroupPart'), 30_000);
  t.false(other.calls.includes('RemoveGroupPart'));
});

test('members of an attempt that was never committed are removed without a call', async (t) => {
  const { primary, other, groupId } = await withUndecided(t);
  primary.groups.set(groupId, { attempt: 'a later attempt', members: [] });
  await startTestController(t, [primary, other]);
  await until('they are removed', () => other.calls.includes('RemoveGroupPart'), 30_000);
  t.false(other.calls.includes('SettleGroupPart'));
});

test('members are kept while the group is being taken', async (t) => {
  const { primary, other, groupId } = await withUndecided(t);
  primary.runningGroups.add(groupId);
  const { until: untilState } = await startTestController(t, [primary, other]);
  for (const { nodeId } of [primary, other]) await untilState(nodeId, 'ready');
  await until('it was asked twice', () => primary.calls.length >= 2, 40_000);
  t.deepEqual(other.calls, []);
});

test('members are kept while the node of the record does not answer', async (t) => {
  const { primary, other } = await withUndecided(t);
  const { until: untilState } = await startTestController(t, [primary, other]);
  for (const { nodeId } of [primary, other]) await untilState(nodeId, 'ready');
  primary.mishap = () => 'fail before';
  await until('it was asked twice', () => primary.calls.length >= 2, 40_000);
  t.deepEqual(other.calls, []);
});
