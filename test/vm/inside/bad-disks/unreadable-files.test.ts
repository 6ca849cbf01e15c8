/** The disk of a pool cannot read one file or directory of a volume, and works elsewhere. */
import test, { type ExecutionContext } from 'ava';
import { attempt, type Ended, textOf } from './attempt.ts';
import { Fixture, untilDone, wrongStatements } from './fixture.ts';

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
  fixture: Fixture,
  { id, condition }: { id: string; condition: RegExp },
) {
  const conditions = await fixture.health(id);
  t.log(`health of ${id}: ${conditions.join('; ')}`);
  t.true(
    conditions.some((one) => condition.test(one)),
    conditions.join('\n'),
  );
  t.notRegex(conditions.join('\n'), wrongStatements);
}

/** Asserts that everything that does not need the failed blocks works: the pool's other volumes, its lists and its capacity. */
async function assertOthersWork(t: ExecutionContext, fixture: Fixture, well: string) {
  await fixture.overwrite(well);
  await fixture.verify(well);
  t.notRegex((await fixture.health(well)).join('\n'), /ImageUnreadable|PoolNot/);
  t.true(await fixture.isServed());
  const beside = await fixture.createInUse('beside');
  await fixture.unstage(beside);
  await fixture.delete(beside);
  const { entries } = await fixture.controller.ListVolumes({});
  t.true(entries.some(({ volume }) => volume?.volume_id === well));
  const { available_capacity } = await fixture.controller.GetCapacity({
    parameters: { pool: 'bad' },
  });
  t.true(available_capacity > 0n);
  t.regex(await fixture.command(['volume', 'list']), /\bwell\b/);
}

test.serial(
  'ext4: an unreadable directory, superblock or snapshot fails only the calls of its own volume',
  async (t) => {
    await Fixture.use(t, poolType, async (fixture) => {
      const well = await fixture.createInUse('well');
      const hidden = await fixture.create('hidden');
      const headless = await fixture.create('headless');
      const source = await fixture.createInUse('source');
      await fixture.unstage(source);
      const snapshot = await fixture.snapshot(source);

      await fixture.disk.failDataOf(
        fixture.pathOf(hidden),
        { path: fixture.imageOf(headless), block: 'first' },
        { path: fixture.imageOfSnapshot(snapshot), block: 'last' },
      );
      for (const id of [hidden, headless]) {
        assertOfDisk(t, 'stage', { id, end: await attempt(() => fixture.stage(id)) });
        await assertCondition(t, fixture, {
          id,
          condition: /^INACCESSIBLE ImageUnreadable: .*EIO/,
        });
      }
      assertOfDisk(t, 'delete', { id: hidden, end: await attempt(() => fixture.delete(hidden)) });
      const restore = () => fixture.create('restored', 'bad', snapshot);
      assertOfDisk(t, 'restore', { id: snapshot, end: await attempt(restore) });
      await assertOthersWork(t, fixture, well);
      const doctor = await fixture.command(['doctor', '--json'], 1);
      for (const name of ['hidden', 'headless']) {
        t.regex(doctor, new RegExp(`volume:${name}.*ImageUnreadable`, 's'));
      }
      t.deepEqual(await fixture.halfMade(), []);

      await fixture.disk.recover();
      for (const id of [hidden, headless]) {
        await untilDone('the repeated stage succeeds', () => fixture.stage(id));
        t.deepEqual(await fixture.health(id), []);
      }
      const restored = await restore();
      await fixture.stage(restored);
      await fixture.verify(restored, source);
      await fixture.deleteSnapshot(snapshot);
    });
  },
);

test.serial(
  'ext4: a record or node state that is unreadable at the start prevents no pod from ending, and is used once it is readable',
  async (t) => {
    await Fixture.use(t, poolType, async (fixture) => {
      const well = await fixture.createInUse('well');
      const unknown = await fixture.createInUse('unknown');
      const noted = await fixture.createInUse('noted');
      const idle = await fixture.create('idle');

      await fixture.disk.failDataOf(
        ...[unknown, idle].map((id) => fixture.pathOf(id, 'volume.json')),
        fixture.pathOf(noted, 'node.json'),
      );
      await fixture.restartDriver();
      await assertCondition(t, fixture, {
        id: idle,
        condition: /^INACCESSIBLE RecordUnreadable: .*EIO/,
      });
      assertOfDisk(t, 'stage', { id: idle, end: await attempt(() => fixture.stage(idle)) });
      assertOfDisk(t, 'create', { id: idle, end: await attempt(() => fixture.create('idle')) });
      await assertCondition(t, fixture, {
        id: noted,
        condition: /^INACCESSIBLE ImageUnreadable: .*node\.json/,
      });
      assertOfDisk(t, 'stage', { id: noted, end: await attempt(() => fixture.stage(noted)) });
      await assertOthersWork(t, fixture, well);
      const doctor = await fixture.command(['doctor', '--json'], 1);
      t.regex(doctor, /volume:noted.*ImageUnreadable/s);
      t.regex(doctor, /pool:bad:record.*idle.*check the pool's disk/s);
      for (const id of [unknown, noted]) await fixture.unstage(id);

      await fixture.disk.recover();
      for (const id of [unknown, noted]) {
        await untilDone('the repeated stage succeeds', () => fixture.stage(id));
        await fixture.verify(id);
        t.deepEqual(await fixture.health(id), []);
      }
      await fixture.stage(idle);
    });
  },
);
