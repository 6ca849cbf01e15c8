import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, open, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import type { FsType } from '../../src/host/host.ts';
import { MiB } from '../../src/units.ts';
import { changedHost } from '../helpers/changed-host.ts';
import { onNode } from '../helpers/on-node.ts';
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
import { StalledFuse } from '../helpers/stalled-fuse.ts';
import { until } from '../helpers/until.ts';

const sizeOf = { ext4: 64n * MiB, xfs: 320n * MiB, btrfs: 256n * MiB } as const;

function inline(node: ScratchNode, name: string, options: { target?: string; fsType: FsType }) {
  const { target = node.pathOf(`inline-${name}`), fsType } = options;
  return {
    volumeId: name,
    stagingTargetPath: '',
    targetPath: target,
    capability: capability({ fsType }),
    readOnly: false,
    ephemeral: { sizeBytes: sizeOf[fsType], settings: plainSettings },
  };
}

async function make(node: ScratchNode, fsType: FsType = 'ext4'): Promise<string> {
  const input = volumeInput('v', { fsType, sizeBytes: sizeOf[fsType] });
  return (await node.volumes.createVolume(call(), input)).record.id;
}

onNode(
  'an inline volume whose filesystem was shut down is kept, and its pool is served',
  async (t) => {
    const node = await scratchNode(t);
    const [dead, well] = [
      inline(node, 'csi-dead', { fsType: 'xfs' }),
      inline(node, 'csi-well', { fsType: 'ext4' }),
    ];
    for (const input of [dead, well]) await node.volumes.publishVolume(call(), input);
    await execa('xfs_io', ['-x', '-c', 'shutdown', dead.targetPath]);
    await node.restart();
    t.deepEqual(
      node.domain.pools.all.map(({ problem }) => problem),
      [undefined],
    );
    t.is((await readdir(join(node.poolPath, 'ephemeral'))).length, 2);
    for (const input of [dead, well]) await node.volumes.unpublishVolume(call(), input);
    t.deepEqual(await readdir(join(node.poolPath, 'ephemeral')), []);
  },
);

onNode(
  'a target on a FUSE filesystem that hangs does not prevent pools from being served',
  async (t) => {
    const node = await scratchNode(t);
    await mkdir(node.pathOf('fuse'));
    const fuse = await StalledFuse.mount(node.pathOf('fuse'));
    const input = inline(node, 'csi-hung', {
      fsType: 'ext4',
      target: node.pathOf('fuse/pool/target'),
    });
    t.teardown(async () => {
      await execa('umount', ['--lazy', node.pathOf('fuse/pool')], { reject: false });
      await fuse.ended();
    });
    await node.volumes.publishVolume(call(), input);
    try {
      await node.restart({
        whileClosed: async () => {
          await execa('umount', [input.targetPath]);
          fuse.stall();
          // The kernel's cache is empty, so the next access to the target needs the FUSE server.
          await writeFile('/proc/sys/vm/drop_caches', '2');
        },
      });
      t.true(node.domain.pools.all[0]?.isServed);
      t.is((await node.volumes.createVolume(call(), volumeInput('v'))).pool, 'default');
    } finally {
      fuse.resume();
    }
    const { locks } = node.domain.operations;
    const isOver = () => locks.lockedBy('volume:csi-hung') === undefined;
    await until('the check of the target has ended', isOver);
    t.is((await readdir(join(node.poolPath, 'ephemeral'))).length, 1);
    await node.volumes.unpublishVolume(call(), input);
    t.deepEqual(await readdir(join(node.poolPath, 'ephemeral')), []);
  },
);

for (const fsType of ['ext4', 'xfs', 'btrfs'] as const) {
  onNode(
    `${fsType} that was left frozen and unmounted is thawed through a mount without a path`,
    async (t) => {
      let mounts = 0;
      const node = await scratchNode(t, {
        host: (real) =>
          changedHost(real, (host) => ({
            mounts: {
              ...host.mounts,
              mountDevice: (...args) => {
                mounts += 1;
                return host.mounts.mountDevice(...args);
              },
            },
          })),
      });
      const id = await make(node, fsType);
      const stagingTargetPath = node.pathOf('staging');
      await mkdir(stagingTargetPath);
      const staging = { volumeId: id, stagingTargetPath };
      await node.volumes.stageVolume(call(), { ...staging, capability: capability() });
      await writeFile(join(stagingTargetPath, 'file'), 'whole');
      const [device] = await devicesBelow(node.directory);
      await node.restart({
        whileClosed: async () => {
          await execa('fsfreeze', ['--freeze', stagingTargetPath]);
          await execa('umount', [stagingTargetPath]);
          mounts = 0;
        },
      });
      t.is(mounts, 0);
      t.deepEqual(
        await devicesBelow(node.directory),
        [],
        'it was thawed and had no user, so it was detached',
      );
      t.deepEqual(await readdir(join(node.poolPath, 'tmp')), []);
      t.truthy(device);
      await node.volumes.stageVolume(call(), { ...staging, capability: capability() });
      t.is(await readFile(join(stagingTargetPath, 'file'), 'utf8'), 'whole');
      await node.volumes.unstageVolume(call(), staging);
    },
  );
}

