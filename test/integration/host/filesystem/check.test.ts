import { randomBytes, randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseExt4Superblock } from '../../../../src/host/filesystem/ext4/superblock.ts';
import { MiB } from '../../../../src/units.ts';
import { onNode } from '../../../helpers/on-node.ts';
import {
  type Fixture,
  files,
  filesystems,
  hashOf,
  isSound,
  mounts,
  readAt,
  tool,
  withFixture,
  writeAt,
} from './fixture.ts';

const { ext4 } = filesystems;
const data = randomBytes(3 << 20);

/** An ext4 image with files in it, cleanly unmounted. */
async function filled(fixture: Fixture): Promise<string> {
  const { image } = await fixture.make('ext4', 128n * MiB);
  await fixture.mounted('ext4', image, fill);
  return image;
}

async function fill(target: string): Promise<void> {
  await mkdir(join(target, 'directory'));
  await writeFile(join(target, 'directory', 'file'), data, { flush: true });
  for (let index = 0; index < 20; index += 1) {
    await writeFile(join(target, `small-${index}`), `${index}`, { flush: true });
  }
}

/** A copy as after a power cut: the journal has data that the filesystem lacks. */
async function copyAfterPowerCut(fixture: Fixture): Promise<string> {
  const { image } = await fixture.make('ext4', 128n * MiB);
  return fixture.mounted('ext4', image, async (target) => {
    await fill(target);
    // A copy of a mounted filesystem is complete once the writes of the device are done.
    await mounts.syncFilesystem(target);
    await writeFile(join(target, 'last'), 'last', { flush: true });
    return fixture.copy(image);
  });
}

async function holdsData(fixture: Fixture, image: string): Promise<boolean> {
  return fixture.mounted('ext4', image, async (target) =>
    (await readFile(join(target, 'directory', 'file'))).equals(data),
  );
}

const debugfs = (image: string, ...commands: readonly string[]) =>
  Promise.all(commands.map((command) => tool('debugfs', ['-w', '-R', command, image])));

/** The error bit of the state, as the kernel leaves it after an error. */
const setErrorFlag = (image: string) => debugfs(image, 'ssv state 3');

onNode('the error flag of a sound filesystem is cleared', async (t) => {
  await withFixture(t, async (fixture) => {
    const image = await filled(fixture);
    await setErrorFlag(image);
    t.is((await ext4.readSuperblock(image))?.state, 'has-errors');
    t.deepEqual(await ext4.check(image), { outcome: 'sound' });
    t.is((await ext4.readSuperblock(image))?.state, 'clean');
    t.true(await holdsData(fixture, image));
  });
});

onNode('small damage is repaired', async (t) => {
  await withFixture(t, async (fixture) => {
    const image = await filled(fixture);
    await setErrorFlag(image);
    await debugfs(image, 'ssv free_blocks_count 7');
    await debugfs(image, 'sif small-3 links_count 5');
    t.false(await isSound('ext4', image));
    t.deepEqual(await ext4.check(image), { outcome: 'repaired' });
    t.is((await ext4.readSuperblock(image))?.state, 'clean');
    t.true(await isSound('ext4', image));
    t.true(await holdsData(fixture, image));
  });
});

for (const { name, harm } of [
  { name: 'no root directory', harm: (image: string) => debugfs(image, 'clri <2>') },
  {
    name: 'one block in two files',
    harm: async (image: string) => {
      const { stdout } = await tool('debugfs', ['-R', 'blocks small-1', image]);
      await debugfs(image, `sif small-2 block[5] ${stdout.trim()}`);
    },
  },
  {
    name: 'a torn inode table',
    harm: async (image: string) => {
      const { stdout } = await tool('dumpe2fs', [image]);
      const block = Number(/Inode table at (\d+)/.exec(stdout)?.[1]);
      await writeAt(image, block * 4096, randomBytes(2048));
    },
  },
] as const) {
  onNode(
    `damage that needs an operator is refused, and the image is unchanged: ${name}`,
    async (t) => {
      await withFixture(t, async (fixture) => {
        const image = await filled(fixture);
        await harm(image);
        await setErrorFlag(image);
        t.false(await isSound('ext4', image));
        const hash = await hashOf(image);
        const result = await ext4.check(image);
        t.is(result.outcome, 'damaged');
        if (result.outcome === 'damaged') t.regex(result.detail, /^e2fsck exited with code \d+: ./);
        t.is(await hashOf(image), hash);
        t.is((await ext4.readSuperblock(image))?.state, 'has-errors');
        const left = (await readdir(fixture.directory)).filter((file) => file.includes('undo'));
        t.deepEqual(left, []);
      });
    },
  );
}

onNode('an image without a superblock is damaged and unchanged', async (t) => {
  await withFixture(t, async (fixture) => {
    const image = await filled(fixture);
    await writeAt(image, 0, Buffer.alloc(4096));
    const hash = await hashOf(image);
    t.is((await ext4.check(image)).outcome, 'damaged');
    t.is(await hashOf(image), hash);
  });
});

