/** A disk returns other bytes than were written. Only btrfs has checksums of data, and fails such a read with EIO. */
import { randomBytes } from 'node:crypto';
import test from 'ava';
import { execa } from 'execa';
import { attempt, textOf } from './attempt.ts';
import { Fixture, untilDone, wrongStatements } from './fixture.ts';

const blockBytes = 4096;

test.serial(
  'btrfs: an image whose first block fails its checksum is not called damaged, and is intact once the block is',
  async (t) => {
    await Fixture.use(t, 'btrfs', async (fixture) => {
      const well = await fixture.createInUse('well');
      const changed = await fixture.createInUse('changed');
      await fixture.unstage(changed);
      const block = await firstBlockOf(fixture.imageOf(changed), fixture.disk.path);
      const bytes = await readBlock(fixture.disk.path, block);

      await writeBlock(fixture.disk.path, { block, bytes: randomBytes(blockBytes) });
      await fixture.disk.dropCaches();
      const stage = await attempt(() => fixture.stage(changed));
      t.log(`stage: ${textOf(stage)}`);
      t.is(stage.code, 'INTERNAL');
      t.regex(stage.message, /EIO; the disk of pool 'bad' has failed: check the disk/);
      t.notRegex(stage.message, wrongStatements);
      const health = (await fixture.health(changed)).join('\n');
      t.log(`health: ${health}`);
      t.regex(health, /^INACCESSIBLE ImageUnreadable: .*EIO/);
      t.notRegex(health, wrongStatements);
      t.true(await fixture.isServed());
      await fixture.verify(well);
      t.deepEqual(await fixture.health(well), []);

      await writeBlock(fixture.disk.path, { block, bytes });
      await untilDone('the repeated stage succeeds', () => fixture.stage(changed));
      await fixture.verify(changed);
      t.deepEqual(await fixture.health(changed), []);
    });
  },
);

/** The number of the block on the disk that has the first block of a file: FIEMAP of btrfs has logical addresses only. */
async function firstBlockOf(file: string, disk: string): Promise<number> {
  // btrfs-map-logical reads the disk without the log tree, so the transaction is committed first.
  await execa('sync', ['--file-system', file]);
  const map = await execa('filefrag', ['-s', '-v', `-b${blockBytes}`, file]);
  const address = /^\s*0:\s*0\.\.\s*\d+:\s*(\d+)\.\./m.exec(map.stdout)?.[1];
  const logical = String(Number(address) * blockBytes);
  const args = ['--logical', logical, '--bytes', String(blockBytes)];
  const { stdout } = await execa('btrfs-map-logical', [...args, disk]);
  const physical = /physical (\d+)/.exec(stdout)?.[1];
  if (physical === undefined) throw new Error(`${file}: ${map.stdout}\n${stdout}`);
  return Number(physical) / blockBytes;
}

async function readBlock(disk: string, block: number): Promise<Uint8Array> {
  const args = [`if=${disk}`, `bs=${blockBytes}`, 'count=1', `skip=${block}`, 'iflag=direct'];
  return (await execa('dd', args, { encoding: 'buffer' })).stdout;
}

async function writeBlock(
  disk: string,
  { block, bytes }: { readonly block: number; readonly bytes: Uint8Array },
): Promise<void> {
  const args = [
    `of=${disk}`,
    `bs=${blockBytes}`,
    `seek=${block}`,
    'oflag=direct',
    'iflag=fullblock',
  ];
  await execa('dd', args, { input: bytes });
}
