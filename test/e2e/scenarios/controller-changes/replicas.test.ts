/** Two replicas of the controller, one of which is killed, evicted or replaced while claims are made. */
import test, { type ExecutionContext } from 'ava';
import { eventually } from '../../eventually.ts';
import { ApiError, textAt } from '../../kube/api.ts';
import { classes, systemNamespace } from '../../kube/chart.ts';
import { Checker } from '../../kube/checksums.ts';
import { ClaimLoad } from '../../kube/claim-load.ts';
import {
  controllerDeployment,
  fewestReadyDuring,
  leader,
  nodeOf,
  untilControllersReady,
} from '../../kube/controllers.ts';
import { api, cluster, kubectl, Scenario } from '../../kube/scenario.ts';
import { changeShape } from '../../kube/shape.ts';

const provisionerLease = 'loopcsi-io';
const replicas = 2;

/** Waits until all replicas are ready, and asserts that none of them is one of the earlier pods. */
async function assertReplaced(
  t: ExecutionContext,
  before: Awaited<ReturnType<typeof untilControllersReady>>,
): Promise<void> {
  const after = await untilControllersReady(replicas);
  const names = new Set(before.map(({ metadata }) => metadata.name));
  t.false(after.some(({ metadata }) => names.has(metadata.name)));
}

test.before(async () => changeShape(true, { replicas, nodeSelector: {} }));
test.after.always(async () => changeShape(false));

test.serial('the replicas run on different nodes, if there are several', async (t) => {
  const pods = await untilControllersReady(replicas);
  const nodes = new Set(pods.map((pod) => nodeOf(pod).name));
  t.is(nodes.size, Math.min(replicas, cluster.nodes.length));
});

test.serial(
  'the leader is killed: the other one provisions, no claim gets two volumes',
  async (t) => {
    const scenario = await Scenario.begin(t, 'kill-leader');
    const checker = await Checker.start(scenario, 'writer', classes.reflink);
    const load = new ClaimLoad(scenario, classes.immediate);
    await load.untilNextBound();
    const killed = await leader(provisionerLease);
    const processes = await nodeOf(killed).processesOfPod(textAt(killed, 'metadata.uid') ?? '');
    t.true(processes.length > 3, `${processes.length} processes`);
    for (const pid of processes) process.kill(pid, 'SIGKILL');
    const ms = await load.untilNextBound();
    t.log(`a claim made after the kill was bound after ${Math.round(ms)} ms`);
    await untilControllersReady(replicas);
    await load.untilNextBound();
    await load.end(t);
    await checker.assertWhole(t);
  },
);

test.serial(
  'a rolling update while claims are made: a controller is ready at any time',
  async (t) => {
    const scenario = await Scenario.begin(t, 'rolling-update');
    const load = new ClaimLoad(scenario, classes.immediate);
    await load.untilNextBound();
    const before = await untilControllersReady(replicas);
    const target = [`deployment/${controllerDeployment}`, '--namespace', systemNamespace];
    await kubectl('rollout', 'restart', ...target);
    const fewest = await fewestReadyDuring(
      kubectl('rollout', 'status', '--timeout=240s', ...target),
    );
    t.true(fewest >= 1, `${fewest} were ready`);
    await assertReplaced(t, before);
    await load.untilNextBound();
    await load.end(t);
  },
);

test.serial('the eviction of all controllers leaves one until the other is replaced', async (t) => {
  const scenario = await Scenario.begin(t, 'drain');
  const load = new ClaimLoad(scenario, classes.immediate);
  await load.untilNextBound();
  const before = await untilControllersReady(replicas);
  const nodes = [...new Set(before.map((pod) => nodeOf(pod).name))];
  t.teardown(async () => kubectl('uncordon', ...nodes));
  await kubectl('cordon', ...nodes);
  const [first, second] = before;
  t.is(await evict(first?.metadata.name), 'evicted');
  t.regex(await evict(second?.metadata.name), /disruption budget/);
  // The replacement needs a node, if the cluster has no other. `kubectl drain` would cordon it again.
  await kubectl('uncordon', ...nodes);
  const fewest = await fewestReadyDuring(untilEvicted(second?.metadata.name));
  t.true(fewest >= 1, `${fewest} were ready`);
  await assertReplaced(t, before);
  await load.untilNextBound();
  await load.end(t);
});

/** Waits until the disruption budget allows the eviction of a pod, and until the pod has ended. */
async function untilEvicted(name = ''): Promise<void> {
  await eventually(
    'the disruption budget to allow an eviction',
    async () => ((await evict(name)) === 'evicted' ? true : undefined),
    { timeoutMs: 240_000 },
  );
  await api.untilGone('Pod', systemNamespace, name, 120_000);
}

/** Asks for the eviction of a pod, as a drain does. Returns the reason of a refusal. */
async function evict(name = ''): Promise<string> {
  const path = `/api/v1/namespaces/${systemNamespace}/pods/${name}/eviction`;
  const eviction = { apiVersion: 'policy/v1', kind: 'Eviction', metadata: { name } };
  try {
    await api.call('POST', path, eviction);
    return 'evicted';
  } catch (error) {
    if (error instanceof ApiError) return error.message;
    throw error;
  }
}
