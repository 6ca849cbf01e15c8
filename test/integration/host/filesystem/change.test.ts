import { randomBytes, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { open, readFile, statfs, writeFile } from 'node:fs/promises';
import { release } from 'node:os';
import { join } from 'node:path';
import { CommandError } from '../../../../src/host/errors.ts';
import { isAtLeast } from '../../../../src/host/filesystem/filesystems.ts';
import { fsTypes } from '../../../../src/host/host.ts';
import { GiB, MiB } from '../../../../src/units.ts';
import { onNode } from '../../../helpers/on-node.ts';
import {
  files,
  filesystems,
  hashOf,
  isSound,
  loops,
  readAt,
  tool,
  withFixture,
  writeAt,
} from './fixture.ts';

/** Whether this process has CAP_SYS_RESOURCE, capability 24. */
const status = readFileSync('/proc/self/status', 'utf8');
const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'}`);
const canGrowExt4Online = ((effective >> 24n) & 1n) === 1n;

/** Before Linux 6.7 a btrfs with a log to replay is not mounted while its source is. */
const keepsDuplicatesApart = isAtLeast(release(), 6, 7);

for (const fsType of fsTypes) {
  const fs = filesystems[fsType];

  onNode(`${fsType}: an unattached image grows and keeps its files`, async (t) => {
    await withFixture(t, async (fixture) => {
      const { image, uuid } = await fixture.make(fsType, 320n * MiB);
      const data = randomBytes(4 << 20);
      const write = (target: string) => writeFile(join(target, 'file'), data, { flush: true });
      await fixture.mounted(fsType, image, write);
      const { workDir } = fixture;
      for (const sizeBytes of [320n * MiB, GiB, GiB, 1300n * MiB]) {
        await files.growImage(image, { sizeBytes, allocate: false });
        await fs.growUnmounted(image, { sectorSize: 4096, workDir });
        const after = await fs.readSuperblock(image);
        t.is(after?.sizeBytes, sizeBytes);
        t.is(after?.uuid, uuid);
        t.true(await isSound(fsType, image));
      }
      await fixture.mounted(fsType, image, async (target) => {
        t.true((await readFile(join(target, 'file'))).equals(data));
        const { bsize, blocks } = await statfs(target);
        t.true(bsize * blocks > 1200 << 20);
      });
    });
  });

  onNode(`${fsType}: a mounted filesystem grows under a writer`, async (t) => {
    await withFixture(t, async (fixture) => {
      const { image } = await fixture.make(fsType, 320n * MiB);
      await fixture.mounted(fsType, image, async (target, device) => {
        t.is(await fs.growMounted(target, device, 320n * MiB), 'grown', 'nothing to do');
        const file = await open(join(target, 'file'), 'w+');
        const before = randomBytes(1 << 20);
        const after = randomBytes(1 << 20);
        await file.write(before, 0, before.length, 0);
        await files.growImage(image, { sizeBytes: GiB, allocate: false });
        await loops.refreshSize(device);
        const outcome = await fs.growMounted(target, device, GiB);
        const canGrow = fsType !== 'ext4' || canGrowExt4Online;
        t.is(outcome, canGrow ? 'grown' : 'not-permitted');
        if (canGrow) t.is(await fs.growMounted(target, device, GiB), 'grown', 'once more');
        await file.write(after, 0, after.length, before.length);
        await file.sync();
        await file.close();
        const whole = await readFile(join(target, 'file'));
        t.true(whole.equals(Buffer.concat([before, after])));
        const { bsize, blocks } = await statfs(target);
        t.is(bsize * blocks > 900 << 20, canGrow);
      });
      t.true(await isSound(fsType, image));
    });
  });

  onNode(
    `${fsType}: growth through the wrong directory is refused and changes nothing`,
    async (t) => {
      await withFixture(t, async (fixture) => {
        const { image } = await fixture.make(fsType, 320n * MiB);
        await fixture.mounted(fsType, image, async (_target, device) => {
          await files.growImage(image, { sizeBytes: GiB, allocate: false });
          await loops.refreshSize(device);
          const wrong = fs.growMounted(fixture.workDir, device, GiB);
          await t.throwsAsync(wrong, { name: 'KernelError', message: /ENODEV/ });
        });
        t.is((await fs.readSuperblock(image))?.sizeBytes, 320n * MiB);
      });
    },
  );

  onNode(
    `${fsType}: a copy gets its own UUID and is mounted together with its source`,
    async (t) => {
      await withFixture(t, async (fixture) => {
        const { image, uuid } = await fixture.make(fsType, 320n * MiB);
        const data = randomBytes(1 << 20);
        // Only the first mount of a btrfs writes in the background (it checks the UUID tree), which a copy must not meet halfway.
        await fixture.mounted(fsType, image, () => Promise.resolve());
        await fixture.mounted(fsType, image, async (target) => {
          await writeFile(join(target, 'file'), data, { flush: true });
          // Twice: a copy of a copy, and a second copy while both are mounted.
          const copy = await fixture.copy(image);
          const first = randomUUID();
          const options = { sectorSize: 4096, workDir: fixture.workDir } as const;
          const renewed = fs.renewUuid(copy, { ...options, uuid: first });
          if (fsType === 'btrfs' && !keepsDuplicatesApart) {
            await t.throwsAsync(renewed, {
              message: /is not safe before Linux 6\.7/,
            });
            return;
          }
          await renewed;
          t.is((await fs.readSuperblock(copy))?.uuid, first);
          const grandchild = await fixture.copy(copy);
          const second = randomUUID();
          await fs.renewUuid(grandchild, { ...options, uuid: second });
          t.is((await fs.readSuperblock(grandchild))?.uuid, second);
          t.true(await isSound(fsType, grandchild));
          for (const each of [copy, grandchild]) {
            await fixture.mounted(fsType, each, async (beside) => {
              t.true((await readFile(join(beside, 'file'))).equals(data));
              await writeFile(join(beside, 'file'), 'changed', { flush: true });
            });
          }
          t.true((await readFile(join(target, 'file'))).equals(data));
        });
        t.is((await fs.readSuperblock(image))?.uuid, uuid);
      });
    },
  );

  onNode(
    `${fsType}: a superblock that is missing or has a flipped bit is detected, and left unchanged`,
    async (t) => {
      await withFixture(t, async (fixture) => {
        const { image } = await fixture.make(fsType, 320n * MiB);
        const at = { ext4: 1024 + 0x70, xfs: 0x28, btrfs: 65_536 + 0x28 }[fsType];
        const byte = (await readAt(image, at, 1)).readUInt8();
        await writeAt(image, at, Buffer.from([byte ^ 1]));
        t.is(await fs.readSuperblock(image), undefined);
        await writeAt(image, at, Buffer.from([byte]));
        t.not(await fs.readSuperblock(image), undefined);
        await writeAt(image, 0, Buffer.alloc(128 << 10));
        t.is(await fs.readSuperblock(image), undefined);
        const hash = await hashOf(image);
        const { workDir } = fixture;
        await files.growImage(image, { sizeBytes: 640n * MiB, allocate: false });
        await t.throwsAsync(fs.growUnmounted(image, { sectorSize: 4096, workDir }));
        const uuid = randomUUID();
        await t.throwsAsync(fs.renewUuid(image, { uuid, sectorSize: 4096, workDir }));
        await tool('truncate', ['--size', '320M', image]);
        if (fsType === 'ext4') return; // e2fsck's turn: check.test.ts
        t.is((await fs.check(image)).outcome, 'damaged');
        t.is(await hashOf(image), hash);
      });
    },
  );
}

onNode(
  'ext4: growth by more than a factor of 1000 is refused, and the image is unchanged',
  async (t) => {
    await withFixture(t, async (fixture) => {
      const { image } = await fixture.make('ext4', 16n * MiB);
      const { workDir } = fixture;
      await files.growImage(image, { sizeBytes: 17n * GiB, allocate: false });
      const grow = filesystems.ext4.growUnmounted(image, { sectorSize: 4096, workDir });
      await t.throwsAsync(grow, {
        instanceOf: CommandError,
        message: /by a factor of at most 1000/,
      });
      t.true(await isSound('ext4', image));
      t.is((await filesystems.ext4.readSuperblock(image))?.sizeBytes, 16n * MiB);
    });
  },
);

onNode('ext4: steps within the factor reach a size that resize2fs alone cannot', async (t) => {
  await withFixture(t, async (fixture) => {
    const { image } = await fixture.make('ext4', 16n * MiB);
    const data = randomBytes(1 << 20);
    const write = (target: string) => writeFile(join(target, 'file'), data, { flush: true });
    await fixture.mounted('ext4', image, write);
    const { workDir } = fixture;
    for (const sizeBytes of [GiB, 17n * GiB]) {
      await files.growImage(image, { sizeBytes, allocate: false });
      await filesystems.ext4.growUnmounted(image, { sectorSize: 4096, workDir });
      t.true(await isSound('ext4', image));
    }
    const read = async (target: string) =>
      t.true((await readFile(join(target, 'file'))).equals(data));
    await fixture.mounted('ext4', image, read);
  });
});

for (const extraMiB of [1n, 5n, 9n]) {
  onNode(
    `ext4: ${extraMiB} MiB after a group count as filled when ext4 cannot use them`,
    async (t) => {
      await withFixture(t, async (fixture) => {
        const sizeBytes = 256n * MiB + extraMiB * MiB;
        const { image } = await fixture.make('ext4', sizeBytes);
        const before = await hashOf(image);
        // A second growth has nothing to do, whether or not mke2fs used the tail.
        await filesystems.ext4.growUnmounted(image, { sectorSize: 4096, workDir: fixture.workDir });
        t.is(await hashOf(image), before);
        await fixture.mounted('ext4', image, async (target, device) => {
          t.is(await filesystems.ext4.growMounted(target, device, sizeBytes), 'grown');
        });
        const { image: smaller } = await fixture.make('ext4', 256n * MiB);
        await files.growImage(smaller, { sizeBytes, allocate: false });
        await filesystems.ext4.growUnmounted(smaller, {
          sectorSize: 4096,
          workDir: fixture.workDir,
        });
        t.true(await isSound('ext4', smaller));
      });
    },
  );
}

onNode('xfs: the mount refuses a damaged allocation group, and nothing is left', async (t) => {
  await withFixture(t, async (fixture) => {
    const { image } = await fixture.make('xfs', 320n * MiB);
    // The inode header (AGI) of the first group, in the third sector.
    await writeAt(image, 2 * 4096, randomBytes(4096));
    await files.growImage(image, { sizeBytes: 640n * MiB, allocate: false });
    const { workDir } = fixture;
    const grow = () => filesystems.xfs.growUnmounted(image, { sectorSize: 4096, workDir });
    await t.throwsAsync(grow, { name: 'KernelError', message: /^mount .*EUCLEAN$/ });
    await t.throwsAsync(grow, { name: 'KernelError', message: /^mount .*EUCLEAN$/ });
    t.is((await filesystems.xfs.readSuperblock(image))?.sizeBytes, 320n * MiB);
  });
});

onNode('xfs: a copy with the UUID of its source grows while that is mounted', async (t) => {
  await withFixture(t, async (fixture) => {
    const { image } = await fixture.make('xfs', 320n * MiB);
    await fixture.mounted('xfs', image, async () => {
      const copy = await fixture.copy(image);
      await files.growImage(copy, { sizeBytes: 640n * MiB, allocate: false });
      const options = { sectorSize: 4096, workDir: fixture.workDir } as const;
      await filesystems.xfs.growUnmounted(copy, options);
      const uuid = randomUUID();
      await filesystems.xfs.renewUuid(copy, { ...options, uuid });
      t.is((await filesystems.xfs.readSuperblock(copy))?.uuid, uuid);
      t.is((await filesystems.xfs.readSuperblock(copy))?.sizeBytes, 640n * MiB);
    });
  });
});
