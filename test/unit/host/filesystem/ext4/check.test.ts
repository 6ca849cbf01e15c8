import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { KernelError } from '../../../../../src/host/errors.ts';
import { Ext4, Ext4State } from '../../../../../src/host/filesystem/ext4/ext4.ts';
import { driverLane } from '../../../../../src/host/lane.ts';
import type { Run } from '../../../../../src/host/programs/run.ts';

/** Output of e2fsck 1.47 on a disk with read errors; its exit code is the same as for a damaged filesystem. */
const unreadable = `e2fsck: Input/output error while trying to open disk.img
The superblock could not be read or does not describe a valid ext2/ext3/ext4 filesystem.`;

for (const exitCode of [4, 8]) {
  test(`a check that could not read the image is an I/O error, not damage (exit code ${exitCode})`, async (t) => {
    const directory = await mkdtemp(join(tmpdir(), 'loopcsi-ext4-'));
    t.teardown(() => rm(directory, { recursive: true }));
    const image = join(directory, 'disk.img');
    await writeFile(image, '');
    const run: Run = async (_lane, _file, _args, { exitCodes = [0] }) => {
      const answer = exitCodes.find((code) => code === exitCode);
      if (answer === undefined) throw new Error('e2fsck was run otherwise');
      return { exitCode: answer, stdout: unreadable, stderr: '' };
    };
    const error = await t.throwsAsync(new Ext4(driverLane, run, new Ext4State()).check(image), {
      instanceOf: KernelError,
    });
    t.is(error?.errno, 'EIO');
  });
}
