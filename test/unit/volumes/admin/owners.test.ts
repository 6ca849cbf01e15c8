import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { KernelError } from '../../../../src/host/errors.ts';
import type { NodeState } from '../../../../src/state/records.ts';
import { readNodeState, writeNodeState } from '../../../../src/volumes/attachment/node-state.ts';
import type { Pod, PublishInput } from '../../../../src/volumes/model.ts';
import { claimParameters as parametersOf } from '../../../../src/volumes/owner.ts';
import { memoryLog } from '../../../helpers/csi-server.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { RestartableDriver } from '../../../helpers/restartable-driver.ts';
import { call, capability, plainSettings, volumeInput } from '../../../helpers/scratch-node.ts';

function claimParameters(name: string, namespace = 'default'): Record<string, string> {
  return {
    ...parametersOf({ namespace, name }),
    'csi.storage.k8s.io/pv/name': `pv-of-${name}`,
  };
}

const pod = (name: string): Pod => ({ namespace: 'default', name, uid: `uid-of-${name}` });

/** A node that creates, stages and publishes volumes of claims. Its clock shows 1,000 ms. */
async function nodeWith(t: ExecutionContext) {
  const node = await fakeNode(t);
  const { log, lines } = memoryLog();
  const pools = [node.settings('a'), node.settings('b')];
  const open = () => node.open(pools, { log, now: () => 1_000 });
  const driver = new RestartableDriver(await open());
  const pathOf = (name: string): string => join(node.directory, name);
  await mkdir(pathOf('staging'));
  return Object.assign(driver, {
    node,
    lines,
    pathOf,
    restart: () => driver.reopen(open),
    create: async (name: string, parameters: Record<string, string>, pool = 'a') => {
      const settings = { ...plainSettings, pool };
      const input = volumeInput(name, { parameters, settings });
      return (await driver.volumes.createVolume(call(), input)).record.id;
    },
    stage: async (volumeId: string) => {
      const stagingTargetPath = pathOf('staging');
      const asked = capability({ accessMode: 'SINGLE_NODE_MULTI_WRITER' });
      await driver.volumes.stageVolume(call(), { volumeId, stagingTargetPath, capability: asked });
    },
    publish: async (volumeId: string, target: string, given: Partial<PublishInput> = {}) => {
      await driver.volumes.publishVolume(call(), {
        volumeId,
        stagingTargetPath: pathOf('staging'),
        targetPath: pathOf(target),
        capability: capability({ accessMode: 'SINGLE_NODE_MULTI_WRITER' }),
        readOnly: false,
        ...given,
      });
    },
    unpublish: (volumeId: string, target: string) =>
      driver.volumes.unpublishVolume(call(), { volumeId, targetPath: pathOf(target) }),
  });
}

test('a volume is found by its claim, also after a restart', async (t) => {
  const node = await nodeWith(t);
  const id = await node.create('pvc-1', claimParameters('data'));
  await node.create('pvc-2', claimParameters('data', 'other'));
  await node.restart();
  const { record, owner } = await node.administration.getVolume('default/data');
  t.is(record.id, id);
  t.deepEqual(owner, {
    namespace: 'default',
    claim: 'data',
    persistentVolume: 'pv-of-data',
    pod: '',
  });
  t.is(await reasonOf(node.administration.getVolume('default/logs')), 'not-found');
});

test('a claim with several volumes is refused with their ids, and each is found by its id', async (t) => {
  const node = await nodeWith(t);
  const first = await node.create('pvc-1', claimParameters('data'));
  const second = await node.create('pvc-2', claimParameters('data'), 'b');
  const found = node.administration.getVolume('default/data');
  await t.throwsAsync(found, {
    message: `claim 'default/data' has 2 volumes: ${first} (created 1970-01-01T00:00:01.000Z), ${second} (created 1970-01-01T00:00:01.000Z); specify one of these ids`,
  });
  t.is(await reasonOf(node.administration.getVolume('default/data')), 'invalid');
  t.is((await node.administration.getVolume(second)).record.id, second);
});

test('a volume whose own name looks like a claim is found before the claim', async (t) => {
  const node = await nodeWith(t);
  await node.create('pvc-1', claimParameters('data'));
  const named = await node.create('default/data', {});
  t.is((await node.administration.getVolume('default/data')).record.id, named);
});

test('a shared volume has the pods of its targets, until they are unpublished', async (t) => {
  const node = await nodeWith(t);
  const id = await node.create('pvc-1', claimParameters('data'));
  await node.stage(id);
  await node.publish(id, 'one', { pod: pod('web-0') });
  await node.publish(id, 'two', { pod: pod('web-1') });
  await node.restart();
  const podsOf = async () => (await node.administration.getVolume(id)).pods;
  t.deepEqual(await podsOf(), [
    { ...pod('web-0'), targetPath: node.pathOf('one'), publishedAtMs: 1_000 },
    { ...pod('web-1'), targetPath: node.pathOf('two'), publishedAtMs: 1_000 },
  ]);
  await node.unpublish(id, 'one');
  t.deepEqual(
    (await podsOf()).map(({ name }) => name),
    ['web-1'],
  );
});

test('a pod whose mount has ended, for example at a reboot, is not reported', async (t) => {
  const node = await nodeWith(t);
  const id = await node.create('pvc-1', claimParameters('data'));
  await node.stage(id);
  await node.publish(id, 'one', { pod: pod('web-0') });
  node.node.host.reboot();
  t.deepEqual((await node.administration.getVolume(id)).pods, []);
});

