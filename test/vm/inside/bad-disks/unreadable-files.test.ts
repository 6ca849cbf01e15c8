/** The disk of a pool cannot read one file or directory of a volume, and works elsewhere. */
import test, { type ExecutionContext } from 'ava';
import { attempt, type Ended, textOf } from './attempt.ts';
import { Bench, untilDone, wrongStatements } from './fixture.ts';

const poolType = 'ext4 that continues after errors';

/** Asserts INTERNAL with the id of the unreadable object and the advice to check the disk, and no statement of damage. */
function assertOfDisk(t: ExecutionContext, what: string, { id, end }: { id: string; end: Ended }) {
  t.log(`${what}: ${textOf(end)}`);
  t.is(end.code, 'INTERNAL', what);
  t.true(end.message.includes(id), what);
  t.regex(end.message, /EIO.*check (?:the disk|the pool's disk)/, what);
  t.notRegex(end.message, wrongStatements, what);
}

/** Asserts that one condition matches, and that none has a wrong statement. */
async function assertCondition(
  t: ExecutionContext,
  bench: Bench,
  { id, condition }: { id: string; condition: RegExp },
) {
  const conditions = await bench.health(id);
  t.log(`health of ${id}: ${conditions.join('; ')}`);
  t.true(
    conditions.some((one) => condition.test(one)),
    conditions.join('\n'),
  );
  t.notRegex(conditions.join('\n'), wrongStatements);
}

/** Asserts that everything that does not need the failed blocks works: the pool's other volumes, its lists and its capacity. */
async function assertOthersWork(t: ExecutionContext, bench: Bench, well: string) {
  await bench.overwrite(well);
  await bench.verify(well);
  t.notRegex((await bench.health(well)).join('\n'), /ImageUnreadable|PoolNot/);
  t.true(await bench.isServed());
  const beside = await bench.createInUse('beside');
  await bench.unstage(beside);
  await bench.delete(beside);
  const { entries } = await bench.controller.ListVolumes({});
  t.true(entries.some(({ volume }) => volume?.volume_id === well));
  const { available_capacity } = await bench.controller.GetCapacity({
    parameters: { pool: 'bad' },
  });
  t.true(available_capacity > 0n);
  t.regex(await bench.command(['volume', 'list']), /\bwell\b/);
}

test.serial(
  'ext4: an unreadable directory, superblock or snapshot fails only the calls of its own volume',
  async (t) => {
    await Bench.use(t, poolType, async (bench) => {
      const well = await bench.createInUse('well');
      const hidden = await bench.create('hidden');
      const headless = await bench.create('headless');
      const source = await bench.createInUse('source');
      await bench.unstage(source);
      const snapshot = await bench.snapshot(source);

      await bench.disk.failDataOf(
        bench.pathOf(hidden),
        { path: bench.imageOf(headless), block: 'first' },
        { path: bench.imageOfSnapshot(snapshot), block: 'last' },
      );
      for (const id of [hidden, headless]) {
        assertOfDisk(t, 'stage', { id, end: await attempt(() => bench.stage(id)) });
        await assertCondition(t, bench, { id, condition: /^INACCESSIBLE ImageUnreadable: .*EIO/ });
      }
      assertOfDisk(t, 'delete', { id: hidden, end: await attempt(() => bench.delete(hidden)) });
      const restore = () => bench.create('restored', 'bad', snapshot);
      assertOfDisk(t, 'restore', { id: snapshot, end: await attempt(restore) });
      await assertOthersWork(t, bench, well);
      const doctor = await bench.command(['doctor', '--json'], 1);
      for (const name of ['hidden', 'headless']) {
        t.regex(doctor, new RegExp(`volume:${name}.*ImageUnreadable`, 's'));
      }
      t.deepEqual(await bench.halfMade(), []);

      await bench.disk.recover();
      for (const id of [hidden, headless]) {
        await untilDone('the repeated stage succeeds', () => bench.stage(id));
        t.deepEqual(await bench.health(id), []);
      }
      const restored = await restore();
      await bench.stage(restored);
      await bench.verify(restored, source);
      await bench.deleteSnapshot(snapshot);
    });
  },
);

test.serial(
  'ext4: a record or node state that is unreadable at the start prevents no pod from ending, and is used once it is readable',
  async (t) => {
    await Bench.use(t, poolType, async (bench) => {
      const well = await bench.createInUse('well');
      const unknown = await bench.createInUse('unknown');
      const noted = await bench.createInUse('noted');
      const idle = await bench.create('idle');

      await bench.disk.failDataOf(
        ...[unknown, idle].map((id) => bench.pathOf(id, 'volume.json')),
        bench.pathOf(noted, 'node.json'),
      );
      await bench.restartDriver();
      await assertCondition(t, bench, {
        id: idle,
        condition: /^INACCESSIBLE RecordUnreadable: .*EIO/,
      });
      assertOfDisk(t, 'stage', { id: idle, end: await attempt(() => bench.stage(idle)) });
      assertOfDisk(t, 'create', { id: idle, end: await attempt(() => bench.create('idle')) });
      await assertCondition(t, bench, {
        id: noted,
        condition: /^INACCESSIBLE ImageUnreadable: .*node\.json/,
      });
      assertOfDisk(t, 'stage', { id: noted, end: await attempt(() => bench.stage(noted)) });
      await assertOthersWork(t, bench, well);
      const doctor = await bench.command(['doctor', '--json'], 1);
      t.regex(doctor, /volume:noted.*ImageUnreadable/s);
      t.regex(doctor, /pool:bad:record.*idle.*check the pool's disk/s);
      for (const id of [unknown, noted]) await bench.unstage(id);

      await bench.disk.recover();
      for (const id of [unknown, noted]) {
        await untilDone('the repeated stage succeeds', () => bench.stage(id));
        await bench.verify(id);
        t.deepEqual(await bench.health(id), []);
      }
      await bench.stage(idle);
    });
  },
);
