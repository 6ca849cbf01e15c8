import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdir, open, readdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hasErrno } from '../../../../src/host/errors.ts';
import type { LoopDevice } from '../../../../src/host/host.ts';
import { MiB } from '../../../../src/units.ts';
import { onNode } from '../../../helpers/on-node.ts';
import { onScratch, type Scratch } from '../../../helpers/root-scratch.ts';

async function attachExt4({ host, directory }: Scratch): Promise<LoopDevice> {
  const path = join(directory, 'a.img');
  const uuid = randomUUID();
  await host.files.createImage(path, { sizeBytes: 64n * MiB, allocate: false });
  await host.filesystems.ext4.make(path, { sectorSize: 4096, thick: false, uuid, options: [] });
  return host.loops.attach(path, {
    sectorSize: 4096,
    readOnly: false,
    directIo: true,
    discard: true,
    label: 'test',
  });
}

async function makeDirectories(
  directory: string,
  ...names: readonly string[]
): Promise<readonly string[]> {
  const paths = names.map((name) => join(directory, name));
  for (const path of paths) await mkdir(path, { recursive: true });
  return paths;
}

onNode('a read-only bind refuses writes while its source accepts them', async (t) => {
  await onScratch(t, async (scratch) => {
    const { host, directory } = scratch;
    const device = await attachExt4(scratch);
    const [staging = '', target = ''] = await makeDirectories(directory, 'staging', 'target');
    await host.mounts.mountDevice(device.path, staging, { fsType: 'ext4', options: ['noatime'] });
    await host.mounts.bind(staging, target, { readOnly: true });
    await writeFile(join(staging, 'file'), 'x');
    const error = await t.throwsAsync(writeFile(join(target, 'file'), 'y'));
    t.true(hasErrno(error, 'EROFS'));
    t.true((await host.mounts.at(staging))?.options.includes('noatime'));
    await host.mounts.unmount(target);
    await host.mounts.unmount(staging);
    await host.loops.detach(device);
  });
});

onNode('an unmount waits briefly for a process with an open file', async (t) => {
  await onScratch(t, async (scratch) => {
    const { host, directory } = scratch;
    const device = await attachExt4(scratch);
    const [target = ''] = await makeDirectories(directory, 'target');
    await host.mounts.mountDevice(device.path, target, { fsType: 'ext4', options: [] });
    const file = await open(join(target, 'file'), 'w');
    const startedAtMs = performance.now();
    const error = await t.throwsAsync(host.mounts.unmount(target));
    t.true(hasErrno(error, 'EBUSY'));
    t.true(performance.now() - startedAtMs < 5000);
    await Promise.all([
      host.mounts.unmount(target),
      new Promise((resolve) => setTimeout(resolve, 100)).then(() => file.close()),
    ]);
    t.is(await host.mounts.at(target), undefined);
    await host.loops.detach(device);
  });
});

onNode('unmounting a frozen filesystem thaws it first', async (t) => {
  await onScratch(t, async (scratch) => {
    const { host, directory } = scratch;
    const device = await attachExt4(scratch);
    const [staging = '', target = ''] = await makeDirectories(directory, 'staging', 'target');
    await host.mounts.mountDevice(device.path, staging, { fsType: 'ext4', options: [] });
    await host.mounts.bind(staging, target, { readOnly: false });
    execFileSync('fsfreeze', ['--freeze', staging]);
    await host.mounts.unmount(target);
    t.true(
      await host.mounts.thaw(staging, device),
      'one of two mounts going leaves a freeze as it is',
    );
    execFileSync('fsfreeze', ['--freeze', staging]);
    await host.mounts.unmount(staging);
    t.false(await host.loops.isInUse(device));
    t.is(await host.loops.detach(device), 'detached');
  });
});

onNode('a trim returns blocks to the pool', async (t) => {
  await onScratch(t, async (scratch) => {
    const { host, directory } = scratch;
    const device = await attachExt4(scratch);
    const [target = ''] = await makeDirectories(directory, 'target');
    const image = join(directory, 'a.img');
    await host.mounts.mountDevice(device.path, target, { fsType: 'ext4', options: [] });
    await writeFile(join(target, 'file'), Buffer.alloc(16 * 1024 * 1024, 1));
    await host.mounts.syncFilesystem(target);
    const before = (await host.files.imageStatus(image)).allocatedBytes;
    await rm(join(target, 'file'));
    await host.mounts.syncFilesystem(target);
    t.true(
      ((await host.mounts.trim(target, device, { offset: 0n, length: 1n << 40n })) ?? 0n) >=
        16n * MiB,
    );
    t.true((await host.files.imageStatus(image)).allocatedBytes <= before - 16n * MiB);
    await host.mounts.unmount(target);
    await host.loops.detach(device);
  });
});

onNode('a target below a symlinked parent is found under its real path', async (t) => {
  await onScratch(t, async (scratch) => {
    const { host, directory } = scratch;
    const [source = '', target = ''] = await makeDirectories(directory, 'source', 'real/target');
    await symlink(join(directory, 'real'), join(directory, 'link'));
    const linked = join(directory, 'link', 'target');
    await host.mounts.bind(source, linked, { readOnly: false });
    t.is((await host.mounts.at(linked))?.target, target);
    await host.mounts.unmount(linked);
    t.is(await host.mounts.at(target), undefined);
  });
});

onNode('a target that is repeatedly replaced by a symlink never redirects a mount', async (t) => {
  await onScratch(t, async (scratch) => {
    const { host, directory } = scratch;
    const names = ['source', 'root/pod/target', 'root/spare', 'elsewhere/target'];
    const [source = '', target = '', , elsewhere = ''] = await makeDirectories(directory, ...names);
    const root = join(directory, 'root');
    const [pod, spare, link] = [join(root, 'pod'), join(root, 'spare'), join(root, 'link')];
    await rm(spare, { recursive: true });
    await symlink(join(directory, 'elsewhere'), link);
    let isOver = false;
    const swapping = (async () => {
      while (!isOver) {
        await rename(pod, spare);
        await rename(link, pod);
        await rename(pod, link);
        await rename(spare, pod);
      }
    })();
    let bound = 0;
    for (let times = 0; times < 200; times += 1) {
      try {
        await host.mounts.bind(source, target, { readOnly: false, root });
        bound += 1;
      } catch (error) {
        t.true(hasErrno(error, 'ELOOP', 'ENOENT'), String(error));
      }
    }
    isOver = true;
    await swapping;
    const mounts = (await host.mounts.list()).filter((mount) => mount.target.startsWith(directory));
    t.deepEqual(new Set(mounts.map((mount) => mount.target)), new Set(bound > 0 ? [target] : []));
    t.is(mounts.length, bound);
    t.deepEqual(await readdir(elsewhere), []);
    for (let times = 0; times < bound; times += 1) await host.mounts.unmount(target, { root });
  });
});