onNode(
  'a volume in use in another mount namespace is checked without a visible mount',
  async (t) => {
    const node = await scratchNode(t);
    const id = await make(node);
    const stagingTargetPath = node.pathOf('staging');
    await mkdir(stagingTargetPath);
    const staging = { volumeId: id, stagingTargetPath };
    await node.volumes.stageVolume(call(), { ...staging, capability: capability() });
    const other = spawn('unshare', ['--mount', '--propagation', 'private', 'cat'], {
      stdio: ['pipe', 'pipe', 'ignore'],
    });
    t.teardown(() => other.kill());
    other.stdin.write('ready');
    await once(other.stdout, 'data');
    await execa('umount', [stagingTargetPath]);
    // In use and frozen there, which our namespace does not show.
    const inside = `/proc/${other.pid ?? 0}/root${stagingTargetPath}`;
    await execa('fsfreeze', ['--freeze', inside]);
    await node.restart();
    await writeFile(join(inside, 'file'), 'thawed');
    t.deepEqual(await mountsBelow(node.directory), []);
    t.is((await devicesBelow(node.directory)).length, 1, 'it is in use');
    const ended = once(other, 'exit');
    other.stdin.end();
    await ended;
    await node.volumes.deleteVolume(call(), id);
    t.deepEqual(await devicesBelow(node.directory), []);
  },
);

for (const leftover of ['thaw.7', 'mount-aBc123', 'entry/mount-aBc123']) {
  onNode(
    `tmp/${leftover} of an earlier version: its volume can be unstaged, and no file of it is removed`,
    async (t) => {
      const node = await scratchNode(t);
      const id = await make(node);
      const paths = await mountVolume(node, id);
      await writeFile(join(paths.targetPath, 'file'), 'live');
      const [device] = await devicesBelow(node.directory);
      const target = join(node.poolPath, 'tmp', leftover);
      await mkdir(target, { recursive: true });
      await execa('mount', [device?.device ?? '', target]);
      const file = await open(join(target, 'file'));
      await node.restart();
      t.true(node.domain.pools.all[0]?.isServed);
      t.is(await readFile(join(paths.targetPath, 'file'), 'utf8'), 'live');
      t.true((await mountsBelow(node.directory)).includes(target), 'the mount in use is kept');
      await file.close();
      await unmountVolume(node, id, paths);
      t.deepEqual(await mountsBelow(node.directory), []);
      t.deepEqual(await devicesBelow(node.directory), []);
      await node.volumes.deleteVolume(call(), id);
      await node.restart();
      t.deepEqual(await readdir(join(node.poolPath, 'tmp')), []);
    },
  );
}

onNode('adopt detaches unused devices, reports mounts, and says how to unmount them', async (t) => {
  const node = await scratchNode(t);
  const id = await make(node);
  const image = join(node.poolPath, 'volumes', id, 'disk.img');
  const { stdout: device } = await execa('losetup', ['--find', '--show', image]);
  const elsewhere = node.pathOf('elsewhere');
  await mkdir(elsewhere);
  await execa('mount', [device, elsewhere]);
  await node.restart({
    whileClosed: async () => {
      const marker = join(node.poolPath, 'pool.json');
      const text = await readFile(marker, 'utf8');
      await writeFile(marker, text.replace(/"nodeTag": "[0-9a-f]{8}"/, '"nodeTag": "0123abcd"'));
    },
  });
  const adopt = () => node.administration.adoptPool('default');
  const error = await t.throwsAsync(adopt());
  t.true(
    error?.message.includes(`is mounted at ${elsewhere} (umount ${elsewhere})`),
    error?.message,
  );
  await execa('umount', [elsewhere]);
  t.is((await devicesBelow(node.directory)).length, 1);
  await adopt();
  t.true(node.domain.pools.all[0]?.isServed);
  t.deepEqual(await devicesBelow(node.directory), []);
});

onNode('a delete unmounts a mount of an earlier version below the pool', async (t) => {
  const node = await scratchNode(t);
  const id = await make(node);
  const { stdout: device } = await execa('losetup', [
    '--find',
    '--show',
    join(node.poolPath, 'volumes', id, 'disk.img'),
  ]);
  const target = join(node.poolPath, 'tmp', 'thaw.0');
  await mkdir(target);
  await execa('mount', [device, target]);
  await node.volumes.deleteVolume(call(), id);
  t.deepEqual(await mountsBelow(node.directory), []);
  t.deepEqual(await devicesBelow(node.directory), []);
  t.deepEqual(await readdir(join(node.poolPath, 'tmp')), []);
});
