/**
 * A node fails: its power, its driver, its network. Pods and volumes of other nodes go on, claims for the failing node wait with an
 * event where somebody is left to tell, and everything of the node is back with it. The scenarios run one after another.
 */
import test, { type ExecutionContext } from 'ava';
import type { ClusterNode } from '../../cluster/node.ts';
import { classes } from '../../kube/chart.ts';
import { Checker } from '../../kube/checksums.ts';
import { driverPod } from '../../kube/driver-pods.ts';
import { bringBack, threeNodes, untilServing } from '../../kube/nodes.ts';
import { assertNotSlower, provisioningTimes } from '../../kube/provisioning.ts';
import { isBound, Scenario } from '../../kube/scenario.ts';
import { assertNodesServe } from '../../kube/serving.ts';
import { hasController } from '../../kube/shape.ts';

const [first, second, third] = threeNodes();

/** Claims that wait for the failing node. They must not delay those of other nodes. */
const waiting = ['waiting-0', 'waiting-1', 'waiting-2', 'waiting-3', 'waiting-4'];

async function assignClaims(scenario: Scenario, node: ClusterNode): Promise<void> {
  for (const name of waiting) await scenario.claim(name, { assignedTo: node.name });
}

/** With a controller, an event of a claim that waits for the node names it. Without one, nobody is left who could tell. */
async function assertTold(
  t: ExecutionContext,
  scenario: Scenario,
  node: ClusterNode,
): Promise<void> {
  if (!(await hasController())) return;
  const [name = ''] = waiting;
  const unreachable = new RegExp(
    `ProvisioningFailed.*Unavailable.*node '${node.name}' .*has been unreachable for`,
  );
  t.log(await scenario.event(name, unreachable, 120_000));
  t.false(isBound(await scenario.get('PersistentVolumeClaim', name)));
}

async function untilClaimsBound(scenario: Scenario): Promise<void> {
  for (const name of waiting) {
    await scenario.until('PersistentVolumeClaim', name, isBound, 180_000);
  }
}

test.serial(
  'a node loses its power: others serve as fast as before, and its data is back with it',
  async (t) => {
    const scenario = await Scenario.begin(t, 'power');
    const checker = await Checker.start(scenario, 'check', classes.reflink, third);
    const elsewhere = await Checker.start(scenario, 'elsewhere', classes.xfs, second);
    const before = await provisioningTimes(scenario, 'before', first);
    const rounds = await checker.rounds();
    await third.powerOff();
    await assignClaims(scenario, third);
    const dead = await provisioningTimes(scenario, 'dead', first);
    assertNotSlower(t, before, dead, 'a node without power');
    await assertTold(t, scenario, third);
    // A copy of what is on that node cannot be made anywhere else.
    const source = { kind: 'PersistentVolumeClaim', name: 'check' } as const;
    await scenario.claim('copy', { storageClass: classes.reflink, size: '320Mi', source });
    await scenario.pod('copy', { claims: { '/data': 'copy' }, node: second.name });
    const tag = (await checker.volumeId()).split('.').at(-1) ?? '';
    const where = (await hasController())
      ? `is on node '${third.name}'.*has been unreachable for`
      : `is on the node with tag ${tag},.*kubectl loopcsi doctor`;
    t.log(await scenario.event('copy', new RegExp(`ProvisioningFailed.*${where}`)));
    await elsewhere.assertWhole(t);
    await bringBack(third);
    await checker.untilBack(rounds);
    await checker.assertWhole(t, 1);
    await untilClaimsBound(scenario);
    await assertNodesServe(scenario, 'after', [first, second, third]);
  },
);

test.serial(
  'a driver hangs: others serve as fast as before, and the kubelet replaces it',
  async (t) => {
    const scenario = await Scenario.begin(t, 'hung');
    const checker = await Checker.start(scenario, 'check', classes.xfs, second);
    const before = await provisioningTimes(scenario, 'before', first);
    const { restarts } = await driverPod(second);
    const pid = await second.driverProcess();
    process.kill(pid, 'SIGSTOP');
    t.teardown(() => {
      try {
        process.kill(pid, 'SIGCONT');
      } catch {
        // The kubelet has killed it.
      }
    });
    await assignClaims(scenario, second);
    const during = await provisioningTimes(scenario, 'hung', first);
    assertNotSlower(t, before, during, 'a driver that hangs');
    await checker.stillWrites();
    // Its claims wait until the liveness probe has ended it.
    await untilClaimsBound(scenario);
    t.is((await driverPod(second)).restarts, restarts + 1);
    await untilServing(second);
    await assertNodesServe(scenario, 'after', [second]);
    await checker.assertWhole(t);
  },
);

test.serial('a node is cut off the network: its pods go on, and so do other nodes', async (t) => {
  const scenario = await Scenario.begin(t, 'cut');
  const checker = await Checker.start(scenario, 'check', classes.ext4, third);
  const before = await provisioningTimes(scenario, 'before', first);
  await third.disconnect();
  t.teardown(async () => third.reconnect());
  await assignClaims(scenario, third);
  const during = await provisioningTimes(scenario, 'cut', first);
  assertNotSlower(t, before, during, 'a node cut off');
  await assertTold(t, scenario, third);
  await checker.stillWritesOnNode();
  await assertNodesServe(scenario, 'during', [first, second]);
  await third.reconnect();
  await untilServing(third);
  await untilClaimsBound(scenario);
  await checker.assertWhole(t);
  await assertNodesServe(scenario, 'after', [third]);
});
