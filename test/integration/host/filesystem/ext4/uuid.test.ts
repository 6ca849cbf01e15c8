import { randomUUID } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeExt4Uuid } from '../../../../../src/host/filesystem/ext4/write-uuid.ts';
import { driverLane } from '../../../../../src/host/lane.ts';
import { GiB, MiB } from '../../../../../src/units.ts';
import { onNode } from '../../../../helpers/on-node.ts';
import { filesystems, hashOf, isSound, tool, withFixture } from '../fixture.ts';

/** Groups with a superblock copy: 1 and the powers of 3, 5 and 7. */
const copyGroups = [1, 3, 5, 7, 9, 25, 27];
const blocksPerGroup = 32_768;

onNode(
  'a new UUID is written in place to all superblock copies, and e2fsck finds no error',
  async (t) => {
    await withFixture(t, async (fixture) => {
      const { image } = await fixture.make('ext4', 4n * GiB);
      await fixture.mounted('ext4', image, (target) =>
        writeFile(join(target, 'file'), 'content', { flush: true }),
      );
      const uuid = randomUUID();
      t.true(await writeExt4Uuid(driverLane, image, uuid));
      t.is((await filesystems.ext4.readSuperblock(image))?.uuid, uuid);
      for (const group of copyGroups) {
        const at = `superblock=${group * blocksPerGroup}`;
        const copy = await tool('dumpe2fs', ['-h', '-o', at, '-o', 'blocksize=4096', image]);
        t.true(copy.stdout.includes(uuid), `the copy in group ${group}`);
      }
      t.true(await isSound('ext4', image));
      await fixture.mounted('ext4', image, (target) =>
        writeFile(join(target, 'file'), 'more', { flush: true }),
      );
      t.true(await isSound('ext4', image));
    });
  },
);

onNode('an image whose checksums depend on the UUID is left to tune2fs, unchanged', async (t) => {
  await withFixture(t, async (fixture) => {
    const { image } = await fixture.make('ext4', 64n * MiB);
    const { exitCode } = await tool('tune2fs', ['-O', '^metadata_csum_seed', image]);
    t.is(exitCode, 0);
    const before = await hashOf(image);
    t.false(await writeExt4Uuid(driverLane, image, randomUUID()));
    t.is(await hashOf(image), before);
    const uuid = randomUUID();
    await filesystems.ext4.renewUuid(image, { uuid, sectorSize: 4096, workDir: fixture.workDir });
    t.is((await filesystems.ext4.readSuperblock(image))?.uuid, uuid);
    t.true(await isSound('ext4', image));
  });
});