for (const state of ['clean', 'has-errors'] as const) {
  onNode(
    `a journal with data is replayed although the superblock requests no replay: ${state}`,
    async (t) => {
      await withFixture(t, async (fixture) => {
        const image = await copyAfterPowerCut(fixture);
        await debugfs(image, 'feature -needs_recovery');
        if (state === 'has-errors') await setErrorFlag(image);
        t.is((await ext4.readSuperblock(image))?.state, 'has-errors');
        const result = await ext4.check(image);
        t.true(result.outcome === 'sound' || result.outcome === 'repaired', JSON.stringify(result));
        t.is((await ext4.readSuperblock(image))?.state, 'clean');
        t.true(await isSound('ext4', image));
        await fixture.mounted('ext4', image, async (target) => {
          t.is(await readFile(join(target, 'last'), 'utf8'), 'last');
        });
        t.true(await holdsData(fixture, image));
      });
    },
  );
}

onNode('after a power cut only a replay is needed', async (t) => {
  await withFixture(t, async (fixture) => {
    const image = await copyAfterPowerCut(fixture);
    t.is((await ext4.readSuperblock(image))?.state, 'needs-replay');
    t.true(await holdsData(fixture, image));
    t.is((await ext4.readSuperblock(image))?.state, 'clean');
    t.true(await isSound('ext4', image));
  });
});

onNode(
  'after a power cut with an error flag, the journal is replayed and the flag cleared',
  async (t) => {
    await withFixture(t, async (fixture) => {
      const image = await copyAfterPowerCut(fixture);
      await setErrorFlag(image);
      const result = await ext4.check(image);
      t.true(result.outcome === 'sound' || result.outcome === 'repaired', JSON.stringify(result));
      t.is((await ext4.readSuperblock(image))?.state, 'clean');
      t.true(await holdsData(fixture, image));
    });
  },
);

for (const asks of [true, false]) {
  const how = asks ? '' : ', whose superblock asks for none';
  onNode(
    `after a power cut with an error flag and damage, not even the journal is replayed${how}`,
    async (t) => {
      await withFixture(t, async (fixture) => {
        const source = await filled(fixture);
        const image = await fixture.mounted('ext4', source, async (target) => {
          await writeFile(join(target, 'last'), 'last', { flush: true });
          return fixture.copy(source);
        });
        // The second block of the inode table has older files, which this journal does not contain.
        const { stdout } = await tool('dumpe2fs', [image]);
        const block = Number(/Inode table at (\d+)/.exec(stdout)?.[1]) + 1;
        await writeAt(image, block * 4096, randomBytes(4096));
        if (!asks) await debugfs(image, 'feature -needs_recovery');
        await setErrorFlag(image);
        const hash = await hashOf(image);
        t.is((await ext4.check(image)).outcome, 'damaged');
        t.is(await hashOf(image), hash);
        const features = (await tool('dumpe2fs', ['-h', image])).stdout;
        t.is(features.includes('needs_recovery'), asks);
      });
    },
  );
}

onNode('an error recorded only in the journal is found', async (t) => {
  await withFixture(t, async (fixture) => {
    const image = await copyAfterPowerCut(fixture);
    const superblock = parseExt4Superblock(await readAt(image, 1024, 1024));
    const at = Number(superblock?.journalBlock ?? 0n) * 4096;
    const journal = await readAt(image, at, 1024);
    t.is(journal.readUInt32BE(0), 0xc03b3998);
    // s_errno of the superblock of the journal; e2fsck recognises a wrong checksum there.
    const errno = Buffer.alloc(4);
    errno.writeInt32BE(-5);
    await writeAt(image, at + 0x20, errno);
    t.is((await ext4.readSuperblock(image))?.state, 'has-errors');
  });
});

onNode(
  'when a pool was full, the journal stopped, and the volume can be used again once there is space',
  async (t) => {
    await withFixture(t, async (fixture) => {
      const { image: poolImage } = await fixture.make('ext4', 96n * MiB);
      await fixture.mounted('ext4', poolImage, async (pool) => {
        const ballast = join(pool, 'ballast');
        await files.createImage(ballast, { sizeBytes: 40n * MiB, allocate: true });
        const image = join(pool, 'disk.img');
        await files.createImage(image, { sizeBytes: 256n * MiB, allocate: false });
        const uuid = randomUUID();
        await ext4.make(image, { sectorSize: 4096, thick: false, uuid, options: [] });
        await fixture.mounted('ext4', image, async (target) => {
          await fill(target);
          await t.throwsAsync(
            writeFile(join(target, 'large'), Buffer.alloc(128 << 20, 1), { flush: true }),
          );
        });
        t.is((await ext4.readSuperblock(image))?.state, 'has-errors');
        await rm(ballast);
        await mounts.syncFilesystem(pool);
        const result = await ext4.check(image);
        t.true(result.outcome === 'sound' || result.outcome === 'repaired', JSON.stringify(result));
        t.is((await ext4.readSuperblock(image))?.state, 'clean');
        await fixture.mounted('ext4', image, async (target) => {
          t.true((await readFile(join(target, 'directory', 'file'))).equals(data));
          await writeFile(join(target, 'after'), 'x', { flush: true });
        });
        t.true(await isSound('ext4', image));
      });
    });
  },
);
