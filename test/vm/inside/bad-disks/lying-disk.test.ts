/** A pool's disk acknowledges writes and loses them. */
import test from 'ava';
import { execa } from 'execa';
import { until } from '../../../helpers/until.ts';
import { attempt, textOf } from './attempt.ts';
import { Fixture, untilDone, wrongStatements } from './fixture.ts';

for (const poolType of ['ext4', 'XFS', 'btrfs'] as const) {
  test.serial(
    `${poolType}: a disk that loses acknowledged writes does not affect older data`,
    async (t) => {
      await Fixture.use(t, poolType, async (fixture) => {
        const kept = await fixture.createInUse('kept');
        const deleted = await fixture.create('deleted');
        await fixture.unstage(kept);
        // The filesystem's pending writes must reach the disk before it loses writes.
        await execa('sync', ['--file-system', fixture.poolPath]);

        await fixture.disk.dropWrites();
        const lost = await fixture.create('lost');
        await fixture.delete(deleted);
        // Nothing shows the loss yet, since the records are in the page cache.
        t.deepEqual(await fixture.health(lost), []);

        // As after a power cut: the caches are dropped, and the disk has only the earlier writes.
        await execa('umount', ['--lazy', fixture.poolPath]);
        await until('the driver and the kernel have closed the disk', () =>
          fixture.disk.isClosed(),
        );
        await fixture.disk.recover();
        await fixture.mountPool();

        await untilDone('the kept volume is staged', () => fixture.stage(kept));
        await fixture.verify(kept);
        t.deepEqual(await fixture.health(kept), []);
        const stage = await attempt(() => fixture.stage(lost));
        t.log(`stage of the lost volume: ${textOf(stage)}`);
        t.is(stage.code, 'NOT_FOUND');
        t.notRegex(stage.message, /damaged/);
        // The deletion was lost too, so the volume exists again.
        await fixture.stage(deleted);
        t.notRegex((await fixture.health(deleted)).join('\n'), wrongStatements);
        await fixture.delete(lost);
        t.is(await fixture.create('lost'), lost);
      });
    },
  );
}
