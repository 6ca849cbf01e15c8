import { access } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { KernelError } from '../../../../src/host/errors.ts';
import { MiB } from '../../../../src/units.ts';
import { unmountManually } from '../../../../src/volumes/admin/manual-mount.ts';
import type { FaultPoint } from '../../../../src/volumes/engine/fault-points.ts';
import { parseInlineAttributes } from '../../../../src/volumes/parameters/storage-class.ts';
import { fakeNode, fakeSettings } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, capability, plainSettings, volumeInput } from '../../../helpers/scratch-node.ts';

test('an inline volume is refused if they are disabled, the error names the remedy, and nothing is created', async (t) => {
  const node = await fakeNode(t);
  const ephemeral = { ...fakeSettings.ephemeral, maximumBytes: 0n };
  const { volumes } = await node.open([node.settings('default')], {
    settings: { ...fakeSettings, ephemeral },
  });
  const published = volumes.publishVolume(call(), {
    volumeId: 'csi-of-a-pod',
    stagingTargetPath: '',
    targetPath: join(node.directory, 'target'),
    capability: capability(),
    readOnly: false,
    ephemeral: parseInlineAttributes({}),
  });
  await t.throwsAsync(published, { message: /are disabled.*claim.*driver\.ephemeral\.enabled/ });
  t.deepEqual(await node.host.loops.list(), []);
});

/** A node that limits inline volumes to 32 MiB each and 48 MiB per pool. */
async function nodeWith(t: ExecutionContext) {
  const node = await fakeNode(t);
  let at: FaultPoint | undefined;
  let hook = async (): Promise<void> => undefined;
  const ephemeral = { defaultBytes: 16n * MiB, maximumBytes: 32n * MiB, poolCapBytes: 48n * MiB };
  const { volumes, domain } = await node.open([node.settings('a')], {
    settings: { ...fakeSettings, ephemeral },
    reached: async (point) => {
      if (point === at) await hook();
    },
  });
  const pool = domain.pools.named('a');
  const pathOf = (name: string) => join(node.directory, `target-${name}`);
  return {
    node,
    volumes,
    pathOf,
    publish: (name: string, sizeBytes = 32n * MiB) =>
      volumes.publishVolume(call(), {
        volumeId: `csi-${name}`,
        stagingTargetPath: '',
        targetPath: pathOf(name),
        capability: capability(),
        readOnly: false,
        ephemeral: { sizeBytes, settings: plainSettings },
      }),
    unpublish: (name: string) =>
      volumes.unpublishVolume(call(), { volumeId: `csi-${name}`, targetPath: pathOf(name) }),
    unmountByOperator: (name: string) =>
      unmountManually(domain, call(), {
        directory: join(node.directory, 'mounts'),
        volumeId: `csi-${name}`,
        targetPath: '',
      }),
    during: (point: FaultPoint, work: () => Promise<void>) => {
      at = point;
      hook = async () => {
        at = undefined;
        await work();
      };
    },
    /** Numbers of volumes, devices and mounts. */
    left: async () => [
      pool.ephemerals.size,
      (await node.host.loops.list()).length,
      (await node.host.mounts.list()).length,
    ],
  };
}

test('an inline volume exists from its publish to its unpublish', async (t) => {
  const { publish, unpublish, pathOf, left } = await nodeWith(t);
  await publish('pod');
  t.deepEqual(await left(), [1, 1, 1]);
  t.is(await reasonOf(publish('pod')), 'ok', 'again');
  await unpublish('pod');
  t.deepEqual(await left(), [0, 0, 0]);
  await t.throwsAsync(access(pathOf('pod')), { code: 'ENOENT' });
  t.is(await reasonOf(unpublish('pod')), 'ok', 'again');
});

test('the size of one inline volume and the total size of those in a pool are limited', async (t) => {
  const { publish, unpublish, left } = await nodeWith(t);
  t.is(await reasonOf(publish('large', 33n * MiB)), 'out-of-range');
  await publish('one');
  t.is(await reasonOf(publish('two')), 'no-space');
  t.is(await reasonOf(publish('two', 16n * MiB)), 'ok');
  await unpublish('one');
  await unpublish('two');
  t.deepEqual(await left(), [0, 0, 0]);
});

test('inline volumes that are being created count towards the limit', async (t) => {
  const { publish, during } = await nodeWith(t);
  let second = '';
  during('new:image-made', async () => {
    second = await reasonOf(publish('two'));
  });
  await publish('one');
  t.is(second, 'no-space');
  t.is(await reasonOf(publish('three', 16n * MiB)), 'ok', 'each is counted once');
});

test('an inline volume whose publish fails is deleted, since the kubelet may not retry', async (t) => {
  const { node, publish, left } = await nodeWith(t);
  // A mount that fails with EIO is tried twice.
  for (let i = 0; i < 2; i += 1) {
    node.host.failNext('mounts.mountDevice', new KernelError('mount', 'EIO', 'a test'));
  }
  t.not(await reasonOf(publish('pod')), 'ok');
  t.deepEqual(await left(), [0, 0, 0]);
});

test('an inline volume is not deleted while it is created', async (t) => {
  const { publish, unpublish, during } = await nodeWith(t);
  let other = '';
  during('ephemeral:made', async () => {
    other = await reasonOf(unpublish('pod'));
  });
  await publish('pod');
  t.is(other, 'busy');
});

test('an inline volume with the id of another volume is refused: its unpublish would affect the other one', async (t) => {
  const { node, volumes, pathOf } = await nodeWith(t);
  const { record } = await volumes.createVolume(call(), volumeInput('v', { sizeBytes: 16n * MiB }));
  const published = volumes.publishVolume(call(), {
    volumeId: record.id,
    stagingTargetPath: '',
    targetPath: pathOf('v'),
    capability: capability(),
    readOnly: false,
    ephemeral: { sizeBytes: 16n * MiB, settings: plainSettings },
  });
  t.is(await reasonOf(published), 'conflict');
  t.deepEqual(await node.host.loops.list(), []);
});

test('an operator cannot unmount an inline volume that is mounted for its pod; afterwards the unmount deletes it', async (t) => {
  const { node, publish, pathOf, left, unmountByOperator } = await nodeWith(t);
  await publish('pod');
  await t.throwsAsync(unmountByOperator('pod'), { message: /inline volume.*delete the pod/ });
  t.deepEqual(await left(), [1, 1, 1], 'the pod still has its volume');
  // It was unmounted manually, and NodeUnpublishVolume was never called.
  await node.host.mounts.unmount(pathOf('pod'));
  await unmountByOperator('pod');
  t.deepEqual(await left(), [0, 0, 0]);
});
