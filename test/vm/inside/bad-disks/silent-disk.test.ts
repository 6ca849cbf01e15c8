/** A pool's disk does not answer, or takes a minute for each request. Then it works as before. */
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { attempt, textOf } from './attempt.ts';
import { Fixture, type PoolType, untilDone, wrongStatements } from './fixture.ts';

interface NodeFixture {
  readonly poolType: PoolType;
  readonly what: string;
  readonly silence: (fixture: Fixture) => Promise<void>;
  /** The calls that wait for the disk. A single create waits in an fsync, so its caller gets an answer only after ten minutes. */
  readonly waits: readonly ('create' | 'expand' | 'delete')[];
}

const fixtures: readonly NodeFixture[] = [
  {
    poolType: 'ext4',
    what: 'takes 60 s for each answer',
    silence: (fixture) => fixture.disk.delay(60_000),
    waits: ['create', 'expand', 'delete'],
  },
  {
    poolType: 'XFS',
    what: 'does not answer',
    silence: (fixture) => fixture.disk.hang(),
    waits: ['create'],
  },
  {
    poolType: 'btrfs',
    what: 'takes 60 s for each answer',
    silence: (fixture) => fixture.disk.delay(60_000),
    waits: ['create', 'expand', 'delete'],
  },
];

/** Less than the 60 s that a call waits for the disk. */
const withoutWaitingMs = 45_000;
const reportsTheHang =
  /has not returned after \d+ s; .*check its disk|does not answer|has not answered/;
const noticedWithinMs = 240_000;

for (const { poolType, what, silence, waits } of fixtures) {
  test.serial(
    `${poolType}: while a disk ${what} only its pool waits, and the pool continues when the disk does`,
    async (t) => {
      await Fixture.use(t, poolType, async (fixture) => {
        const used = await fixture.createInUse('used');
        const idle = await fixture.create('idle');
        const usualMs = await fixture.liveInGoodPool('before');

        await silence(fixture);
        const silentAtMs = Date.now();
        const calls = {
          create: () => fixture.create('new'),
          expand: () => fixture.expand(used),
          delete: () => fixture.delete(idle),
        };
        const waiting = waits.map((name) => ({ name, ended: attempt(calls[name]) }));
        const besideMs: number[] = [];
        let isServed = true;
        while (isServed && Date.now() - silentAtMs < noticedWithinMs) {
          besideMs.push(await fixture.liveInGoodPool(`beside-${besideMs.length}`));
          isServed = await fixture.isServed();
          await delay(500);
        }
        t.log(`the pool is not served after ${Math.round((Date.now() - silentAtMs) / 1000)} s`);
        t.false(isServed);
        const refused = await attempt(() => fixture.create('another'));
        t.log(`create once more: ${textOf(refused)}`);
        t.is(refused.code, 'UNAVAILABLE');
        t.regex(
          refused.message,
          /pool 'bad': .*(?:does not answer|has not answered).*check its disk/,
        );
        t.true(refused.ms < 10_000, `${refused.ms} ms`);
        const health = (await fixture.health(used)).join('\n');
        t.regex(
          health,
          /^INACCESSIBLE PoolNotServed: pool 'bad': .*(?:does not answer|has not answered).*check its disk/,
        );
        t.notRegex(health, wrongStatements);
        besideMs.push(await fixture.liveInGoodPool('beside-at-last'));
        t.log(`a volume's life in the other pool: ${besideMs.join(', ')} ms, before ${usualMs} ms`);
        for (const ms of besideMs) t.true(ms < Math.max(withoutWaitingMs, 3 * usualMs), `${ms} ms`);

        await fixture.disk.recover();
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
        await fixture.verify(used);
        await fixture.write(used);
        t.deepEqual(await fixture.health(used), []);
      });
    },
  );
}
