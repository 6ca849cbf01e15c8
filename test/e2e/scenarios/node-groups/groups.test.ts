import { join } from 'node:path';
import test from 'ava';
import { nodePaths } from '../../cluster/layout.ts';
import { textAt } from '../../kube/api.ts';
import { chartValues, classes, systemNamespace } from '../../kube/chart.ts';
import { Checker } from '../../kube/checksums.ts';
import { nodeOfClaim, nodeOfPod, threeNodes } from '../../kube/nodes.ts';
import { api, kubectl, Scenario } from '../../kube/scenario.ts';
import { upgrade } from '../../kube/shape.ts';

const nodes = threeNodes();
const [first, second, third] = nodes;

test('groups of nodes have pools of their own: claims are created where their pool is', async (t) => {
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
  await scenario.event('misplaced', /FailedScheduling.*did not have enough free storage/);
  await scenario.delete('Pod', 'misplaced');
  for (const name of ['one', 'two', 'three']) {
    await scenario.delete('Pod', name);
    const claim = await scenario.get('PersistentVolumeClaim', name);
    await scenario.delete('PersistentVolumeClaim', name);
    // Their driver must delete the volumes before it loses the pool.
    await api.untilGone('PersistentVolume', '', textAt(claim, 'spec.volumeName') ?? '');
  }
});
