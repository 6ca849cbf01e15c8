/** Reads or writes of a pool's disk fail while one call runs. Then the disk works again. */
import test from 'ava';
import { until } from '../../../helpers/until.ts';
import { attempt, textOf } from './attempt.ts';
import { Fixture, type PoolType, poolHasFailed, untilDone, wrongStatements } from './fixture.ts';

interface NodeFixture {
  readonly poolType: PoolType;
  readonly fault: 'failReads' | 'failWrites';
  readonly operation: 'create' | 'stage';
  /** The code of the call. It may also be UNAVAILABLE, if the pool's filesystem was already stopped or known to have failed. */
  readonly code: string;
  /** Whether the kernel stops the pool's filesystem. Undefined: it does so only if it writes metadata during the fault. */
  readonly stops?: boolean;
}

const fixtures: readonly NodeFixture[] = [
  { poolType: 'ext4', fault: 'failWrites', operation: 'create', code: 'INTERNAL', stops: true },
  { poolType: 'ext4', fault: 'failWrites', operation: 'stage', code: 'INTERNAL' },
  {
    poolType: 'ext4 that continues after errors',
    fault: 'failReads',
    operation: 'stage',
    code: 'INTERNAL',
    stops: false,
  },
  { poolType: 'XFS', fault: 'failWrites', operation: 'create', code: 'INTERNAL', stops: true },
  { poolType: 'XFS', fault: 'failWrites', operation: 'stage', code: 'INTERNAL' },
  { poolType: 'btrfs', fault: 'failWrites', operation: 'create', code: 'INTERNAL', stops: true },
  { poolType: 'btrfs', fault: 'failWrites', operation: 'stage', code: 'INTERNAL' },
  { poolType: 'btrfs', fault: 'failReads', operation: 'stage', code: 'INTERNAL', stops: false },
];

for (const { poolType, fault, operation, code, stops } of fixtures) {
  const what = fault === 'failReads' ? 'reads' : 'writes';
  test.serial(
    `${poolType}: ${what} fail during a ${operation}, which succeeds afterwards`,
    async (t) => {
      await Fixture.use(t, poolType, async (fixture) => {
        const idle = await fixture.createInUse('idle');
        await fixture.unstage(idle);
        const repeat = () => (operation === 'create' ? fixture.create('new') : fixture.stage(idle));

        await fixture.disk[fault]();
        const first = await attempt(repeat);
        await fixture.disk.recover();
        t.log(textOf(first));
        t.true([code, 'UNAVAILABLE'].includes(first.code), first.code);
        t.regex(first.message, /pool 'bad'.*check/);
        t.notRegex(first.message, wrongStatements);

        const isStopped = await fixture.poolIsStopped();
        t.log(`the kernel has ${isStopped ? '' : 'not '}stopped the pool's filesystem`);
        if (stops !== undefined) t.is(isStopped, stops);
        if (isStopped) {
          await until('health reports that the pool is stopped', async () => {
            return poolHasFailed.test((await fixture.health(idle)).join('\n'));
          });
          const refused = await attempt(repeat);
          t.is(refused.code, 'UNAVAILABLE');
          t.regex(refused.message, poolHasFailed);
          await fixture.unstage(idle);
          await fixture.remountPool();
        }
        await untilDone(`the repeated ${operation} succeeds`, repeat);
        await fixture.stage(idle);
        await fixture.verify(idle);
        t.deepEqual(await fixture.health(idle), []);
      });
    },
  );
}
