/** Every read and write of a pool's disk fails for longer than one call. */
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { until } from '../../../helpers/until.ts';
import { attempt, type Ended, textOf } from './attempt.ts';
import { Bench, poolHasFailed, untilDone, wrongStatements } from './fixture.ts';

/** How long calls are repeated after the driver has noticed. Meanwhile it tries to open the pool every five seconds. */
const refusedMs = 30_000;
/** A refused call does not wait for the disk, so it takes far less than the 60 s of a waiting call. */
const atOnceMs = 10_000;

for (const poolType of ['ext4', 'XFS', 'btrfs'] as const) {
  test.serial(
    `${poolType}: while a disk fails only calls for its pool are refused, and its volumes are intact afterwards`,
    async (t) => {
      await Bench.use(t, poolType, async (bench) => {
        const used = await bench.createInUse('used');
        const idle = await bench.create('idle');
        const usualMs = await bench.liveInGoodPool('before');

        await bench.disk.fail();
        const calls = (): readonly [string, () => Promise<Ended>][] => [
          ['create', () => attempt(() => bench.create('new'))],
          ['expand', () => attempt(() => bench.expand(used))],
          ['stage', () => attempt(() => bench.stage(idle))],
          ['delete', () => attempt(() => bench.delete(idle))],
        ];
        for (const [name, run] of calls()) {
          const first = await run();
          t.log(`${name}: ${textOf(first)}`);
          t.true(['INTERNAL', 'UNAVAILABLE'].includes(first.code), `${name}: ${first.code}`);
          t.regex(first.message, /pool 'bad'.*check/, name);
          t.notRegex(first.message, wrongStatements, name);
        }
        t.notRegex((await bench.health(used)).join('\n'), wrongStatements);
        await until('the driver has noticed', async () => !(await bench.isServed()));

        const noticedAtMs = Date.now();
        while (Date.now() - noticedAtMs < refusedMs) {
          for (const [name, run] of calls()) {
            const refused = await run();
            t.is(refused.code, 'UNAVAILABLE', `${name}: ${refused.message}`);
            t.regex(refused.message, poolHasFailed, name);
            t.true(refused.ms < atOnceMs, `${name}: ${refused.ms} ms`);
          }
          for (const condition of await bench.health(used)) {
            t.regex(condition, /^(?:INACCESSIBLE|STORAGE_UNREACHABLE) PoolNotServed: /);
            t.regex(condition, poolHasFailed);
          }
          await delay(500);
        }
        const besideMs = await bench.liveInGoodPool('meanwhile');
        t.log(`a volume's life in the other pool: ${besideMs} ms, before ${usualMs} ms`);
        t.true(besideMs < Math.max(45_000, 3 * usualMs), `${besideMs} ms`);

        await bench.disk.recover();
        // A working disk changes nothing for a filesystem that the kernel has stopped.
        if (poolType === 'btrfs') t.is(await bench.mountReadWrite(), 'refused');
        t.true(await bench.poolIsStopped());
        for (const volume of [used, idle]) await bench.unstage(volume);
        await bench.remountPool();
        await untilDone('the volume is staged again', () => bench.stage(used));
        await bench.verify(used);
        t.deepEqual(await bench.health(used), []);
        await bench.expand(used);
        await bench.write(used);
        await bench.create('new');
        await bench.delete(idle);
      });
    },
  );
}