test('a publication of an earlier version gets its pod with the repeated publish, and keeps its other fields', async (t) => {
  const node = await nodeWith(t);
  const id = await node.create('pvc-1', claimParameters('data'));
  await node.stage(id);
  await node.publish(id, 'one');
  const volume = node.domain.pools.getVolume(id);
  const state: NodeState = await readNodeState(node.domain, volume);
  const later = { ...state.published[0], publishedAtMs: undefined, laterField: 'kept' };
  const published = [JSON.parse(JSON.stringify(later)) as NodeState['published'][0]];
  await writeNodeState(node.domain, volume, { ...state, published });
  await node.restart();
  t.deepEqual((await node.administration.getVolume(id)).pods, []);
  await node.publish(id, 'one', { pod: pod('web-0') });
  await node.restart();
  t.deepEqual((await node.administration.getVolume(id)).pods, [
    { ...pod('web-0'), targetPath: node.pathOf('one'), publishedAtMs: undefined },
  ]);
  const after = await readNodeState(node.domain, node.domain.pools.getVolume(id));
  t.is((after.published[0] as { laterField?: string }).laterField, 'kept');
});

for (const errno of ['EIO', 'EROFS', 'ENOSPC']) {
  test(`a repeated publish succeeds if its pod cannot be recorded (${errno}), and leaves the file as it is`, async (t) => {
    const node = await nodeWith(t);
    const id = await node.create('pvc-1', claimParameters('data'));
    await node.stage(id);
    await node.publish(id, 'one');
    const path = node.domain.pools.getVolume(id).pool.pathOf('volumes', id, 'node.json');
    const text = await readFile(path, 'utf8');
    const callsBefore = node.node.host.calls.length;
    node.node.host.failNext('files.replaceFile', new KernelError('open', errno, path));
    await node.publish(id, 'one', { pod: pod('web-0') });
    t.is(await readFile(path, 'utf8'), text);
    t.false(node.node.host.calls.slice(callsBefore).includes('files.overwrite'));
    t.true(node.lines.some((line) => line.includes(errno) && line.includes(id)));
    await node.publish(id, 'one', { pod: pod('web-0') });
    t.regex(await readFile(path, 'utf8'), /web-0/, 'the next call records it');
  });
}

test('the pod costs a publish no further write and no fsync', async (t) => {
  const node = await nodeWith(t);
  const id = await node.create('pvc-1', claimParameters('data'));
  await node.stage(id);
  const callsOf = async (target: string, given: Partial<PublishInput>) => {
    const { calls } = node.node.host;
    const before = calls.length;
    await node.publish(id, target, given);
    return node.node.host.calls.slice(before);
  };
  const withPod = await callsOf('two', { pod: pod('web-0') });
  await node.unpublish(id, 'two');
  const without = await callsOf('two', {});
  t.deepEqual(withPod, without);
  t.is(withPod.filter((name) => name === 'files.replaceFile').length, 1);
  t.deepEqual(
    withPod.filter((name) => /sync/i.test(name)),
    [],
  );
});

test('an inline volume belongs to the pod of its publish call, also after a reboot', async (t) => {
  const node = await nodeWith(t);
  await node.publish('csi-1', 'one', {
    stagingTargetPath: '',
    pod: pod('web-0'),
    ephemeral: { sizeBytes: undefined, settings: plainSettings },
  });
  const owner = { namespace: 'default', claim: '', persistentVolume: '', pod: 'web-0' };
  const before = await node.administration.getVolume('csi-1');
  t.deepEqual(before.owner, owner);
  t.deepEqual(
    before.pods.map(({ name }) => name),
    ['web-0'],
  );
  node.node.host.reboot();
  const after = await node.administration.getVolume('csi-1');
  t.deepEqual([after.owner, after.pods], [owner, []]);
});

test('each log line about a volume names its claim', async (t) => {
  const node = await nodeWith(t);
  const id = await node.create('pvc-1', claimParameters('data'));
  node.domain.log.warn({ volumeId: id }, 'a test');
  node.domain.log.warn({ volumeId: 'unknown.0123abcd' }, 'another test');
  node.domain.log.warn({ pool: 'a' }, 'a third test');
  const fieldsOf = (msg: string): unknown =>
    node.lines
      .map((line) => JSON.parse(line) as { msg: string; namespace?: string; claim?: string })
      .filter((line) => line.msg === msg)
      .map(({ namespace, claim }) => [namespace, claim]);
  t.deepEqual(fieldsOf('a test'), [['default', 'data']]);
  t.deepEqual(fieldsOf('another test'), [[undefined, undefined]]);
  t.deepEqual(fieldsOf('a third test'), [[undefined, undefined]]);
});

test('a snapshot is found by its VolumeSnapshot', async (t) => {
  const node = await nodeWith(t);
  const sourceVolumeId = await node.create('pvc-1', claimParameters('data'));
  const parameters = {
    'csi.storage.k8s.io/volumesnapshot/namespace': 'default',
    'csi.storage.k8s.io/volumesnapshot/name': 'monday',
    'csi.storage.k8s.io/volumesnapshotcontent/name': 'snapcontent-1',
  };
  const take = (name: string) =>
    node.volumes.createSnapshot(call(), {
      name,
      sourceVolumeId,
      settings: { freeze: false },
      parameters,
    });
  const { record } = await take('snapshot-1');
  const { record: found, owner } = await node.administration.getSnapshot('default/monday');
  t.is(found.id, record.id);
  t.deepEqual(owner, {
    namespace: 'default',
    volumeSnapshot: 'monday',
    volumeSnapshotContent: 'snapcontent-1',
    volumeGroupSnapshot: '',
  });
  t.deepEqual(node.volumes.ownerFieldsOf({ volumeId: undefined, snapshotId: record.id }), {
    namespace: 'default',
    claim: 'data',
    volumeSnapshot: 'monday',
  });
  await take('snapshot-2');
  t.is(await reasonOf(node.administration.getSnapshot('default/monday')), 'invalid');
});
