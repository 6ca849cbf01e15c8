/** A pool's disk does not answer, or takes a minute for each request. Then it works as before. */
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { attempt, textOf } from './attempt.ts';
import { Bench, type PoolType, untilDone, wrongStatements } from './fixture.ts';

interface NodeFixture {
  readonly poolType: PoolType;
  readonly what: string;
  readonly silence: (bench: Bench) => Promise<void>;
  /** The calls that wait for the disk. A single create waits in an fsync, so its caller gets an answer only after ten minutes. */
  readonly waits: readonly ('create' | 'expand' | 'delete')[];
}

const fixtures: readonly NodeFixture[] = [
  {
    poolType: 'ext4',
    what: 'takes 60 s for each answer',
    silence: (bench) => bench.disk.delay(60_000),
    waits: ['create', 'expand', 'delete'],
  },
  {
    poolType: 'XFS',
    what: 'does not answer',
    silence: (bench) => bench.disk.hang(),
    waits: ['create'],
  },
  {
    poolType: 'btrfs',
    what: 'takes 60 s for each answer',
    silence: (bench) => bench.disk.delay(60_000),
    waits: ['create', 'expand', 'delete'],
  },
];

/** Less than the 60 s that a call waits for the disk. */
const withoutWaitingMs = 45_000;
const reportsTheHang =
  /has not returned for \d+ s; .*check its disk|does not answer|has not answered/;
const noticedWithinMs = 240_000;

for (const { poolType, what, silence, waits } of fixtures) {
  test.serial(
    `${poolType}: while a disk ${what} only its pool waits, and the pool continues when the disk does`,
    async (t) => {
      await Bench.use(t, poolType, async (bench) => {
        const used = await bench.createInUse('used');
        const idle = await bench.create('idle');
        const usualMs = await bench.liveInGoodPool('before');

        await silence(bench);
        const silentAtMs = Date.now();
        const calls = {
          create: () => bench.create('new'),
          expand: () => bench.expand(used),
          delete: () => bench.delete(idle),
        };
        const waiting = waits.map((name) => ({ name, ended: attempt(calls[name]) }));
        const besideMs: number[] = [];
        let isServed = true;
        while (isServed && Date.now() - silentAtMs < noticedWithinMs) {
          besideMs.push(await bench.liveInGoodPool(`beside-${besideMs.length}`));
          isServed = await bench.isServed();
          await delay(500);
        }
        t.log(`the pool is not served after ${Math.round((Date.now() - silentAtMs) / 1000)} s`);
        t.false(isServed);
        const refused = await attempt(() => bench.create('another'));
        t.log(`create once more: ${textOf(refused)}`);
        t.is(refused.code, 'UNAVAILABLE');
        t.regex(
          refused.message,
          /pool 'bad': .*(?:does not answer|has not answered).*check its disk/,
        );
        t.true(refused.ms < 10_000, `${refused.ms} ms`);
        const health = (await bench.health(used)).join('\n');
        t.regex(
          health,
          /^INACCESSIBLE PoolNotServed: pool 'bad': .*(?:does not answer|has not answered).*check its disk/,
        );
        t.notRegex(health, wrongStatements);
        besideMs.push(await bench.liveInGoodPool('beside-at-last'));
        t.log(`a volume's life in the other pool: ${besideMs.join(', ')} ms, before ${usualMs} ms`);
        for (const ms of besideMs) t.true(ms < Math.max(withoutWaitingMs, 3 * usualMs), `${ms} ms`);

        await bench.disk.recover();
        for (const { name, ended } of waiting) {
          const end = await ended;
          t.log(`${name}: ${textOf(end)}`);
          t.true(['OK', 'ABORTED', 'UNAVAILABLE'].includes(end.code), `${name}: ${end.code}`);
          if (end.code !== 'OK') t.regex(end.message, reportsTheHang, name);
          t.notRegex(end.message, wrongStatements, name);
        }
        for (const [name, repeat] of Object.entries(calls)) {
          await untilDone(`the ${name} succeeds`, repeat);
        }
        await bench.verify(used);
        await bench.write(used);
        t.deepEqual(await bench.health(used), []);
      });
    },
  );
}
