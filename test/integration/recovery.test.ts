import {
  appendFile,
  copyFile,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import type { FsType } from '../../src/host/host.ts';
import { MiB } from '../../src/units.ts';
import type { PublishInput } from '../../src/volumes/model.ts';
import { onNode } from '../helpers/on-node.ts';
import { reasonOf } from '../helpers/reason-of.ts';
import {
  call,
  capability,
  mountVolume,
  plainSettings,
  type ScratchNode,
  scratchNode,
  unmountVolume,
  volumeInput,
} from '../helpers/scratch-node.ts';
import { devicesBelow, mountsBelow } from '../helpers/scratch-pool.ts';
import { until } from '../helpers/until.ts';

const sizeOf = { ext4: 64n * MiB, xfs: 320n * MiB, btrfs: 256n * MiB } as const;

async function make(node: ScratchNode, name = 'v1', fsType: FsType = 'ext4'): Promise<string> {
  const input = volumeInput(name, { fsType, sizeBytes: sizeOf[fsType] });
  return (await node.volumes.createVolume(call(), input)).record.id;
}

async function conditionsOf(node: ScratchNode, volumeId: string): Promise<string[]> {
  return (await node.volumes.volumeHealth(volumeId)).map(({ reason }) => reason);
}

const recordOf = (node: ScratchNode, id: string) =>
  join(node.poolPath, 'volumes', id, 'volume.json');
const imageOf = (node: ScratchNode, id: string) => join(node.poolPath, 'volumes', id, 'disk.img');

onNode('an unreadable record affects only its volume, and its pods can terminate', async (t) => {
  const node = await scratchNode(t);
  const lost = await make(node, 'lost');
  const well = await make(node, 'well');
  const paths = await mountVolume(node, lost);
  await writeFile(recordOf(node, lost), '{"schemaVersion": 1');
  await node.restart();
  t.deepEqual(await conditionsOf(node, lost), ['RecordUnreadable']);
  const listed = await node.volumes.listVolumes({ maxEntries: 0, startingToken: '' });
  t.deepEqual(
    listed.entries.map(({ record }) => record.id),
    [well],
  );
  t.is(await reasonOf(node.volumes.getVolume(lost)), 'internal');
  t.is(await reasonOf(node.volumes.createVolume(call(), volumeInput('lost'))), 'internal');
  t.is(await reasonOf(node.volumes.deleteVolume(call(), lost)), 'wrong-state');
  await unmountVolume(node, lost, paths);
  t.deepEqual(await mountsBelow(node.directory), []);
  t.deepEqual(await devicesBelow(node.directory), []);
  await node.volumes.deleteVolume(call(), lost);
  t.deepEqual(await readdir(join(node.poolPath, 'volumes')), [well]);
  t.is(await reasonOf(node.volumes.getVolume(lost)), 'not-found');
});

onNode(
  'a volume whose image is missing is not deleted while pods use it, and they can terminate',
  async (t) => {
    const node = await scratchNode(t);
    const id = await make(node);
    const paths = await mountVolume(node, id);
    await rm(imageOf(node, id));
    t.deepEqual(await conditionsOf(node, id), ['ImageMissing']);
    t.is(await reasonOf(node.volumes.deleteVolume(call(), id)), 'wrong-state');
    await unmountVolume(node, id, paths);
    t.deepEqual(await mountsBelow(node.directory), []);
    t.deepEqual(await devicesBelow(node.directory), []);
    await node.volumes.deleteVolume(call(), id);
    t.deepEqual(await readdir(join(node.poolPath, 'volumes')), []);
  },
);

onNode(
  'a file that replaced the image is reported and not treated as the mounted image',
  async (t) => {
    const node = await scratchNode(t);
    const id = await make(node);
    const paths = await mountVolume(node, id);
    await copyFile(imageOf(node, id), node.pathOf('copy.img'));
    await rename(node.pathOf('copy.img'), imageOf(node, id));
    t.deepEqual(await conditionsOf(node, id), ['DeviceLost']);
    await unmountVolume(node, id, paths);
    t.deepEqual(await devicesBelow(node.directory), []);
    t.deepEqual(await conditionsOf(node, id), []);
  },
);

onNode(
  'a pool whose disk is unmounted below mounted volumes is served again after a mount',
  async (t) => {
    const node = await scratchNode(t, { poolFs: 'ext4' });
    const kept = await make(node, 'kept');
    const ended = await make(node, 'ended');
    const paths = await mountVolume(node, kept);
    const others = await mountVolume(node, ended);
    await appendFile(join(paths.targetPath, 'file'), 'before');
    const [pool] = node.domain.pools.all;
    const [poolDisk] = (await devicesBelow(node.directory)).filter(({ image }) =>
      image.endsWith('pool-fs.img'),
    );
    if (pool === undefined || poolDisk === undefined) throw new Error('no pool');
    await execa('umount', ['--lazy', node.poolPath]);
    await pool.check();
    t.deepEqual(await conditionsOf(node, kept), ['PoolNotServed']);
    t.is(await reasonOf(node.volumes.createVolume(call(), volumeInput('new'))), 'unavailable');
    t.is(await reasonOf(node.volumes.deleteVolume(call(), kept)), 'unavailable');
    t.is(await reasonOf(node.volumes.getVolume(kept)), 'unavailable');
    t.deepEqual(await readdir(node.poolPath), [], 'nothing is written below the mount point');
    await unmountVolume(node, ended, others);
    await appendFile(join(paths.targetPath, 'file'), ', meanwhile');
    await execa('mount', [poolDisk.device, node.poolPath]);
    await until('the pool is served again', () => pool.isServed);
    t.deepEqual(await conditionsOf(node, kept), []);
    t.is(await readFile(join(paths.targetPath, 'file'), 'utf8'), 'before, meanwhile');
    await unmountVolume(node, kept, paths);
    for (const id of [kept, ended]) await node.volumes.deleteVolume(call(), id);
    t.deepEqual(await mountsBelow(node.directory), [node.poolPath]);
  },
);

onNode('each health condition is reported when the real kernel causes it', async (t) => {
  const node = await scratchNode(t, { poolFs: 'ext4', poolFsBytes: 1024n * MiB });
  const xfs = await make(node, 'xfs', 'xfs');
  const ext4 = await make(node, 'ext4');
  const short = await make(node, 'short');
  const ofXfs = await mountVolume(node, xfs);
  const ofExt4 = await mountVolume(node, ext4);
  for (const id of [xfs, ext4, short]) t.deepEqual(await conditionsOf(node, id), []);
  await execa('xfs_io', ['-x', '-c', 'shutdown', ofXfs.targetPath]);
  t.deepEqual(await conditionsOf(node, xfs), ['FilesystemShutdown']);
  const [device] = (await devicesBelow(node.directory)).filter(({ image }) => image.includes(ext4));
  const name = device?.device.slice('/dev/'.length) ?? '';
  await writeFile(`/sys/fs/ext4/${name}/trigger_fs_error`, 'provoked by a test');
  t.true((await conditionsOf(node, ext4)).includes('FilesystemErrors'));
  await truncate(imageOf(node, short), Number(32n * MiB));
  t.deepEqual(await conditionsOf(node, short), ['ImageShort']);
  await unmountVolume(node, xfs, ofXfs);
  await unmountVolume(node, ext4, ofExt4);
  const { freeBytes } = await node.host.files.capacity(node.poolPath);
  const ballast = join(node.poolPath, 'ballast');
  await execa('fallocate', ['--length', String(freeBytes - 20n * MiB), ballast]);
  node.domain.pools.all[0]?.space.invalidate();
  const [condition] = await node.volumes.storageHealth();
  t.like(condition, { status: 'STORAGE_DEGRADED', reason: 'PoolNearlyFull' });
  t.deepEqual(await conditionsOf(node, ext4), ['PoolNearlyFull']);
});

function inline(
  node: ScratchNode,
  name: string,
  options: { sizeBytes?: bigint } = {},
): PublishInput {
  return {
    volumeId: name,
    stagingTargetPath: '',
    targetPath: node.pathOf(`inline-${name}`),
    capability: capability(),
    readOnly: false,
    ephemeral: { sizeBytes: options.sizeBytes ?? 64n * MiB, settings: plainSettings },
  };
}

onNode(
  'an inline volume reports that its filesystem was shut down, also after a restart',
  async (t) => {
    const node = await scratchNode(t, { poolFs: 'ext4', poolFsBytes: 1024n * MiB });
    const sizeBytes = sizeOf.xfs;
    const input = {
      ...inline(node, 'csi-shut', { sizeBytes }),
      capability: capability({ fsType: 'xfs' }),
    };
    const readOnly = { ...inline(node, 'csi-read'), readOnly: true };
    await node.volumes.publishVolume(call(), input);
    await node.volumes.publishVolume(call(), readOnly);
    t.deepEqual(await conditionsOf(node, 'csi-shut'), []);
    t.deepEqual(await conditionsOf(node, 'csi-read'), [], 'read-only as requested');
    await execa('xfs_io', ['-x', '-c', 'shutdown', input.targetPath]);
    t.deepEqual(await conditionsOf(node, 'csi-shut'), ['FilesystemShutdown']);
    await node.restart();
    t.deepEqual(await conditionsOf(node, 'csi-shut'), ['FilesystemShutdown']);
    for (const { volumeId, targetPath } of [input, readOnly]) {
      await node.volumes.unpublishVolume(call(), { volumeId, targetPath });
    }
  },
);

onNode(
  'an inline volume keeps its data when it is published again after a reboot, even if the publish fails',
  async (t) => {
    const node = await scratchNode(t);
    const input = inline(node, 'csi-pod');
    await node.volumes.publishVolume(call(), input);
    await writeFile(join(input.targetPath, 'file'), 'of the pod');
    await execa('umount', [input.targetPath]);
    await node.restart({
      reached: (point) => {
        if (point === 'publish:target-made') throw new Error('not now');
      },
    });
    t.deepEqual(await devicesBelow(node.directory), []);
    await t.throwsAsync(node.volumes.publishVolume(call(), input));
    await node.restart();
    await node.volumes.publishVolume(call(), input);
    t.is(await readFile(join(input.targetPath, 'file'), 'utf8'), 'of the pod');
    await node.volumes.unpublishVolume(call(), {
      volumeId: 'csi-pod',
      targetPath: node.pathOf('another'),
    });
    t.is(await readFile(join(input.targetPath, 'file'), 'utf8'), 'of the pod');
    await node.volumes.unpublishVolume(call(), input);
    t.deepEqual(await readdir(join(node.poolPath, 'ephemeral')), []);
  },
);

onNode('concurrent inline volumes never exceed the limit of the pool', async (t) => {
  const node = await scratchNode(t, {
    settings: {
      ephemeral: { defaultBytes: MiB, maximumBytes: 64n * MiB, poolCapBytes: 130n * MiB },
    },
  });
  const inputs = ['a', 'b', 'c', 'd'].map((name) => inline(node, name));
  const reasons = await Promise.all(
    inputs.map((input) => reasonOf(node.volumes.publishVolume(call(), input))),
  );
  t.deepEqual(reasons.sort(), ['no-space', 'no-space', 'ok', 'ok']);
  for (const input of inputs) await node.volumes.unpublishVolume(call(), input);
  t.deepEqual(await readdir(join(node.poolPath, 'ephemeral')), []);
});

onNode('a damaged inline volume is refused when it is published again', async (t) => {
  const node = await scratchNode(t);
  const input = inline(node, 'csi-hurt');
  await node.volumes.publishVolume(call(), input);
  await execa('umount', [input.targetPath]);
  await node.restart();
  const [id = ''] = await readdir(join(node.poolPath, 'ephemeral'));
  const image = join(node.poolPath, 'ephemeral', id, 'disk.img');
  await execa('dd', ['if=/dev/zero', `of=${image}`, 'bs=4096', 'count=2', 'conv=notrunc']);
  const error = await t.throwsAsync(node.volumes.publishVolume(call(), input));
  t.regex(error?.message ?? '', /damaged and was left untouched/);
  await node.volumes.unpublishVolume(call(), input);
  t.deepEqual(await readdir(join(node.poolPath, 'ephemeral')), []);
});

onNode('no volume is staged over another mount, nor at a second path', async (t) => {
  const node = await scratchNode(t);
  const [one, two] = [await make(node, 'one'), await make(node, 'two')];
  const paths = await mountVolume(node, one);
  const stage = (volumeId: string, stagingTargetPath: string) =>
    node.volumes.stageVolume(call(), { volumeId, stagingTargetPath, capability: capability() });
  t.is(await reasonOf(stage(two, paths.stagingTargetPath)), 'wrong-state');
  t.is(await reasonOf(stage(one, paths.targetPath)), 'wrong-state');
  const elsewhere = node.pathOf('elsewhere');
  await mkdir(elsewhere);
  t.is(await reasonOf(stage(one, elsewhere)), 'wrong-state');
  await node.volumes.unstageVolume(call(), { volumeId: one, stagingTargetPath: elsewhere });
  t.is((await mountsBelow(node.directory)).length, 2);
  t.is(
    await reasonOf(
      node.volumes.unstageVolume(call(), {
        volumeId: one,
        stagingTargetPath: paths.stagingTargetPath,
      }),
    ),
    'wrong-state',
  );
  await unmountVolume(node, one, paths);
});

onNode(
  'a mount that is not in the node state keeps its device: unstaging reports its path',
  async (t) => {
    const node = await scratchNode(t);
    const id = await make(node);
    const paths = await mountVolume(node, id);
    const other = node.pathOf('by-hand');
    await mkdir(other);
    await execa('mount', ['--bind', paths.stagingTargetPath, other]);
    await node.volumes.unpublishVolume(call(), { volumeId: id, targetPath: paths.targetPath });
    const input = { volumeId: id, stagingTargetPath: paths.stagingTargetPath };
    const error = await t.throwsAsync(node.volumes.unstageVolume(call(), input));
    t.true(error?.message.includes(other));
    t.is((await devicesBelow(node.directory)).length, 1);
    await execa('umount', [other]);
    await node.volumes.unstageVolume(call(), input);
    t.deepEqual(await devicesBelow(node.directory), []);
  },
);

onNode('mount options of one target apply to that target only', async (t) => {
  const node = await scratchNode(t);
  const id = await make(node);
  const staged = capability({ accessMode: 'SINGLE_NODE_MULTI_WRITER' });
  const paths = await mountVolume(node, id, staged);
  const targetPath = node.pathOf('strict');
  await node.volumes.publishVolume(call(), {
    volumeId: id,
    stagingTargetPath: paths.stagingTargetPath,
    targetPath,
    capability: { ...staged, mountFlags: ['noexec', 'nosuid', 'nodev'] },
    readOnly: false,
  });
  const strict = await node.host.mounts.at(targetPath);
  for (const option of ['noexec', 'nosuid', 'nodev'])
    t.true(strict?.options.includes(option), option);
  t.false((await node.host.mounts.at(paths.targetPath))?.options.includes('noexec'));
  await node.volumes.unpublishVolume(call(), { volumeId: id, targetPath });
  await unmountVolume(node, id, paths);
});

onNode(
  'an ext4 whose last group would contain only tables needs no growth on the node',
  async (t) => {
    const node = await scratchNode(t);
    const { record } = await node.volumes.createVolume(
      call(),
      volumeInput('odd', { sizeBytes: 1025n * MiB }),
    );
    const range = { requiredBytes: record.sizeBytes, limitBytes: 0n };
    const grown = await node.volumes.expandVolume(call(), { volumeId: record.id, range });
    t.is(grown.remaining, 'none');
  },
);

onNode(
  'a growth that a crash interrupted after the mount is completed by the repeated stage',
  async (t) => {
    const node = await scratchNode(t);
    const id = await make(node, 'v1', 'xfs');
    const sizeBytes = 640n * MiB;
    const input = {
      volumeId: id,
      stagingTargetPath: node.pathOf('staging'),
      capability: capability(),
    };
    await mkdir(input.stagingTargetPath);
    await node.volumes.stageVolume(call(), input);
    await node.volumes.expandVolume(call(), {
      volumeId: id,
      range: { requiredBytes: sizeBytes, limitBytes: 0n },
    });
    // A kill after the mount leaves a filesystem that is smaller than its device.
    const device = (await devicesBelow(node.directory))[0]?.device ?? '';
    await execa('losetup', ['--set-capacity', device]);
    await node.restart();
    await node.volumes.stageVolume(call(), input);
    const { totalBytes } = await node.host.files.capacity(input.stagingTargetPath);
    t.true(totalBytes > 500n * MiB, String(totalBytes));
    await node.volumes.unstageVolume(call(), input);
  },
);

onNode(
  'a growth that was interrupted while its ext4 was unmounted is completed by the repeated call',
  async (t) => {
    const node = await scratchNode(t);
    const id = await make(node);
    const input = {
      volumeId: id,
      stagingTargetPath: node.pathOf('staging'),
      capability: capability(),
    };
    await mkdir(input.stagingTargetPath);
    await node.volumes.stageVolume(call(), input);
    await writeFile(join(input.stagingTargetPath, 'file'), 'kept');
    const device = (await devicesBelow(node.directory))[0]?.device ?? '';
    // A kill after the unmount leaves the promised size, image and device of that size, and no mount.
    const range = { requiredBytes: 128n * MiB, limitBytes: 0n };
    await node.volumes.expandVolume(call(), { volumeId: id, range });
    await execa('umount', [input.stagingTargetPath]);
    await execa('losetup', ['--set-capacity', device]);
    await node.restart();
    const volumePath = input.stagingTargetPath;
    await node.volumes.nodeExpandVolume(call(), { volumeId: id, range, volumePath });
    t.is(await readFile(join(volumePath, 'file'), 'utf8'), 'kept');
    const { totalBytes } = await node.host.files.capacity(volumePath);
    t.true(totalBytes > 100n * MiB, String(totalBytes));
    await node.volumes.unstageVolume(call(), input);
    const error = await t.throwsAsync(
      node.volumes.nodeExpandVolume(call(), { volumeId: id, range, volumePath }),
    );
    t.regex(
      error?.message ?? '',
      /is not mounted at/,
      'an unstaged volume is not an interrupted growth',
    );
  },
);
