import { randomUUID } from 'node:crypto';
import { mkdir, open, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hasErrno } from '../../../../src/host/errors.ts';
import type { Extent, FsType, Host } from '../../../../src/host/host.ts';
import { MiB } from '../../../../src/units.ts';
import { onNode } from '../../../helpers/on-node.ts';
import { onScratch, type Scratch } from '../../../helpers/root-scratch.ts';

/** Mounts a filesystem with reflinks as a private pool during `work`. */
async function onPool(
  { host, directory }: Scratch,
  fsType: FsType,
  work: (pool: string) => Promise<void>,
): Promise<void> {
  const [path, pool] = [join(directory, 'pool.img'), join(directory, 'pool')];
  const uuid = randomUUID();
  await host.files.createImage(path, { sizeBytes: 512n * MiB, allocate: false });
  await host.filesystems[fsType].make(path, { sectorSize: 4096, thick: false, uuid, options: [] });
  await mkdir(pool);
  const device = await host.loops.attach(path, {
    sectorSize: 4096,
    readOnly: false,
    directIo: true,
    discard: true,
    label: 'pool',
  });
  try {
    const options = host.filesystems[fsType].mountOptions;
    await host.mounts.mountDevice(device.path, pool, { fsType, options });
    await work(pool);
  } finally {
    await host.mounts.unmount(pool);
    await host.loops.detach(device);
  }
}

async function extentsOf(host: Host, path: string): Promise<readonly Extent[]> {
  const all: Extent[] = [];
  for await (const batch of host.extents.map(path)) all.push(...batch);
  return all;
}

const addresses = (extents: readonly Extent[]) =>
  extents.map(({ logical, physical }) => [logical, physical]);

for (const fsType of ['xfs', 'btrfs'] as const) {
  onNode(`${fsType}: a clone shares all blocks, and a rewrite moves blocks`, async (t) => {
    await onScratch(t, async (scratch) => {
      await onPool(scratch, fsType, async (pool) => {
        const { host } = scratch;
        const [from, to] = [join(pool, 'a'), join(pool, 'b')];
        t.true(await host.copies.canReflink(pool));
        await writeFile(from, Buffer.alloc(1 << 20, 1));
        await truncate(from, 4 << 20);
        await host.copies.reflink(from, to);
        t.deepEqual(await readFile(to), await readFile(from));
        const [source, clone] = [await extentsOf(host, from), await extentsOf(host, to)];
        t.deepEqual(addresses(clone), addresses(source));
        t.is(await host.extents.exclusiveBytes(to), 0n);
        t.is(await host.extents.count(to), clone.length);
        const error = await t.throwsAsync(host.copies.reflink(from, to));
        t.true(hasErrno(error, 'EEXIST'));
        const file = await open(to, 'r+');
        await file.write(Buffer.alloc(65_536, 2), 0, 65_536, 0);
        await file.close();
        const moved = await extentsOf(host, to);
        t.not(moved[0]?.physical, source[0]?.physical, 'visible without a sync');
        t.is(await host.extents.exclusiveBytes(to), 65_536n);
      });
    });
  });
}

onNode('ext4 cannot share blocks, and no filesystem can share with another', async (t) => {
  await onScratch(t, async (scratch) => {
    const { host, directory } = scratch;
    await onPool(scratch, 'ext4', async (pool) => {
      t.false(await host.copies.canReflink(pool));
      await writeFile(join(pool, 'a'), 'data');
      const here = await t.throwsAsync(host.copies.reflink(join(pool, 'a'), join(pool, 'b')));
      t.true(hasErrno(here, 'EOPNOTSUPP'));
      const across = await t.throwsAsync(
        host.copies.reflink(join(pool, 'a'), join(directory, 'b')),
      );
      t.true(hasErrno(across, 'EXDEV', 'EOPNOTSUPP'));
      t.is(await host.files.imageStatus(join(directory, 'b')).catch(() => 'absent'), 'absent');
    });
  });
});

onNode('a sparse copy works across filesystems, keeps holes, and can be aborted', async (t) => {
  await onScratch(t, async (scratch) => {
    await onPool(scratch, 'xfs', async (pool) => {
      const { host, directory } = scratch;
      const [from, to] = [join(directory, 'a'), join(pool, 'b')];
      const file = await open(from, 'w');
      for (let at = 0; at < 160; at += 20)
        await file.write(Buffer.alloc(10 << 20, at + 1), 0, 10 << 20, at << 20);
      await file.truncate(256 << 20);
      await file.close();
      const abort = new AbortController();
      let done = 0n;
      const stopped = host.copies.copySparse(from, to, {
        signal: abort.signal,
        onProgress: (doneBytes) => {
          done = doneBytes;
          abort.abort();
        },
      });
      await t.throwsAsync(stopped, { any: true, name: 'AbortError' });
      t.true(done > 0n && done < 160n * MiB, String(done));
      await host.copies.copySparse(from, to, {
        signal: new AbortController().signal,
        resumeFrom: done,
      });
      t.is(Buffer.compare(await readFile(from), await readFile(to)), 0);
      const { allocatedBytes } = await host.files.imageStatus(to);
      t.true(allocatedBytes >= 80n * MiB && allocatedBytes < 100n * MiB, String(allocatedBytes));
    });
  });
});

onNode('all extents are listed in order, even if several calls are needed', async (t) => {
  await onScratch(t, async (scratch) => {
    const { host, directory } = scratch;
    const path = join(directory, 'scattered');
    const file = await open(path, 'w');
    for (let index = 0; index < 4500; index += 1)
      await file.write(Buffer.alloc(4096, 1), 0, 4096, index * 8192);
    await file.close();
    const extents = await extentsOf(host, path);
    t.deepEqual(
      extents.map(({ logical }) => logical),
      Array.from({ length: 4500 }, (_, index) => BigInt(index * 8192)),
    );
    t.is(await host.extents.count(path), 4500);
    const rest: Extent[] = [];
    for await (const batch of host.extents.map(path, { from: 8192n * 4400n })) rest.push(...batch);
    t.is(rest.length, 100);
    let ranges = 0;
    for await (const { length } of host.extents.data(path, { from: 8192n * 4490n })) {
      ranges += 1;
      t.is(length, 4096n);
    }
    t.is(ranges, 10);
  });
});

onNode(
  'an image that exceeds the free space is refused at once, and no file is left',
  async (t) => {
    await onScratch(t, async (scratch) => {
      await onPool(scratch, 'ext4', async (pool) => {
        const { files } = scratch.host;
        const [path, sizeBytes] = [join(pool, 'a'), 256n * MiB];
        const { freeBytes } = await files.capacity(pool);
        const tooLarge = { sizeBytes: freeBytes + MiB, allocate: true };
        const created = await t.throwsAsync(files.createImage(path, tooLarge));
        t.true(hasErrno(created, 'ENOSPC'));
        t.is(await files.imageStatus(path).catch(() => 'absent'), 'absent');
        await files.createImage(path, { sizeBytes, allocate: true });
        const grown = await t.throwsAsync(files.growImage(path, tooLarge));
        t.true(hasErrno(grown, 'ENOSPC'));
        t.is((await files.imageStatus(path)).sizeBytes, sizeBytes, 'its size is unchanged');
      });
    });
  },
);
