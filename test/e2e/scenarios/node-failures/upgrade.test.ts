import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { nodePaths } from '../../cluster/layout.ts';
import { type KubeObject, textAt } from '../../kube/api.ts';
import { chartValues, classes, nodePods, systemNamespace } from '../../kube/chart.ts';
import { Checker } from '../../kube/checksums.ts';
import { driverPod, nodeNameOf } from '../../kube/driver-pods.ts';
import { nodeOfClaim, nodeOfPod, threeNodes } from '../../kube/nodes.ts';
import { api, isReady, kubectl, Scenario } from '../../kube/scenario.ts';
import { assertNodesServe } from '../../kube/serving.ts';
import { upgrade } from '../../kube/shape.ts';

const nodes = threeNodes();
const [first, second, third] = nodes;

/** The most nodes that were at one time without their old driver, and their new one had not been ready yet. */
async function mostReplacedAtOnce(
  before: readonly string[],
  isOver: () => boolean,
): Promise<number> {
  const done = new Set<string>();
  let most = 0;
  while (!isOver()) {
    const pods = await api.list('Pod', systemNamespace, nodePods);
    const isOld = ({ metadata }: KubeObject): boolean => before.includes(metadata.name);
    for (const pod of pods) {
      const node = nodeNameOf(pod);
      if (node !== undefined && !isOld(pod) && isReady(pod)) done.add(node);
    }
    const old = pods.filter((pod) => isOld(pod) && pod.metadata['deletionTimestamp'] === undefined);
    const replaced = nodes.filter(
      ({ name }) => !done.has(name) && !old.some((pod) => nodeNameOf(pod) === name),
    );
    most = Math.max(most, replaced.length);
    await delay(250);
  }
  return most;
}

test.serial(
  'a rolling upgrade replaces one driver after another while pods on all nodes write',
  async (t) => {
    const scenario = await Scenario.begin(t, 'rollout');
    const checkers = await Promise.all(
      nodes.map((node, index) => Checker.start(scenario, `check-${index}`, classes.xfs, node)),
    );
    const before = await Promise.all(nodes.map(async (node) => (await driverPod(node)).name));
    let isOver = false;
    t.teardown(() => {
      isOver = true;
    });
    const watching = mostReplacedAtOnce(before, () => isOver);
    await upgrade({ podAnnotations: { rollout: String(Date.now()) } });
    isOver = true;
    t.is(await watching, 1, 'one driver after another');
    const after = await Promise.all(nodes.map(async (node) => (await driverPod(node)).name));
    for (const [index, name] of before.entries()) t.not(after[index], name);
    for (const checker of checkers) await checker.assertWhole(t);
    await assertNodesServe(scenario, 'after', nodes);
  },
);

test.serial(
  'groups of nodes have pools of their own: claims are created where their pool is',
  async (t) => {
    const scenario = await Scenario.begin(t, 'groups');
    const checker = await Checker.start(scenario, 'check', classes.xfs, third);
    t.teardown(async () => {
      await upgrade();
      for (const { name } of nodes) await kubectl('label', 'node', name, 'disk-');
    });
    await kubectl('label', 'node', first.name, second.name, 'disk=plain');
    await kubectl('label', 'node', third.name, 'disk=archive');
    const { pools, storageClasses } = chartValues() as {
      readonly pools: readonly object[];
      readonly storageClasses: readonly object[];
    };
    const archive = { name: 'archive', path: join(nodePaths.pools, 'archive'), create: true };
    await upgrade({
      nodeGroups: [
        { name: 'plain', nodeSelector: { disk: 'plain' }, pools },
        { name: 'archive', nodeSelector: { disk: 'archive' }, pools: [...pools, archive] },
      ],
      storageClasses: [...storageClasses, { name: 'archive', parameters: { pool: 'archive' } }],
    });
    t.is((await api.list('DaemonSet', systemNamespace)).length, 2);
    await checker.assertWhole(t);
    for (const name of ['one', 'two', 'three']) {
      await scenario.claim(name, { storageClass: 'archive' });
      await scenario.readyPod(name, { claims: { '/data': name } });
      t.is((await nodeOfClaim(scenario, name)).name, third.name);
      t.is((await nodeOfPod(scenario, name)).name, third.name);
    }
    await scenario.claim('misplaced', { storageClass: 'archive' });
    await scenario.pod('misplaced', { claims: { '/data': 'misplaced' }, node: first.name });
    t.regex(
      await scenario.event('misplaced', /FailedScheduling/),
      /did not have enough free storage/,
    );
    await scenario.delete('Pod', 'misplaced');
    for (const name of ['one', 'two', 'three']) {
      await scenario.delete('Pod', name);
      const claim = await scenario.get('PersistentVolumeClaim', name);
      await scenario.delete('PersistentVolumeClaim', name);
      // Their driver must delete the volumes before it loses the pool.
      await api.untilGone('PersistentVolume', '', textAt(claim, 'spec.volumeName') ?? '');
    }
  },
);
