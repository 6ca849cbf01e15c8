/** VolumeGroupSnapshots of claims on several nodes, which only a controller can take. */
import test from 'ava';
import { textAt } from '../../kube/api.ts';
import { classes, release } from '../../kube/chart.ts';
import { nodeOfClaim, threeNodes } from '../../kube/nodes.ts';
import { api, Scenario } from '../../kube/scenario.ts';
import { hasController } from '../../kube/shape.ts';

const storageClass = classes.reflink;
const size = '320Mi';

test('a VolumeGroupSnapshot of claims on three nodes is ready, and each member is restored on another node', async (t) => {
  if (!(await hasController())) {
    t.log('not run: sidecars on each node have no group snapshots');
    t.pass();
    return;
  }
  const scenario = await Scenario.begin(t, 'group-nodes');
  const nodes = threeNodes();
  for (const [index, node] of nodes.entries()) {
    const name = `data-${index}`;
    await scenario.claim(name, { storageClass, size, labels: { app: 'database' } });
    await scenario.readyPod(`writer-${index}`, {
      claims: { '/data': name },
      node: node.name,
      script: `echo ${index} >/data/file && sync`,
    });
    t.is((await nodeOfClaim(scenario, name)).name, node.name);
  }
  await scenario.create('VolumeGroupSnapshot', {
    metadata: { name: 'group' },
    spec: {
      volumeGroupSnapshotClassName: release,
      source: { selector: { matchLabels: { app: 'database' } } },
    },
  });
  const group = await scenario.until(
    'VolumeGroupSnapshot',
    'group',
    (one) => textAt(one, 'status.readyToUse') === 'true',
    120_000,
  );
  // What is written later is not in the group.
  for (const index of nodes.keys())
    await scenario.sh(`writer-${index}`, 'echo late >/data/file && sync');

  const snapshots = (await api.list('VolumeSnapshot', scenario.namespace)).filter(
    (one) => textAt(one, 'status.volumeGroupSnapshotName') === 'group',
  );
  t.is(snapshots.length, 3);
  for (const snapshot of snapshots) {
    const source = textAt(snapshot, 'spec.source.persistentVolumeClaimName') ?? '';
    const index = Number(source.slice('data-'.length));
    const other = nodes[(index + 1) % nodes.length] ?? nodes[0];
    const name = `copy-${index}`;
    const from = { kind: 'VolumeSnapshot', name: snapshot.metadata.name } as const;
    await scenario.claim(name, { storageClass, size, source: from });
    await scenario.readyPod(
      `reader-${index}`,
      { claims: { '/data': name }, node: other.name },
      240_000,
    );
    t.is(await scenario.sh(`reader-${index}`, 'cat /data/file'), String(index));
    t.is((await nodeOfClaim(scenario, name)).name, other.name);
  }

  const content = textAt(group, 'status.boundVolumeGroupSnapshotContentName') ?? '';
  await scenario.delete('VolumeGroupSnapshot', 'group');
  await api.untilGone('VolumeGroupSnapshotContent', '', content);
  for (const { metadata } of snapshots)
    await api.untilGone('VolumeSnapshot', scenario.namespace, metadata.name);
});
