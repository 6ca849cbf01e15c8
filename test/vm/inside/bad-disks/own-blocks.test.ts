/** The blocks of one volume can no longer be read or written; the rest of its pool's disk works. */
import test from 'ava';
import { attempt, textOf } from './attempt.ts';
import { Bench, untilDone, wrongStatements } from './fixture.ts';

test.serial(
  'ext4: when only the blocks of one volume fail, its pool still works, and the volume is intact afterwards',
  async (t) => {
    await Bench.use(t, 'ext4', async (bench) => {
      const volume = await bench.createInUse('v');
      await bench.disk.failDataOf(bench.imageOf(volume));

      const read = await attempt(() => bench.verify(volume));
      t.log(`read: ${textOf(read)}`);
      t.is(read.code, 'EIO');
      const write = await attempt(() => bench.overwrite(volume));
      t.log(`write: ${textOf(write)}`);
      t.is(write.code, 'EIO');
      t.log(`health: ${(await bench.health(volume)).join('; ')}`);
      t.notRegex((await bench.health(volume)).join('\n'), wrongStatements);
      const beside = await attempt(() => bench.create('beside'));
      t.log(`create: ${textOf(beside)}`);
      t.is(beside.code, 'OK', beside.message);

      const unstage = await attempt(() => bench.unstage(volume));
      t.log(`unstage: ${textOf(unstage)}`);
      t.is(unstage.code, 'OK', unstage.message);
      const stage = await attempt(() => bench.stage(volume));
      t.log(`stage: ${textOf(stage)}`);
      t.is(stage.code, 'INTERNAL');
      t.regex(stage.message, /the disk of pool 'bad' has failed: check the disk/);
      t.notRegex(stage.message, wrongStatements);
      t.log(`health: ${(await bench.health(volume)).join('; ')}`);

      await bench.disk.recover();
      await untilDone('the repeated stage succeeds', () => bench.stage(volume));
      await bench.verify(volume);
      await bench.write(volume);
      t.deepEqual(await bench.health(volume), []);
    });
  },
);
