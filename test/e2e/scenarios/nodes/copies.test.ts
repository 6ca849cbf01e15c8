/**
 * Restores and clones on any node. With a controller, data is copied between nodes. Without one, each must be made on the node of its
 * source.
 */
import { join } from 'node:path';
import test from 'ava';
import { attempt } from '../../../../scripts/command.ts';
import { projectRoot } from '../../cluster/cache.ts';
import { textAt } from '../../kube/api.ts';
import { classes, driverName } from '../../kube/chart.ts';
import { nodeOfClaim, nodeOfPod, threeNodes } from '../../kube/nodes.ts';
import { environment, programs, Scenario } from '../../kube/scenario.ts';
import { hasController } from '../../kube/shape.ts';

const [first] = threeNodes();
/** In the pool with reflink, of the same size on all nodes. */
const storageClass = classes.reflink;
const size = '320Mi';

/** What `kubectl loopcsi doctor` prints. */
async function doctor(): Promise<string> {
  const path = `${join(projectRoot, 'bin')}:${programs}:${process.env['PATH'] ?? ''}`;
  const env = { ...environment, PATH: path };
  return (await attempt('kubectl', ['loopcsi', 'doctor', '--quiet'], { env })).stdout;
}

const sources = {
  restore: { kind: 'VolumeSnapshot', name: 'taken' },
  clone: { kind: 'PersistentVolumeClaim', name: 'data' },
} as const;

for (const [what, source] of Object.entries(sources)) {
  test(`a ${what} on another node than its source is copied there, or refused with an event that names the right one`, async (t) => {
    const scenario = await Scenario.begin(t, `other-${what}`);
    await scenario.claim('data', { storageClass, size });
    await scenario.readyPod('writer', {
      claims: { '/data': 'data' },
      node: first.name,
      script: 'echo first >/data/file && sync',
    });
    await scenario.snapshot('taken', 'data');
    await scenario.claim('copy', { storageClass, size, source });
    const other = threeNodes()[1];
    await scenario.pod('reader', { claims: { '/data': 'copy' }, node: other.name });
    if (await hasController()) {
      await scenario.untilReady('reader');
      t.is(await scenario.sh('reader', 'cat /data/file'), 'first');
      t.is((await nodeOfClaim(scenario, 'copy')).name, other.name);
      return;
    }
    const message = await scenario.event('copy', /ProvisioningFailed/);
    t.log(message);
    t.regex(message, /ResourceExhausted/);
    const tag = (await scenario.volumeId('data')).split('.').at(-1) ?? '';
    // The driver of a node knows the others only by their tags.
    t.true(message.includes(`is on the node with tag ${tag}, `));
    t.true(message.includes("'kubectl loopcsi doctor' names that node"));
    t.regex(await doctor(), new RegExp(`the source is on node '${first.name}'`));
    await scenario.delete('Pod', 'reader');
    await scenario.readyPod('moved', { claims: { '/data': 'copy' }, node: first.name });
    t.is(await scenario.sh('moved', 'cat /data/file'), 'first');
    t.is((await nodeOfClaim(scenario, 'copy')).name, first.name);
  });

  test(`a ${what} whose pod names no node becomes ready`, async (t) => {
    const scenario = await Scenario.begin(t, `free-${what}`);
    await scenario.claim('data', { storageClass, size });
    await scenario.readyPod('writer', {
      claims: { '/data': 'data' },
      script: 'echo first >/data/file && sync',
    });
    await scenario.snapshot('taken', 'data');
    const home = await nodeOfPod(scenario, 'writer');
    await scenario.claim('copy', { storageClass, size, source });
    const startedAtMs = Date.now();
    await scenario.readyPod('reader', { claims: { '/data': 'copy' } }, 240_000);
    t.log(`ready after ${Math.round((Date.now() - startedAtMs) / 1000)} s`);
    t.is(await scenario.sh('reader', 'cat /data/file'), 'first');
    if (!(await hasController())) t.is((await nodeOfPod(scenario, 'reader')).name, home.name);
  });
}

test('twenty restores of one snapshot without a node selector all become ready', async (t) => {
  if (!(await hasController())) {
    t.pass('without a controller, data is not copied between nodes');
    return;
  }
  const scenario = await Scenario.begin(t, 'twenty');
  await scenario.claim('data', { storageClass, size });
  await scenario.readyPod('writer', {
    claims: { '/data': 'data' },
    script: 'head -c 20000000 /dev/urandom >/data/file && sha256sum /data/file >/data/sum && sync',
  });
  await scenario.snapshot('taken', 'data');
  const names = Array.from({ length: 20 }, (_, index) => `copy-${index}`);
  const startedAtMs = Date.now();
  for (const name of names) {
    await scenario.claim(name, { storageClass, size, source: sources.restore });
    await scenario.pod(name, { claims: { '/data': name } });
  }
  const nodes = new Set<string>();
  for (const name of names) {
    await scenario.untilReady(name, 240_000);
    await scenario.sh(name, 'sha256sum -c /data/sum');
    nodes.add((await nodeOfPod(scenario, name)).name);
  }
  t.log(`on ${nodes.size} nodes, ready after ${Math.round((Date.now() - startedAtMs) / 1000)} s`);
  t.true(nodes.size > 1);
});

test('an Immediate restore reaches the node of its source', async (t) => {
  const scenario = await Scenario.begin(t, 'immediate-restore');
  await scenario.claim('data', { storageClass, size });
  await scenario.readyPod('writer', {
    claims: { '/data': 'data' },
    script: 'echo first >/data/file && sync',
  });
  await scenario.snapshot('taken', 'data');
  const source = sources.restore;
  await scenario.claim('copy', { storageClass: classes.immediateReflink, size, source });
  await scenario.readyPod('reader', { claims: { '/data': 'copy' } }, 180_000);
  t.is(await scenario.sh('reader', 'cat /data/file'), 'first');
  const pod = await scenario.get('Pod', 'reader');
  t.is(textAt(pod, 'spec.nodeName'), (await nodeOfPod(scenario, 'writer')).name, driverName);
});
