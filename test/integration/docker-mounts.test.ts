import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { execa } from 'execa';
import { VolumeError } from '../../src/errors.ts';
import { fsTypes } from '../../src/host/host.ts';
import { MiB } from '../../src/units.ts';
import { faultPoints } from '../../src/volumes/engine/fault-points.ts';
import { onNode } from '../helpers/on-node.ts';
import {
  call,
  capability,
  mountVolume,
  type ScratchNode,
  scratchNode,
  unmountVolume,
  volumeInput,
} from '../helpers/scratch-node.ts';
import { devicesBelow, mountsBelow } from '../helpers/scratch-pool.ts';

const sizeOf = { ext4: 64n * MiB, xfs: 320n * MiB, btrfs: 256n * MiB } as const;

async function make(node: ScratchNode, name = 'v1', fsType: (typeof fsTypes)[number] = 'ext4') {
  const input = volumeInput(name, { fsType, sizeBytes: sizeOf[fsType] });
  return (await node.volumes.createVolume(call(), input)).record.id;
}

async function refusal(work: Promise<unknown>): Promise<{ reason: string; message: string }> {
  try {
    await work;
  } catch (error) {
    if (error instanceof VolumeError) return error;
    throw error;
  }
  return { reason: 'ok', message: '' };
}

/** A process with its own mount namespace, in which the volume is bound: a container, as the kernel sees it. */
async function container(
  t: ExecutionContext,
  { path, inside }: { path: string; inside: string },
): Promise<() => Promise<void>> {
  const script =
    'mount --make-rprivate / && mount --bind "$0" "$1" && umount "$0" && echo ready && exec sleep 1000';
  await mkdir(inside);
  const child = spawn('unshare', ['--mount', 'sh', '-c', script, path, inside], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(child, 'exit');
  const end = async (): Promise<void> => {
    child.kill('SIGKILL');
    await ended;
  };
  t.teardown(end);
  t.is(String(await once(child.stdout, 'data')), 'ready\n');
  return end;
}

for (const fsType of fsTypes) {
  onNode(
    `${fsType}: a volume is empty at first, two mount IDs share it, and the last unmount unmounts it`,
    async (t) => {
      const node = await scratchNode(t, { mountDir: true });
      const volumeId = await make(node, 'v1', fsType);
      const path = await node.docker.mount(call(), { volumeId, mountId: 'a' });
      t.is(path, join(node.directory, 'state', 'docker', volumeId));
      t.deepEqual(await readdir(path), []);
      await writeFile(join(path, 'kept'), 'data');
      t.is(await node.docker.mount(call(), { volumeId, mountId: 'b' }), path);
      await node.docker.unmount(call(), { volumeId, mountId: 'a' });
      t.deepEqual([...(await node.docker.mountedPaths())], [[volumeId, path]]);
      await node.docker.unmount(call(), { volumeId, mountId: 'b' });
      t.deepEqual(await mountsBelow(node.directory), []);
      t.deepEqual(await devicesBelow(node.directory), []);
      t.deepEqual(await readdir(join(node.directory, 'state', 'docker')), []);
      await node.docker.mount(call(), { volumeId, mountId: 'c' });
      t.is(await readFile(join(path, 'kept'), 'utf8'), 'data');
      await node.docker.unmount(call(), { volumeId, mountId: 'c' });
    },
  );
}

onNode('an empty lost+found that e2fsck created is removed, one with content stays', async (t) => {
  const node = await scratchNode(t, { mountDir: true });
  const volumeId = await make(node);
  const mount = { volumeId, mountId: 'a' };
  await node.docker.mount(call(), mount);
  await node.docker.unmount(call(), mount);
  const image = join(node.poolPath, 'volumes', volumeId, 'disk.img');
  await execa('e2fsck', ['-fp', image], { reject: false });
  const path = await node.docker.mount(call(), mount);
  t.deepEqual(await readdir(path), []);
  await mkdir(join(path, 'lost+found'));
  await writeFile(join(path, 'lost+found', '#12'), 'found');
  await node.docker.unmount(call(), mount);
  await node.docker.mount(call(), mount);
  t.deepEqual(await readdir(path), ['lost+found']);
  await node.docker.unmount(call(), mount);
});

onNode('mount IDs survive a restart of the driver, unless the mount does not', async (t) => {
  const node = await scratchNode(t, { mountDir: true });
  const volumeId = await make(node);
  const path = await node.docker.mount(call(), { volumeId, mountId: 'a' });
  await node.docker.mount(call(), { volumeId, mountId: 'b' });
  await node.restart();
  await node.docker.unmount(call(), { volumeId, mountId: 'a' });
  t.true((await node.docker.mountedPaths()).has(volumeId));
  // As after a reboot.
  await execa('umount', [path]);
  await node.restart();
  await node.docker.mount(call(), { volumeId, mountId: 'c' });
  await node.docker.unmount(call(), { volumeId, mountId: 'c' });
  t.deepEqual(await mountsBelow(node.directory), []);
});

onNode(
  'a volume mounted by Docker cannot be deleted or staged, and a staged one cannot be mounted by Docker',
  async (t) => {
    const node = await scratchNode(t, { mountDir: true });
    const volumeId = await make(node);
    const path = await node.docker.mount(call(), { volumeId, mountId: 'a' });
    const deleted = await refusal(node.volumes.deleteVolume(call(), volumeId));
    t.is(deleted.reason, 'wrong-state');
    const staged = await refusal(mountVolume(node, volumeId));
    t.is(staged.reason, 'wrong-state');
    t.regex(
      staged.message,
      /in use by Docker containers of this machine \(mounted at .*\); stop and remove/,
    );
    // An unstage with another path does not affect it.
    const elsewhere = { volumeId, stagingTargetPath: node.pathOf('elsewhere') };
    await node.volumes.unstageVolume(call(), elsewhere);
    await writeFile(join(path, 'still'), 'here');
    await node.docker.unmount(call(), { volumeId, mountId: 'a' });

    const paths = await mountVolume(node, volumeId);
    const refused = await refusal(node.docker.mount(call(), { volumeId, mountId: 'b' }));
    t.is(refused.reason, 'wrong-state');
    t.regex(refused.message, /is in use outside Docker \(mounted at /);
    const removed = await refusal(node.docker.remove(call(), volumeId));
    t.is(removed.message, refused.message);
    t.is(await readFile(join(paths.targetPath, 'still'), 'utf8'), 'here');
    await unmountVolume(node, volumeId, paths);
  },
);

onNode('the bind mount of docker cp does not count as use outside Docker', async (t) => {
  const node = await scratchNode(t, { mountDir: true });
  const volumeId = await make(node);
  const path = await node.docker.mount(call(), { volumeId, mountId: 'copied' });
  const inside = node.pathOf('merged');
  await mkdir(inside);
  await execa('mount', ['--bind', path, inside]);
  t.is(await node.docker.mount(call(), { volumeId, mountId: 'run' }), path);
  await node.docker.unmount(call(), { volumeId, mountId: 'run' });
  await execa('umount', [inside]);
  await node.docker.unmount(call(), { volumeId, mountId: 'copied' });
  await node.docker.remove(call(), volumeId);
});

onNode('the directory of a Docker mount is refused as a staging path', async (t) => {
  const node = await scratchNode(t, { mountDir: true });
  const volumeId = await make(node);
  const stagingTargetPath = join(node.directory, 'state', 'docker', volumeId);
  const input = { volumeId, stagingTargetPath, capability: capability() };
  t.is((await refusal(node.volumes.stageVolume(call(), input))).reason, 'invalid');
  const block = volumeInput('b1', { kind: 'block', sizeBytes: 16n * MiB });
  const blockId = (await node.volumes.createVolume(call(), block)).record.id;
  const refused = await refusal(node.docker.mount(call(), { volumeId: blockId, mountId: 'a' }));
  t.is(refused.reason, 'wrong-state');
});

onNode(
  'a volume is in use by a container when the kernel reports it, whatever the list of mount IDs says',
  async (t) => {
    const node = await scratchNode(t, { mountDir: true });
    const volumeId = await make(node);
    const path = await node.docker.mount(call(), { volumeId, mountId: 'a' });
    const end = await container(t, { path, inside: node.pathOf('inside') });
    const used = await refusal(node.docker.remove(call(), volumeId));
    t.is(used.reason, 'wrong-state');
    t.regex(used.message, /is in use: \/dev\/loop\d+ is mounted by a container/);
    // It is still mounted, and its mount ID is still recorded.
    t.true((await node.docker.mountedPaths()).has(volumeId));
    await end();
    // Docker did not unmount after the container ended.
    await node.docker.remove(call(), volumeId);
    t.deepEqual(await devicesBelow(node.directory), []);
  },
);

onNode(
  'volumes that Docker used are listed while their pool is unavailable, until they are deleted',
  async (t) => {
    const node = await scratchNode(t, { mountDir: true, poolFs: 'ext4' });
    const poolFs = (await node.host.mounts.list()).find(({ target }) => target === node.poolPath);
    const unmountPool = async (): Promise<void> => void (await execa('umount', [node.poolPath]));
    const mountPool = async (): Promise<void> =>
      void (await execa('mount', [poolFs?.source ?? '', node.poolPath]));
    await node.docker.create(call(), volumeInput('made', { sizeBytes: 64n * MiB }));
    const used = await make(node, 'used');
    await node.docker.mount(call(), { volumeId: used, mountId: 'a' });
    await node.docker.unmount(call(), { volumeId: used, mountId: 'a' });
    await node.docker.create(call(), volumeInput('deleted', { sizeBytes: 64n * MiB }));
    const known = async (): Promise<readonly boolean[]> =>
      Promise.all(['made', used, 'deleted', 'never'].map((name) => node.docker.isKnown(name)));

    await node.restart({ whileClosed: unmountPool });
    t.throws(() => node.docker.findVolume('made'), { message: /its disk is not mounted/ });
    t.deepEqual(await known(), [true, true, true, false]);

    await node.restart({ whileClosed: mountPool });
    await node.volumes.deleteVolume(call(), node.docker.findVolume('deleted')?.record.id ?? '');
    await node.docker.remove(call(), used);
    // A volume deleted over CSI is forgotten at the next start with all pools available.
    await node.restart();
    await node.restart({ whileClosed: unmountPool });
    t.deepEqual(await known(), [true, false, false, false]);
    await mountPool();
  },
);

onNode('a volume grows and reports its usage while Docker has it mounted', async (t) => {
  const node = await scratchNode(t, { mountDir: true });
  const volumeId = await make(node, 'v1', 'xfs');
  const path = await node.docker.mount(call(), { volumeId, mountId: 'a' });
  const range = { requiredBytes: 640n * MiB, limitBytes: 0n };
  await node.volumes.expandVolume(call(), { volumeId, range });
  await node.volumes.nodeExpandVolume(call(), { volumeId, range, volumePath: path });
  const { totalBytes } = await node.host.files.capacity(path);
  t.true(totalBytes > 500n * MiB);
  const usage = await node.docker.usage(volumeId);
  t.true((usage.usedBytes ?? 0n) > 0n && usage.allocatedBytes > 0n);
  await node.docker.unmount(call(), { volumeId, mountId: 'a' });
  t.is((await node.docker.usage(volumeId)).usedBytes, undefined);
});

/** The fault points of a mount and an unmount; the other ones of staging need a growth. */
const mountPoints = faultPoints.filter((point) =>
  /^(?:stage:(?:attached|recorded|mounted)|docker-mount:.*|docker-unmount:.*)$/.test(point),
);
for (const point of mountPoints) {
  onNode(
    `after a failure at ${point}, the repeated calls succeed and nothing is left`,
    async (t) => {
      const node = await scratchNode(t, { mountDir: true });
      const volumeId = await make(node);
      let reachedIt = false;
      await node.restart({
        reached: (one) => {
          if (one !== point || reachedIt) return;
          reachedIt = true;
          throw new Error(`stopped at ${point}`);
        },
      });
      const mount = { volumeId, mountId: 'a' };
      await node.docker.mount(call(), mount).catch(() => undefined);
      await node.docker.unmount(call(), mount).catch(() => undefined);
      t.true(reachedIt);
      await node.restart();
      const path = await node.docker.mount(call(), mount);
      await writeFile(join(path, 'x'), 'y');
      await node.docker.unmount(call(), mount);
      await node.volumes.deleteVolume(call(), volumeId);
      t.deepEqual(await mountsBelow(node.directory), []);
      t.deepEqual(await devicesBelow(node.directory), []);
    },
  );
}

const withoutStaging = { mountDir: true, settings: { withoutStaging: true } };

function publish(
  node: ScratchNode,
  volumeId: string,
  target: string,
  options: Parameters<typeof capability>[0] & { readOnly?: boolean } = {},
) {
  const { readOnly = false, ...rest } = options;
  return node.volumes.publishVolume(call(), {
    volumeId,
    stagingTargetPath: '',
    targetPath: node.pathOf(target),
    capability: capability(rest),
    readOnly,
  });
}

onNode(
  'without staging, the first publish attaches and mounts, and the last unpublish undoes it',
  async (t) => {
    const node = await scratchNode(t, withoutStaging);
    const volumeId = await make(node);
    const shared = { accessMode: 'SINGLE_NODE_MULTI_WRITER' } as const;
    await publish(node, volumeId, 'one', shared);
    await publish(node, volumeId, 'one', shared);
    await publish(node, volumeId, 'two', { ...shared, readOnly: true });
    await writeFile(node.pathOf('one/file'), 'data');
    t.is(await readFile(node.pathOf('two/file'), 'utf8'), 'data');
    await t.throwsAsync(writeFile(node.pathOf('two/file'), 'no'), { code: 'EROFS' });
    await node.restart();
    await node.volumes.unpublishVolume(call(), { volumeId, targetPath: node.pathOf('one') });
    t.is(await readFile(node.pathOf('two/file'), 'utf8'), 'data');
    await node.volumes.unpublishVolume(call(), { volumeId, targetPath: node.pathOf('two') });
    await node.volumes.unpublishVolume(call(), { volumeId, targetPath: node.pathOf('two') });
    t.deepEqual(await mountsBelow(node.directory), []);
    t.deepEqual(await devicesBelow(node.directory), []);
  },
);

onNode('without staging, a refused second publish does not affect the first', async (t) => {
  const node = await scratchNode(t, withoutStaging);
  const volumeId = await make(node);
  await publish(node, volumeId, 'one');
  t.is((await refusal(publish(node, volumeId, 'two'))).reason, 'wrong-state');
  const refused = await refusal(node.docker.mount(call(), { volumeId, mountId: 'a' }));
  t.is(refused.reason, 'wrong-state');
  await writeFile(node.pathOf('one/file'), 'data');
  await node.volumes.unpublishVolume(call(), { volumeId, targetPath: node.pathOf('one') });

  await node.docker.mount(call(), { volumeId, mountId: 'a' });
  const published = await refusal(publish(node, volumeId, 'one'));
  t.is(published.reason, 'wrong-state');
  t.regex(published.message, /in use by containers of this machine as a Docker volume/);
  t.is((await readdir(join(node.directory, 'state', 'docker', volumeId)))[0], 'file');
  await node.docker.unmount(call(), { volumeId, mountId: 'a' });
});

onNode('without staging, a raw block volume is published too', async (t) => {
  const node = await scratchNode(t, withoutStaging);
  const input = volumeInput('b1', { kind: 'block', sizeBytes: 16n * MiB });
  const volumeId = (await node.volumes.createVolume(call(), input)).record.id;
  await publish(node, volumeId, 'node', { kind: 'block' });
  await writeFile(node.pathOf('node'), 'data', { flag: 'r+' });
  await node.volumes.unpublishVolume(call(), { volumeId, targetPath: node.pathOf('node') });
  t.deepEqual(await mountsBelow(node.directory), []);
  t.deepEqual(await devicesBelow(node.directory), []);
});
