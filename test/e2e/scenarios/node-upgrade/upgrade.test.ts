import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import type { KubeObject } from '../../kube/api.ts';
import { classes, nodePods, systemNamespace } from '../../kube/chart.ts';
import { Checker } from '../../kube/checksums.ts';
import { driverPod, nodeNameOf } from '../../kube/driver-pods.ts';
import { threeNodes } from '../../kube/nodes.ts';
import { api, isReady, Scenario } from '../../kube/scenario.ts';
import { assertNodesServe } from '../../kube/serving.ts';
import { upgrade } from '../../kube/shape.ts';

const nodes = threeNodes();

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
