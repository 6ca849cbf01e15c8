/** A pool's disk acknowledges writes and loses them. */
import test from 'ava';
import { execa } from 'execa';
import { until } from '../../../helpers/until.ts';
import { attempt, textOf } from './attempt.ts';
import { Bench, untilDone, wrongStatements } from './fixture.ts';

for (const poolType of ['ext4', 'XFS', 'btrfs'] as const) {
  test.serial(
    `${poolType}: a disk that loses acknowledged writes does not affect older data`,
    async (t) => {
      await Bench.use(t, poolType, async (bench) => {
        const kept = await bench.createInUse('kept');
        const deleted = await bench.create('deleted');
        await bench.unstage(kept);
        // The filesystem's pending writes must reach the disk before it loses writes.
        await execa('sync', ['--file-system', bench.poolPath]);

        await bench.disk.dropWrites();
        const lost = await bench.create('lost');
        await bench.delete(deleted);
        // Nothing shows the loss yet, since the records are in the page cache.
        t.deepEqual(await bench.health(lost), []);

        // As after a power cut: the caches are dropped, and the disk has only the earlier writes.
        await execa('umount', ['--lazy', bench.poolPath]);
        await until('the driver and the kernel have closed the disk', () => bench.disk.isClosed());
        await bench.disk.recover();
        await bench.mountPool();

        await untilDone('the kept volume is staged', () => bench.stage(kept));
        await bench.verify(kept);
        t.deepEqual(await bench.health(kept), []);
        const stage = await attempt(() => bench.stage(lost));
        t.log(`stage of the lost volume: ${textOf(stage)}`);
        t.is(stage.code, 'NOT_FOUND');
        t.notRegex(stage.message, /damaged/);
        // The deletion was lost too, so the volume exists again.
        await bench.stage(deleted);
        t.notRegex((await bench.health(deleted)).join('\n'), wrongStatements);
        await bench.delete(lost);
        t.is(await bench.create('lost'), lost);
      });
    },
  );
}
