import { randomBytes } from 'node:crypto';
import { readFile, rm, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hasErrno } from '../../../../src/host/errors.ts';
import { fsTypes } from '../../../../src/host/host.ts';
import { GiB, KiB, MiB } from '../../../../src/units.ts';
import { parseMkfsOptions } from '../../../../src/volumes/parameters/mkfs-options.ts';
import {
  allowedFilesystemOptions,
  allowedVfsOptions,
  parseMountOptions,
} from '../../../../src/volumes/parameters/mount-options.ts';
import { onNode } from '../../../helpers/on-node.ts';
import { files, filesystems, isSound, mounts, tool, withFixture } from './fixture.ts';

/** Maximum of allocated bytes of a fresh thin 1 GiB image. */
const freshBytes = { ext4: MiB, xfs: MiB, btrfs: 8n * MiB } as const;

for (const fsType of fsTypes) {
  onNode(`${fsType}: a fresh thin 1 GiB image is small and sound and has its UUID`, async (t) => {
    await withFixture(t, async (fixture) => {
      const { image, uuid } = await fixture.make(fsType, GiB);
      const { allocatedBytes, sizeBytes } = await files.imageStatus(image);
      t.is(sizeBytes, GiB);
      t.true(allocatedBytes < freshBytes[fsType], `${allocatedBytes} bytes`);
      t.true(await isSound(fsType, image));
      const state = fsType === 'xfs' ? 'needs-replay' : 'clean';
      const expected = { fsType, uuid, sizeBytes: GiB, state };
      const found = await filesystems[fsType].readSuperblock(image);
      t.like(found, expected);
      // 1 GiB ends with a whole group of ext4: growth by less than the overhead of the next one changes nothing.
      const tail = found?.unusableTailBytes ?? 0n;
      t.true(fsType === 'ext4' ? tail > 0n && tail < 16n * MiB : tail === 0n, `${tail} bytes`);
      for (const other of fsTypes.filter((each) => each !== fsType)) {
        t.is(await filesystems[other].readSuperblock(image), undefined);
      }
    });
  });

  for (const sectorSize of [512, 4096] as const) {
    onNode(`${fsType}: the minimum size works with ${sectorSize}-byte sectors`, async (t) => {
      await withFixture(t, async (fixture) => {
        const { minBytes } = filesystems[fsType];
        const { image } = await fixture.make(fsType, minBytes, { sectorSize });
        const data = randomBytes(1 << 20);
        const write = (target: string) => writeFile(join(target, 'file'), data, { flush: true });
        await fixture.mounted(fsType, image, write, { sectorSize });
        t.true(await isSound(fsType, image));
        await fixture.mounted(
          fsType,
          image,
          async (target) => t.true((await readFile(join(target, 'file'))).equals(data)),
          { sectorSize },
        );
      });
    });
  }

  onNode(
    `${fsType}: below the minimum size mkfs fails, or the promised size would not be reached`,
    async (t) => {
      // mke2fs accepts less, but without a journal.
      if (fsType === 'ext4') {
        await withFixture(t, async (fixture) => {
          const { image } = await fixture.make('ext4', 7n * MiB);
          const { stdout } = await tool('dumpe2fs', ['-h', image]);
          t.notRegex(stdout, /has_journal/);
        });
        return;
      }
      await withFixture(t, async (fixture) => {
        const tooSmall = fixture.make(fsType, filesystems[fsType].minBytes - MiB);
        await t.throwsAsync(tooSmall, { name: 'CommandError' });
      });
    },
  );

  onNode(
    `${fsType}: a thick image stays allocated during mkfs, use, deletion and trim`,
    async (t) => {
      await withFixture(t, async (fixture) => {
        const sizeBytes = 512n * MiB;
        const { image } = await fixture.make(fsType, sizeBytes, { thick: true });
        const isWhole = async () => (await files.imageStatus(image)).allocatedBytes >= sizeBytes;
        t.true(await isWhole(), 'after mkfs');
        const use = async (target: string, device: Parameters<typeof mounts.trim>[1]) => {
          const path = join(target, 'file');
          await writeFile(path, randomBytes(32 << 20), { flush: true });
          await rm(path);
          await mounts.syncFilesystem(target);
          const error = await t.throwsAsync(
            mounts.trim(target, device, { offset: 0n, length: 1n << 40n }),
          );
          t.true(hasErrno(error, 'EOPNOTSUPP'));
        };
        await fixture.mounted(fsType, image, use, { discard: false });
        t.true(await isWhole(), 'after use and trim');
        t.true(await isSound(fsType, image));
      });
    },
  );
}

