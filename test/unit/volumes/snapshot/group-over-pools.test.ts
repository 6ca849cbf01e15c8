import { readdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { pino } from 'pino';
import { KernelError } from '../../../../src/host/errors.ts';
import type { FaultPoint } from '../../../../src/volumes/engine/fault-points.ts';
import type { OpenedVolumes } from '../../../../src/volumes/open.ts';
import { type FakeNode, fakeNode } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, plainSettings, volumeInput } from '../../../helpers/scratch-node.ts';
import { until } from '../../../helpers/until.ts';

/** A volume in each of two pools, and a group of both; the group's record is in the pool of the first member. */
class TwoPoolsOfAGroup {
  readonly node: FakeNode;
  opened!: OpenedVolumes;
  readonly #ids: string[] = [];

  private constructor(node: FakeNode) {
    this.node = node;
  }

  static async make(t: ExecutionContext): Promise<TwoPoolsOfAGroup> {
    const two = new TwoPoolsOfAGroup(await fakeNode(t));
    await two.open();
    for (const pool of ['a', 'b']) {
      const settings = { ...plainSettings, pool };
      const input = volumeInput(`of-${pool}`, { settings, kind: 'block' });
      two.#ids.push((await two.opened.volumes.createVolume(call(), input)).record.id);
    }
    return two;
  }

  async open(dieAt?: FaultPoint): Promise<void> {
    this.opened = await this.node.open(
      [this.node.settings('a'), this.node.settings('b')],
      dieAt === undefined
        ? {}
        : {
            // As after a kill of the driver, nothing is undone.
            reached: async (point) => {
              if (point === dieAt) await new Promise(() => undefined);
            },
          },
    );
  }

  async reopen(whileClosed: () => Promise<void> = async () => undefined, dieAt?: FaultPoint) {
    await this.opened.close(1);
    await whileClosed();
    await this.open(dieAt);
  }

  take() {
    return this.opened.volumes.createGroupSnapshot(call(), {
      name: 'group',
      sourceVolumeIds: this.#ids,
      settings: { freeze: false },
      parameters: {},
    });
  }

  in(pool: 'a' | 'b', area: 'snapshots' | 'groups' | 'tmp' | 'trash'): Promise<string[]> {
    return readdir(join(this.node.directory, pool, area));
  }

  /** Removes the disk of a pool, or brings it back. */
  away(pool: 'a' | 'b'): Promise<void> {
    return rename(this.#path(pool), `${this.#path(pool)}-away`);
  }

  back(pool: 'a' | 'b'): Promise<void> {
    return rename(`${this.#path(pool)}-away`, this.#path(pool));
  }

  #path(pool: string): string {
    return join(this.node.directory, pool);
  }
}

async function counts(two: TwoPoolsOfAGroup): Promise<string> {
  await two.opened.domain.trash.whenIdle();
  const numbers: number[] = [];
  for (const area of ['snapshots', 'groups', 'tmp', 'trash'] as const) {
    for (const pool of ['a', 'b'] as const) numbers.push((await two.in(pool, area)).length);
  }
  return numbers.join(' ');
}

const whole = '1 1 1 0 0 0 0 0';
const nothing = '0 0 0 0 0 0 0 0';

test('a group over two pools has its record in the pool of the first member, and is deleted completely', async (t) => {
  const two = await TwoPoolsOfAGroup.make(t);
  const group = await two.take();
  t.is(await counts(two), whole);
  t.deepEqual(
    group.snapshots.map(({ pool }) => pool),
    ['a', 'b'],
  );
  await two.reopen();
  t.deepEqual(await two.take(), group);
  const { id, snapshotIds } = group.record;
  await two.opened.volumes.deleteGroupSnapshot(call(), id, snapshotIds);
  t.is(await counts(two), nothing);
});

for (const [point, left] of [
  ['group:members-made', '0 0 0 0 1 1 0 0'],
  ['group:member-renamed', '1 0 0 0 0 1 0 0'],
  ['group:members-renamed', '1 1 0 0 0 0 0 0'],
] as const) {
  test(`after a kill at ${point} a start removes the members in both pools`, async (t) => {
    const two = await TwoPoolsOfAGroup.make(t);
    await two.reopen(undefined, point);
    void two.take().catch(() => undefined);
    await untilLeft(two, left);
    await two.reopen();
    t.is(await counts(two), nothing);
    await two.take();
    t.is(await counts(two), whole);
  });
}

test('the log has a member of an incomplete group as removed only if it was removed', async (t) => {
  const two = await TwoPoolsOfAGroup.make(t);
  await two.reopen(undefined, 'group:members-renamed');
  void two.take().catch(() => undefined);
  await untilLeft(two, '1 1 0 0 0 0 0 0');
  const [failed = ''] = await two.in('a', 'snapshots');
  const [removed = ''] = await two.in('b', 'snapshots');
  await two.opened.close(1);
  two.node.host.failNext('files.renameNoReplace', new KernelError('rename', 'EIO', 'a test'));
  const lines: { id?: string; snapshotId?: string; msg: string }[] = [];
  const write = (line: string) => lines.push(JSON.parse(line) as (typeof lines)[number]);
  const { node } = two;
  two.opened = await node.open([node.settings('a'), node.settings('b')], {
    log: pino({ level: 'warn' }, { write }),
  });
  t.is(await counts(two), nothing, 'the start of the second pool tried again');
  const logged = lines.map(({ id, snapshotId = id ?? '', msg }) => `${msg} ${snapshotId}`);
  t.deepEqual(
    logged.sort(),
    [
      `an entry could not be recovered ${failed}`,
      `a member of an incomplete group snapshot was removed ${removed}`,
      `a member of an incomplete group snapshot was removed ${failed}`,
    ].sort(),
  );
});

test('a member stays while the pool that may have its record is not served', async (t) => {
  const two = await TwoPoolsOfAGroup.make(t);
  await two.reopen(undefined, 'group:members-renamed');
  void two.take().catch(() => undefined);
  await untilLeft(two, '1 1 0 0 0 0 0 0');
  await two.reopen(() => two.away('a'));
  t.is((await two.in('b', 'snapshots')).length, 1, 'it is unknown whether the group exists');
  t.is(await reasonOf(two.take()), 'unavailable');
  await two.reopen(() => two.back('a'));
  t.is(await counts(two), nothing, 'the group does not exist');
});

test('a member of a complete group stays while the pool of its record is not served, and is found when it is', async (t) => {
  const two = await TwoPoolsOfAGroup.make(t);
  const group = await two.take();
  await two.reopen(() => two.away('a'));
  t.is((await two.in('b', 'snapshots')).length, 1);
  const [, member = ''] = group.record.snapshotIds;
  t.is(await reasonOf(two.opened.volumes.deleteSnapshot(call(), member)), 'invalid');
  await two.reopen(() => two.back('a'));
  t.deepEqual(await two.take(), group);
});

test('an incomplete group is removed when the pool of its second member comes back', async (t) => {
  const two = await TwoPoolsOfAGroup.make(t);
  await two.reopen(undefined, 'group:members-renamed');
  void two.take().catch(() => undefined);
  await untilLeft(two, '1 1 0 0 0 0 0 0');
  await two.reopen(() => two.away('b'));
  await two.opened.domain.trash.whenIdle();
  t.is((await two.in('a', 'snapshots')).length, 0);
  await two.back('b');
  await two.reopen();
  t.is(await counts(two), nothing);
});

function untilLeft(two: TwoPoolsOfAGroup, left: string): Promise<void> {
  return until(`${left} are left`, async () => (await counts(two)) === left, 30_000);
}
