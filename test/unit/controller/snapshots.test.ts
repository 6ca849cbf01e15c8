import test, { type ExecutionContext } from 'ava';
import { snapshotIdFor } from '../../../src/ids.ts';
import {
  aCapability,
  endOf,
  startTestController,
  type TestController,
} from '../../helpers/controller.ts';
import { type FakeAgent, startFakeAgent } from '../../helpers/fake-agent.ts';

const only = ({ hello }: FakeAgent) => {
  const topology = { segments: hello.segments };
  return { accessibility_requirements: { requisite: [topology], preferred: [topology] } };
};

async function startTwo(t: ExecutionContext) {
  const agents = [await startFakeAgent(t, 'node-a'), await startFakeAgent(t, 'node-b')] as const;
  const started = await startTestController(t, agents);
  const volumes: string[] = [];
  for (const agent of agents) {
    await started.until(agent.nodeId, 'ready');
    const { volume } = await started.controller.CreateVolume({
      name: 'v',
      volume_capabilities: [aCapability],
      ...only(agent),
    });
    volumes.push(volume?.volume_id ?? '');
    agent.calls.length = 0;
  }
  const [onA = '', onB = ''] = volumes;
  return { agents, started, onA, onB };
}

const snap = ({ controller }: TestController, name: string, source_volume_id: string) =>
  controller.CreateSnapshot({ name, source_volume_id });

test('a name of a snapshot that another node has is refused, and the same call finds its snapshot without asking others', async (t) => {
  const { agents, started, onA, onB } = await startTwo(t);
  const [a, b] = agents;
  await snap(started, 's', onA);
  t.deepEqual(a.calls, ['GetSnapshot', 'CreateSnapshot']);
  t.deepEqual(b.calls, ['GetSnapshot']);
  const taken = await endOf(snap(started, 's', onB));
  t.is(taken.code, 'ALREADY_EXISTS');
  t.is(
    taken.message,
    `a snapshot with the name 's' exists on node 'node-a': '${snapshotIdFor('s', a.tag)}' of volume '${onA}'; choose another name`,
  );
  t.is(b.snapshots.size, 0);
  b.calls.length = 0;
  const { snapshot } = await snap(started, 's', onA);
  t.is(snapshot?.snapshot_id, snapshotIdFor('s', a.tag));
  t.deepEqual(b.calls, []);
});

test('a node that is unreachable or hangs does not keep others from making snapshots', async (t) => {
  const { agents, started, onA } = await startTwo(t);
  const [, b] = agents;
  b.hang();
  t.is((await endOf(snap(started, 's1', onA))).code, 'OK');
  await b.cut();
  await started.until('node-b', 'unreachable');
  t.is((await endOf(snap(started, 's2', onA))).code, 'OK');
});

test('at the same time, a name is used for one volume, and the same calls are both passed on', async (t) => {
  const { agents, started, onA, onB } = await startTwo(t);
  const [a] = agents;
  let open: () => void = () => undefined;
  const gate = new Promise<void>((resolve) => {
    open = resolve;
  });
  let arrived: () => void = () => undefined;
  const begun = new Promise<void>((resolve) => {
    arrived = resolve;
  });
  a.before = async (rpc) => {
    if (rpc !== 'CreateSnapshot') return;
    arrived();
    await gate;
  };
  const first = snap(started, 's', onA);
  await begun;
  const other = await endOf(snap(started, 's', onB));
  t.is(other.code, 'ABORTED');
  t.regex(other.message, /is being made; retry later/);
  const same = snap(started, 's', onA);
  open();
  t.deepEqual((await same).snapshot, (await first).snapshot);
  t.is((await endOf(snap(started, 's', onB))).code, 'ALREADY_EXISTS');
});

test('a repeated call joins its own snapshot although its node does not answer the question, and another node has the name', async (t) => {
  const { agents, started, onA, onB } = await startTwo(t);
  const [a, b] = agents;
  // Made while the nodes did not see each other.
  await snap(started, 's', onA);
  const taken = a.snapshots.get(snapshotIdFor('s', a.tag));
  a.snapshots.clear();
  await snap(started, 's', onB);
  if (taken !== undefined) a.snapshots.set(taken.snapshot_id, taken);
  b.mishap = (rpc) => (rpc === 'GetSnapshot' ? 'fail before' : undefined);
  t.is((await snap(started, 's', onB)).snapshot?.snapshot_id, snapshotIdFor('s', b.tag));
});

test('what a node answers keeps a name from being used only if it is a snapshot of that name of another volume', async (t) => {
  const { agents, started, onA, onB } = await startTwo(t);
  const [a, b] = agents;
  await snap(started, 'other', onA);
  const other = a.snapshots.get(snapshotIdFor('other', a.tag));
  t.not(other, undefined);
  if (other === undefined) return;
  const asked = snapshotIdFor('s', a.tag);
  // Another snapshot than the one that was asked for.
  a.snapshots.set(asked, other);
  t.is((await endOf(snap(started, 's', onB))).code, 'OK');
  b.snapshots.clear();
  // One of the same volume, which was moved between nodes since.
  a.snapshots.set(asked, { ...other, snapshot_id: asked, source_volume_id: onB });
  t.is((await endOf(snap(started, 's', onB))).code, 'OK');
  b.snapshots.clear();
  a.snapshots.set(asked, { ...other, snapshot_id: asked });
  t.is((await endOf(snap(started, 's', onB))).code, 'ALREADY_EXISTS');
});
