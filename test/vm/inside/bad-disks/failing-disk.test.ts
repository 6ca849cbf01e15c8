/** Every read and write of a pool's disk fails for longer than one call. */
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { until } from '../../../helpers/until.ts';
import { attempt, type Ended, textOf } from './attempt.ts';
import { Fixture, poolHasFailed, untilDone, wrongStatements } from './fixture.ts';

/** How long calls are repeated after the driver has noticed. Meanwhile it tries to open the pool every five seconds. */
const refusedMs = 30_000;
/** A refused call does not wait for the disk, so it takes far less than the 60 s of a waiting call. */
const atOnceMs = 10_000;

for (const poolType of ['ext4', 'XFS', 'btrfs'] as const) {
  test.serial(
    `${poolType}: while a disk fails only calls for its pool are refused, and its volumes are intact afterwards`,
    async (t) => {
      await Fixture.use(t, poolType, async (fixture) => {
        const used = await fixture.createInUse('used');
        const idle = await fixture.create('idle');
        const usualMs = await fixture.liveInGoodPool('before');

        await fixture.disk.fail();
        const calls = (): readonly [string, () => Promise<Ended>][] => [
          ['create', () => attempt(() => fixture.create('new'))],
          ['expand', () => attempt(() => fixture.expand(used))],
          ['stage', () => attempt(() => fixture.stage(idle))],
          ['delete', () => attempt(() => fixture.delete(idle))],
        ];
        for (const [name, run] of calls()) {
          const first = await run();
          t.log(`${name}: ${textOf(first)}`);
          t.true(['INTERNAL', 'UNAVAILABLE'].includes(first.code), `${name}: ${first.code}`);
          t.regex(first.message, /pool 'bad'.*check/, name);
          t.notRegex(first.message, wrongStatements, name);
        }
        t.notRegex((await fixture.health(used)).join('\n'), wrongStatements);
        await until('the driver has noticed', async () => !(await fixture.isServed()));

        const noticedAtMs = Date.now();
        while (Date.now() - noticedAtMs < refusedMs) {
          for (const [name, run] of calls()) {
            const refused = await run();
            t.is(refused.code, 'UNAVAILABLE', `${name}: ${refused.message}`);
            t.regex(refused.message, poolHasFailed, name);
            t.true(refused.ms < atOnceMs, `${name}: ${refused.ms} ms`);
          }
          for (const condition of await fixture.health(used)) {
            t.regex(condition, /^(?:INACCESSIBLE|STORAGE_UNREACHABLE) PoolNotServed: /);
            t.regex(condition, poolHasFailed);
          }
          await delay(500);
        }
        const besideMs = await fixture.liveInGoodPool('meanwhile');
        t.log(`a volume's life in the other pool: ${besideMs} ms, before ${usualMs} ms`);
        t.true(besideMs < Math.max(45_000, 3 * usualMs), `${besideMs} ms`);

        await fixture.disk.recover();
        // A working disk changes nothing for a filesystem that the kernel has stopped.
        if (poolType === 'btrfs') t.is(await fixture.mountReadWrite(), 'refused');
        t.true(await fixture.poolIsStopped());
        for (const volume of [used, idle]) await fixture.unstage(volume);
        await fixture.remountPool();
        await untilDone('the volume is staged again', () => fixture.stage(used));
        await fixture.verify(used);
        t.deepEqual(await fixture.health(used), []);
        await fixture.expand(used);
        await fixture.write(used);
        await fixture.create('new');
        await fixture.delete(idle);
      });
    },
  );
}
