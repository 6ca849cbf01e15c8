/** Nodes that are unreachable for so long that Kubernetes acts on it, and nodes that are drained, deleted or given up. */
import test from 'ava';
import { eventually } from '../../eventually.ts';
import { textAt } from '../../kube/api.ts';
import { classes, driverName } from '../../kube/chart.ts';
import { Checker } from '../../kube/checksums.ts';
import { driverPod } from '../../kube/driver-pods.ts';
import { bringBack, nodeOfPod, threeNodes, untilNotReady } from '../../kube/nodes.ts';
import { selectedNode } from '../../kube/objects.ts';
import { assertNotSlower, provisioningTimes } from '../../kube/provisioning.ts';
import { api, kubectl, kubectlLoopcsi, Scenario } from '../../kube/scenario.ts';
import { assertNodesServe } from '../../kube/serving.ts';
import { hasController } from '../../kube/shape.ts';

const [first, second, third] = threeNodes();

test.serial(
  'a claim that is assigned to a lost node stays with it until the operator gives the node up',
  async (t) => {
    const scenario = await Scenario.begin(t, 'assigned');
    const checker = await Checker.start(scenario, 'check', classes.xfs, third);
    const before = await provisioningTimes(scenario, 'before', first);
    await third.powerOff();
    await untilNotReady(third);
    const unreachable = await provisioningTimes(scenario, 'unreachable', first);
    assertNotSlower(t, before, unreachable, 'a node that is not ready');
    await scenario.claim('assigned', { assignedTo: third.name });
    await scenario.pod('assigned', { claims: { '/data': 'assigned' } });
    await scenario.event('assigned', /FailedScheduling.*untolerated taint/);
    if (await hasController())
      await kubectlLoopcsi('node', 'forget', third.name, '--yes', '--force');
    else {
      const claim = ['--namespace', scenario.namespace, 'pvc/assigned'];
      await kubectl('annotate', ...claim, `${selectedNode}-`);
    }
    await scenario.untilReady('assigned', 180_000);
    t.not((await nodeOfPod(scenario, 'assigned')).name, third.name);
    if (await hasController()) await kubectlLoopcsi('node', 'remember', third.name);
    await bringBack(third);
    await scenario.untilReady('check', 180_000);
    await checker.assertWhole(t, 1);
  },
);

test.serial(
  'a node is drained: its pods wait for it, and have their data when it is back',
  async (t) => {
    const scenario = await Scenario.begin(t, 'drain');
    await scenario.claim('data', { storageClass: classes.xfs, size: '320Mi' });
    const claims = { '/data': 'data' };
    const script = 'echo kept >/data/file && sync';
    await scenario.readyPod('writer', { claims, node: second.name, script });
    const driver = await driverPod(second);
    const flags = ['--ignore-daemonsets', '--delete-emptydir-data', '--force', '--timeout=120s'];
    t.teardown(() => kubectl('uncordon', second.name));
    await kubectl('drain', second.name, ...flags);
    t.is(await api.find('Pod', scenario.namespace, 'writer'), undefined);
    await scenario.pod('next', { claims });
    await scenario.event('next', /FailedScheduling.*(unschedulable|node affinity)/);
    t.is((await driverPod(second)).name, driver.name, 'the DaemonSet stays');
    await kubectl('uncordon', second.name);
    await scenario.untilReady('next', 180_000);
    t.is((await nodeOfPod(scenario, 'next')).name, second.name);
    t.is(await scenario.sh('next', 'cat /data/file'), 'kept');
  },
);

test.serial('a node is deleted and comes back: its volumes are usable again', async (t) => {
  const scenario = await Scenario.begin(t, 'deleted');
  await scenario.claim('data', { storageClass: classes.ext4 });
  const claims = { '/data': 'data' };
  const script = 'echo kept >/data/file && sync';
  await scenario.readyPod('writer', { claims, node: third.name, script });
  const id = await scenario.volumeId('data');
  await third.powerOff();
  await kubectl('delete', 'node', third.name);
  await api.untilGone('Pod', scenario.namespace, 'writer', 180_000);
  await scenario.pod('next', { claims });
  await scenario.event('next', /FailedScheduling.*match PersistentVolume's node affinity/);
  await assertNodesServe(scenario, 'during', [first, second]);
  t.is(await scenario.volumeId('data'), id, 'the claim keeps its volume');
  await bringBack(third);
  await scenario.untilReady('next', 180_000);
  t.is((await nodeOfPod(scenario, 'next')).name, third.name);
  t.is(await scenario.sh('next', 'cat /data/file'), 'kept');
  await eventually('the label of the topology', async () => {
    const labels = textAt(await api.find('Node', '', third.name), 'metadata.labels') ?? '';
    return labels.includes(`topology.${driverName}/node`) ? true : undefined;
  });
  await assertNodesServe(scenario, 'after', [third]);
});

test.serial(
  'a deleted node is given up: its claims can be deleted; it returns refused, and is remembered with its data',
  async (t) => {
    if (!(await hasController())) {
      t.pass('without a controller, nobody answers for a node that is gone');
      return;
    }
    const scenario = await Scenario.begin(t, 'given-up');
    for (const name of ['lost', 'kept']) {
      await scenario.claim(name, { storageClass: classes.ext4 });
      const script = 'echo kept >/data/file && sync';
      await scenario.readyPod(name, { claims: { '/data': name }, node: third.name, script });
    }
    const claim = await scenario.get('PersistentVolumeClaim', 'lost');
    await third.powerOff();
    await kubectl('delete', 'node', third.name);
    for (const name of ['lost', 'kept']) {
      await api.untilGone('Pod', scenario.namespace, name, 180_000);
    }
    const event = await scenario.event('lost', /^NodeDeleted/, 300_000);
    t.regex(event, new RegExp(`kubectl loopcsi node forget ${third.name}`));
    const back = async (): Promise<void> => {
      await kubectlLoopcsi('node', 'remember', third.name);
    };
    t.teardown(back);
    t.regex(await kubectlLoopcsi('node', 'list'), new RegExp(`${third.name}.*unreachable`));
    await kubectlLoopcsi('node', 'forget', third.name, '--yes', '--force');
    await scenario.delete('PersistentVolumeClaim', 'lost');
    await api.untilGone('PersistentVolume', '', textAt(claim, 'spec.volumeName') ?? '', 180_000);
    await assertNodesServe(scenario, 'during', [first, second]);

    await bringBack(third);
    await eventually('the node to be refused', async () =>
      new RegExp(`${third.name}.*refused`).test(await kubectlLoopcsi('node', 'list'))
        ? true
        : undefined,
    );
    await back();
    await scenario.readyPod('reader', { claims: { '/data': 'kept' } }, 180_000);
    t.is(await scenario.sh('reader', 'cat /data/file'), 'kept');
    await assertNodesServe(scenario, 'after', [third]);
  },
);
