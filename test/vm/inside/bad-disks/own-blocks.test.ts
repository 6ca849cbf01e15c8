/** The blocks of one volume can no longer be read or written; the rest of its pool's disk works. */
import test from 'ava';
import { attempt, textOf } from './attempt.ts';
import { Fixture, untilDone, wrongStatements } from './fixture.ts';

test.serial(
  'ext4: when only the blocks of one volume fail, its pool still works, and the volume is intact afterwards',
  async (t) => {
    await Fixture.use(t, 'ext4', async (fixture) => {
      const volume = await fixture.createInUse('v');
      await fixture.disk.failDataOf(fixture.imageOf(volume));

      const read = await attempt(() => fixture.verify(volume));
      t.log(`read: ${textOf(read)}`);
      t.is(read.code, 'EIO');
      const write = await attempt(() => fixture.overwrite(volume));
      t.log(`write: ${textOf(write)}`);
      t.is(write.code, 'EIO');
      t.log(`health: ${(await fixture.health(volume)).join('; ')}`);
      t.notRegex((await fixture.health(volume)).join('\n'), wrongStatements);
      const beside = await attempt(() => fixture.create('beside'));
      t.log(`create: ${textOf(beside)}`);
      t.is(beside.code, 'OK', beside.message);

      const unstage = await attempt(() => fixture.unstage(volume));
      t.log(`unstage: ${textOf(unstage)}`);
      t.is(unstage.code, 'OK', unstage.message);
      const stage = await attempt(() => fixture.stage(volume));
      t.log(`stage: ${textOf(stage)}`);
      t.is(stage.code, 'INTERNAL');
      t.regex(stage.message, /the disk of pool 'bad' has failed: check the disk/);
      t.notRegex(stage.message, wrongStatements);
      t.log(`health: ${(await fixture.health(volume)).join('; ')}`);

      await fixture.disk.recover();
      await untilDone('the repeated stage succeeds', () => fixture.stage(volume));
      await fixture.verify(volume);
      await fixture.write(volume);
      t.deepEqual(await fixture.health(volume), []);
    });
  },
);