onNode('ext4: neither a mount nor background work of the kernel fills a thin image', async (t) => {
  await withFixture(t, async (fixture) => {
    const { image } = await fixture.make('ext4', GiB);
    const { stdout } = await tool('dumpe2fs', [image]);
    const groups = stdout.match(/^Group \d+:.*$/gm) ?? [];
    t.is(groups.length, 8);
    t.true(groups.every((line) => line.includes('ITABLE_ZEROED')));
    await fixture.mounted('ext4', image, async (target) => {
      const { bsize, blocks, bfree, bavail, files: inodes } = await statfs(target);
      // The kernel reserves up to 4096 blocks for delayed allocation; nothing is reserved for root.
      t.true(bfree - bavail <= 4096);
      t.true(bsize * blocks > 960 << 20);
      t.is(inodes, 65_536);
    });
    t.true((await files.imageStatus(image)).allocatedBytes < MiB);
  });
});

onNode('ext4: small images have more inodes relative to their size', async (t) => {
  await withFixture(t, async (fixture) => {
    const { image } = await fixture.make('ext4', 64n * MiB);
    await fixture.mounted('ext4', image, async (target) => {
      t.is((await statfs(target)).files, Number((64n * MiB) / (4n * KiB)));
    });
  });
});

for (const { fsType, text } of [
  { fsType: 'ext4', text: '-i 65536 -I 512 -J size=8 -L data -O large_dir' },
  { fsType: 'ext4', text: '-N 1000 -O encrypt,verity,ea_inode,fast_commit,inline_data' },
  { fsType: 'ext4', text: '-O orphan_file' },
  { fsType: 'xfs', text: '-i size=1024,maxpct=50,sparse=0 -n size=8192 -L data' },
  { fsType: 'xfs', text: '-m bigtime=1,finobt=1,inobtcount=1,reflink=1,rmapbt=1 -l size=100m' },
  { fsType: 'btrfs', text: '-n 32768 -m single -d single --checksum sha256 -L data' },
  { fsType: 'btrfs', text: '-d dup -O ^no-holes' },
] as const) {
  onNode(
    `${fsType}: mkfsOptions '${text}' are accepted by mkfs, and the volume mounts`,
    async (t) => {
      await withFixture(t, async (fixture) => {
        const options = parseMkfsOptions(fsType, text);
        const { image, uuid } = await fixture.make(fsType, 512n * MiB, { options });
        t.is((await filesystems[fsType].readSuperblock(image))?.uuid, uuid);
        const write = (target: string) => writeFile(join(target, 'file'), 'x', { flush: true });
        await fixture.mounted(fsType, image, write);
        t.true(await isSound(fsType, image));
      });
    },
  );
}

onNode('ext4: quota features are created even if this kernel cannot mount them', async (t) => {
  await withFixture(t, async (fixture) => {
    const options = parseMkfsOptions('ext4', '-O project,quota');
    const { image, uuid } = await fixture.make('ext4', 64n * MiB, { options });
    t.is((await filesystems.ext4.readSuperblock(image))?.uuid, uuid);
    t.true(await isSound('ext4', image));
  });
});

/** A value for each allowed option that takes one. */
const sampleValues: Readonly<Record<string, string>> = {
  allocsize: '64k',
  barrier: '1',
  commit: '30',
  compress: 'zstd:3',
  'compress-force': 'lzo',
  data: 'journal',
  discard: 'async',
  errors: 'continue',
  init_itable: '10',
  inode_readahead_blks: '32',
  logbsize: '32k',
  logbufs: '8',
  max_batch_time: '100',
  max_dir_size_kb: '100',
  max_inline: '2048',
  metadata_ratio: '4',
  min_batch_time: '0',
  space_cache: 'v2',
  stripe: '8',
  thread_pool: '4',
};

for (const fsType of fsTypes) {
  onNode(`${fsType}: the kernel accepts every allowed mount option`, async (t) => {
    await withFixture(t, async (fixture) => {
      const { image } = await fixture.make(fsType, 320n * MiB);
      const allowed = [...allowedVfsOptions, ...allowedFilesystemOptions[fsType]];
      const words = allowed.map((option) =>
        typeof option === 'string' ? option : `${option.name}=${sampleValues[option.name] ?? ''}`,
      );
      for (const word of parseMountOptions(fsType, words)) {
        // Quota support depends on the build of the kernel.
        if (/quota|noenforce/.test(word)) continue;
        const look = () => Promise.resolve();
        await t.notThrowsAsync(fixture.mounted(fsType, image, look, { options: [word] }), word);
      }
    });
  });
}
