import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { KernelError } from '../../../../src/host/errors.ts';
import { groupIdFor, nodeTagOf } from '../../../../src/ids.ts';
import { MiB } from '../../../../src/units.ts';
import type { FaultPoint } from '../../../../src/volumes/engine/fault-points.ts';
import type { GroupPartInput, GroupStep } from '../../../../src/volumes/model.ts';
import type { OpenedVolumes } from '../../../../src/volumes/open.ts';
import { type FakeNode, fakeNode, fakeSettings, silent } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, capability, plainSettings, volumeInput } from '../../../helpers/scratch-node.ts';
import { until } from '../../../helpers/until.ts';

const elsewhere = 'v.ffffffff';
const otherTag = 'ffffffff';

/** A node with a volume in each of two pools, which are its part of a group. */
class Part {
  readonly node: FakeNode;
  readonly isPrimary: boolean;
  opened!: OpenedVolumes;
  readonly ids: string[] = [];
  readonly lease = new AbortController();

  private constructor(node: FakeNode, isPrimary: boolean) {
    this.node = node;
    this.isPrimary = isPrimary;
  }

  static async make(t: ExecutionContext, { isPrimary = false } = {}): Promise<Part> {
    const part = new Part(await fakeNode(t), isPrimary);
    await part.open();
    for (const pool of ['a', 'b']) {
      const settings = { ...plainSettings, pool };
      const input = volumeInput(`of-${pool}`, { settings, kind: 'block' });
      part.ids.push((await part.opened.volumes.createVolume(part.call(), input)).record.id);
    }
    return part;
  }

  async open(dieAt?: FaultPoint, groupFreezeLimitMs = 10_000): Promise<void> {
    this.opened = await this.node.open([this.node.settings('a'), this.node.settings('b')], {
      settings: { ...fakeSettings, groupFreezeLimitMs },
      ...(dieAt === undefined
        ? {}
        : {
            // As after a kill of the driver, nothing is undone.
            reached: async (point) => {
              if (point === dieAt) await new Promise(() => undefined);
            },
          }),
    });
  }

  async reopen(dieAt?: FaultPoint): Promise<void> {
    await this.opened.close(1);
    await this.open(dieAt);
  }

  call() {
    return { signal: this.lease.signal, log: silent };
  }

  get groupId() {
    return groupIdFor('group', this.isPrimary ? nodeTagOf('test-node') : otherTag);
  }

  input(attempt = 'one'): GroupPartInput {
    return {
      groupId: this.groupId,
      attempt,
      name: 'group',
      sourceVolumeIds: this.ids,
      groupVolumeIds: this.isPrimary ? [elsewhere, ...this.ids] : undefined,
      settings: { freeze: false },
      parameters: {},
    };
  }

  /** Begins the part. `ended` settles when it has ended. */
  async begin(attempt = 'one', lease = this.lease) {
    const call = { signal: lease.signal, log: silent };
    const steps = this.opened.volumes.takeGroupPart(call, this.input(attempt));
    const iterator = steps[Symbol.asyncIterator]();
    const first = await iterator.next();
    if (first.done === true) throw new Error('it ended');
    const start = first.value;
    const ended = iterator.next().then(() => undefined);
    ended.catch(() => undefined);
    return { start, ended };
  }

  step(step: GroupStep, attempt = 'one') {
    return this.opened.volumes.advanceGroupPart(attempt, step);
  }

  async steps(...kinds: readonly ('flush' | 'freeze' | 'cut' | 'thaw')[]): Promise<void> {
    for (const kind of kinds) await this.step({ kind });
  }

  /** The last step: `prepare`, or `commit` with a member on another node. */
  last(attempt = 'one') {
    if (!this.isPrimary) return this.step({ kind: 'prepare', createdAtMs: 42 }, attempt);
    const member = {
      snapshotId: `s.${otherTag}`,
      sourceVolumeId: elsewhere,
      sizeBytes: 7n,
      nodeId: 'other',
    };
    const others = [member] as unknown as Extract<GroupStep, { kind: 'commit' }>['elsewhere'];
    return this.step({ kind: 'commit', createdAtMs: 42, frozenMs: 5, elsewhere: others }, attempt);
  }

  async take(attempt = 'one'): Promise<void> {
    const { ended } = await this.begin(attempt);
    for (const kind of ['flush', 'freeze', 'cut', 'thaw'] as const)
      await this.step({ kind }, attempt);
    await this.last(attempt);
    await ended;
  }

  /** How many entries the areas of both pools have. */
  async counts(): Promise<string> {
    await this.opened.domain.trash.whenIdle();
    const numbers: number[] = [];
    for (const area of ['snapshots', 'groups', 'tmp', 'trash'] as const) {
      for (const pool of ['a', 'b'])
        numbers.push((await readdir(join(this.node.directory, pool, area))).length);
    }
    return numbers.join(' ');
  }

  async listed(): Promise<readonly string[]> {
    const page = { maxEntries: 0, startingToken: '' };
    const { entries } = await this.opened.volumes.listSnapshots(page);
    return entries.map(({ record }) => record.id);
  }

  get undecided() {
    return this.opened.volumes.inventory().undecidedGroups;
  }
}

const whole = '1 1 1 0 0 0 0 0';
const members = '1 1 0 0 0 0 0 0';
const nothing = '0 0 0 0 0 0 0 0';

test('prepared members are durable, are not used, and become usable when they are settled', async (t) => {
  const part = await Part.make(t);
  await part.take();
  t.is(await part.counts(), members);
  const isUnused = async () => {
    t.deepEqual(part.undecided, [{ groupId: part.groupId, attempt: 'one' }]);
    t.deepEqual(await part.listed(), []);
    t.is(part.opened.volumes.inventory().foreignIds.length, 0);
  };
  await isUnused();
  await part.reopen();
  await isUnused();
  const [name = ''] = await readdir(join(part.node.directory, 'a', 'snapshots'));
  t.is(await reasonOf(part.opened.volumes.getSnapshot(name)), 'unavailable');
  t.is(await reasonOf(part.opened.volumes.deleteSnapshot(part.call(), name)), 'unavailable');
  t.is(await part.counts(), members);

  const settle = (attempt: string) =>
    part.opened.volumes.settleGroupPart(part.call(), {
      groupId: part.groupId,
      attempt,
      snapshotIds: [],
    });
  await settle('another attempt');
  await isUnused();
  await settle('one');
  await settle('one');
  t.deepEqual(part.undecided, []);
  t.is((await part.listed()).length, 2);
  await part.reopen();
  t.is((await part.listed()).length, 2);
  const { record } = await part.opened.volumes.getSnapshot(name);
  t.is(record.createdAtMs, 42);
  t.is(record.groupId, part.groupId);
  t.is(await reasonOf(part.opened.volumes.deleteSnapshot(part.call(), name)), 'invalid');
});

test('members are removed with their attempt, or with their group', async (t) => {
  const part = await Part.make(t);
  const remove = (attempt: string | undefined) =>
    part.opened.volumes.removeGroupPart(part.call(), {
      groupId: part.groupId,
      attempt,
      snapshotIds: [],
    });
  await part.take();
  await remove('another attempt');
  t.is(await part.counts(), members);
  await remove('one');
  await remove('one');
  t.is(await part.counts(), nothing);
  await part.take('two');
  await part.opened.volumes.settleGroupPart(part.call(), {
    groupId: part.groupId,
    attempt: 'two',
    snapshotIds: [],
  });
  await remove('two');
  t.is(await part.counts(), members, 'settled members do not go with an attempt');
  await remove(undefined);
  t.is(await part.counts(), nothing);
});

test('a later attempt replaces what an earlier one has prepared', async (t) => {
  const part = await Part.make(t);
  await part.take('one');
  await part.take('two');
  t.deepEqual(part.undecided, [{ groupId: part.groupId, attempt: 'two' }]);
  t.is(await part.counts(), members);
});

test('the record of the group has the members of other nodes, in the order of the request', async (t) => {
  const part = await Part.make(t, { isPrimary: true });
  await part.take();
  t.is(await part.counts(), whole);
  const check = async () => {
    const { start, ended } = await part.begin('two');
    await ended;
    if (start.kind !== 'existing') throw new Error('it does not exist');
    const { record } = start;
    t.deepEqual(record.sourceVolumeIds, [elsewhere, ...part.ids]);
    const group = await part.opened.volumes.getGroupSnapshot(part.groupId, record.snapshotIds);
    t.is(group.snapshots.length, 2);
    t.is(group.record.attempt, 'one');
    t.deepEqual(
      group.record.elsewhere.map(({ nodeId }) => nodeId),
      ['other'],
    );
    t.deepEqual(await part.opened.volumes.findGroupState(part.groupId), {
      kind: 'exists',
      attempt: 'one',
    });
    return record.snapshotIds;
  };
  await check();
  await part.reopen();
  const ids = await check();
  await part.opened.volumes.deleteGroupSnapshot(part.call(), part.groupId, ids);
  t.is(await part.counts(), nothing);
  t.deepEqual(await part.opened.volumes.findGroupState(part.groupId), { kind: 'none' });
});

for (const isPrimary of [false, true]) {
  const role = isPrimary ? 'with the record' : 'without the record';
  for (const done of [
    [],
    ['flush'],
    ['flush', 'freeze'],
    ['flush', 'freeze', 'cut'],
    ['flush', 'freeze', 'cut', 'thaw'],
  ] as const) {
    test(`on the node ${role}, nothing is left when the controller goes after [${done.join(' ')}]`, async (t) => {
      const part = await Part.make(t, { isPrimary });
      const { ended } = await part.begin();
      await part.steps(...done);
      t.is(
        (await part.opened.volumes.findGroupState(part.groupId)).kind,
        'running',
        'no other attempt can be decided meanwhile',
      );
      part.lease.abort();
      await t.throwsAsync(ended);
      await until('it is gone', async () => (await part.counts()) === nothing);
      const state = () => part.opened.volumes.findGroupState(part.groupId);
      await until('the part has ended', async () => (await state()).kind === 'none');
      t.is(await reasonOf(part.step({ kind: 'cut' })), 'unavailable');
      // The locks are free again.
      const other = new AbortController();
      const again = await part.begin('two', other);
      t.like(again.start, { kind: 'planned' });
      other.abort();
      await t.throwsAsync(again.ended);
    });
  }

  test(`on the node ${role}, a second attempt waits for the first one to end`, async (t) => {
    const part = await Part.make(t, { isPrimary });
    await part.begin();
    t.is(await reasonOf(part.begin('two')), 'busy');
    part.lease.abort();
  });

  test(`on the node ${role}, steps come in their order`, async (t) => {
    const part = await Part.make(t, { isPrimary });
    await part.begin();
    t.is(await reasonOf(part.step({ kind: 'cut' })), 'wrong-state');
    await part.steps('flush', 'freeze', 'cut', 'thaw');
    const wrong = isPrimary
      ? part.step({ kind: 'prepare', createdAtMs: 1 })
      : part.step({ kind: 'commit', createdAtMs: 1, frozenMs: 1, elsewhere: [] });
    t.is(await reasonOf(wrong), 'wrong-state');
    t.is(await reasonOf(part.step({ kind: 'freeze' }, 'unknown')), 'unavailable');
    await part.last();
  });

  test(`on the node ${role}, a part is given up when a step takes too long while filesystems are frozen`, async (t) => {
    const part = await Part.make(t, { isPrimary });
    await part.opened.close(1);
    await part.open(undefined, 200);
    const { ended } = await part.begin();
    await part.steps('flush', 'freeze');
    await t.throwsAsync(ended, { message: /took too long; nothing was kept/ });
    t.is(await part.counts(), nothing);
  });
}

for (const [point, left, found] of [
  ['group:members-made', '0 0 0 0 1 1 0 0', nothing],
  ['group:member-renamed', '1 0 0 0 0 1 0 0', '1 0 0 0 0 0 0 0'],
  ['group:part-prepared', members, members],
] as const) {
  test(`after a kill at ${point}, what is prepared is kept until it is decided`, async (t) => {
    const part = await Part.make(t);
    await part.reopen(point);
    await part.begin();
    await part.steps('flush', 'freeze', 'cut', 'thaw');
    void part.last().catch(() => undefined);
    await until(`${left} are left`, async () => (await part.counts()) === left);
    await part.reopen();
    t.is(await part.counts(), found);
    t.deepEqual(await part.listed(), []);
    const request = { groupId: part.groupId, attempt: 'one', snapshotIds: [] };
    await part.opened.volumes.removeGroupPart(part.call(), request);
    t.is(await part.counts(), nothing);
  });
}

test('after a kill while members are being settled, the others are settled by the repeated call', async (t) => {
  const part = await Part.make(t);
  await part.take();
  await part.reopen('group:member-settled');
  const undecided = { groupId: part.groupId, attempt: 'one' };
  const request = { ...undecided, snapshotIds: [] };
  void part.opened.volumes.settleGroupPart(part.call(), request).catch(() => undefined);
  await until('the first is settled', async () => (await part.listed()).length === 1);
  await part.reopen();
  t.is((await part.listed()).length, 1);
  t.deepEqual(part.undecided, [undecided]);
  await part.opened.volumes.settleGroupPart(part.call(), request);
  t.is((await part.listed()).length, 2);
});

test('a member that another group of the same name has is never replaced', async (t) => {
  const part = await Part.make(t);
  await part.take();
  const { volumes } = part.opened;
  await volumes.settleGroupPart(part.call(), {
    groupId: part.groupId,
    attempt: 'one',
    snapshotIds: await memberIds(part),
  });
  const input = {
    name: 'group',
    sourceVolumeIds: part.ids,
    settings: { freeze: false },
    parameters: {},
  };
  t.is(await reasonOf(volumes.createGroupSnapshot(part.call(), input)), 'conflict');
  t.is(await part.counts(), members);
  // Nor while it is not decided.
  const other = await Part.make(t);
  await other.take();
  t.is(
    await reasonOf(
      other.opened.volumes.createGroupSnapshot(other.call(), {
        ...input,
        sourceVolumeIds: other.ids,
      }),
    ),
    'conflict',
  );
  t.is(await other.counts(), members);
});

test('a part that is settled must have all members that the group has', async (t) => {
  const part = await Part.make(t);
  await part.take();
  const ids = await memberIds(part);
  const settle = (snapshotIds: readonly string[]) =>
    part.opened.volumes.settleGroupPart(part.call(), {
      groupId: part.groupId,
      attempt: 'one',
      snapshotIds,
    });
  await settle(ids);
  await settle(ids);
  t.is(await reasonOf(settle([...ids, 's.0a0a0a0a'])), 'wrong-state');
});

test('a group whose record appeared on the disk after its rename had failed is found', async (t) => {
  const part = await Part.make(t, { isPrimary: true });
  await part.take();
  const { domain } = part.opened;
  const pool = domain.pools.all.find(({ groups }) => groups.size > 0);
  const id = [...(pool?.groups.values() ?? [])][0]?.id;
  if (pool === undefined || id === undefined) throw new Error('no group');
  pool.forget('groups', id);
  t.deepEqual(await part.opened.volumes.findGroupState(id), { kind: 'exists', attempt: 'one' });
  pool.forget('groups', id);
  const { start } = await part.begin('two');
  t.is(start.kind, 'existing');
});

test('while a call that hangs has the group locked, it is not decided', async (t) => {
  const part = await Part.make(t, { isPrimary: true });
  const release = part.opened.domain.operations.locks.acquire(
    { exclusive: [`group:${part.groupId}`] },
    'a call that hangs',
  );
  t.deepEqual(await part.opened.volumes.findGroupState(part.groupId), { kind: 'running' });
  release();
  t.deepEqual(await part.opened.volumes.findGroupState(part.groupId), { kind: 'none' });
});

async function memberIds(part: Part): Promise<readonly string[]> {
  const areas = ['a', 'b'].map((pool) => readdir(join(part.node.directory, pool, 'snapshots')));
  return (await Promise.all(areas)).flat();
}

/** A part of one mounted filesystem, on a pool that shares blocks. */
async function mountedPart(t: ExecutionContext, groupFreezeLimitMs: number) {
  const node = await fakeNode(t, { reflink: true });
  const { volumes } = await node.open([node.settings('a')], {
    settings: { ...fakeSettings, groupFreezeLimitMs },
  });
  const { record } = await volumes.createVolume(call(), volumeInput('v', { sizeBytes: 64n * MiB }));
  const stagingTargetPath = join(node.directory, 'staging');
  await mkdir(stagingTargetPath);
  const asked = { volumeId: record.id, stagingTargetPath, capability: capability({}) };
  await volumes.stageVolume(call(), asked);
  const lease = new AbortController();
  t.teardown(() => {
    lease.abort();
  });
  const steps = volumes
    .takeGroupPart(
      { signal: lease.signal, log: silent },
      {
        groupId: groupIdFor('group', otherTag),
        attempt: 'one',
        name: 'group',
        sourceVolumeIds: [record.id],
        groupVolumeIds: undefined,
        settings: { freeze: true },
        parameters: {},
      },
    )
    [Symbol.asyncIterator]();
  const step = (kind: 'flush' | 'freeze' | 'cut' | 'thaw') =>
    volumes.advanceGroupPart('one', { kind });
  const areFrozen = () =>
    [...node.host.kernel.devices.values()].some(({ live }) => live?.frozen === true);
  return { node, steps, step, lease, areFrozen };
}

test('a filesystem is frozen from its freeze to its thaw, and is thawed when the controller goes', async (t) => {
  const part = await mountedPart(t, 10_000);
  await part.steps.next();
  await part.step('flush');
  t.false(part.areFrozen());
  await part.step('freeze');
  t.true(part.areFrozen());
  await part.step('cut');
  t.true(part.areFrozen());
  part.lease.abort();
  await until('it is thawed', () => !part.areFrozen());
});

for (const errno of ['ETIMEDOUT', 'ECHILD'] as const) {
  test(`a part whose freeze ended before the thaw (${errno}) says so, so that the group fails`, async (t) => {
    const part = await mountedPart(t, 10_000);
    const { freezer } = part.node.host;
    const freeze = freezer.freeze.bind(freezer);
    freezer.freeze = async (targets, options) => {
      t.is(options.timeoutMs, 10_000, 'the limit is that of groups');
      const frozen = await freeze(targets, options);
      return {
        thaw: async () => {
          await frozen.thaw();
          throw new KernelError('freeze', errno, 'a test');
        },
      };
    };
    await part.steps.next();
    for (const kind of ['flush', 'freeze', 'cut'] as const) await part.step(kind);
    t.is(await reasonOf(part.step('thaw')), 'unavailable');
    t.is(await reasonOf(part.steps.next()), 'unavailable');
    t.deepEqual(await readdir(join(part.node.directory, 'a', 'snapshots')), []);
    t.deepEqual(await readdir(join(part.node.directory, 'a', 'tmp')), []);
  });
}

test('a part that could be frozen for longer than the limit is refused before anything is frozen', async (t) => {
  const part = await mountedPart(t, 0);
  const error = await t.throwsAsync(part.steps.next());
  t.regex(error?.message ?? '', /would be frozen for up to 1 s, .* may be for 0 s/);
  t.false(part.areFrozen());
});

test('a part whose group belongs elsewhere, or has no volumes, is refused', async (t) => {
  const part = await Part.make(t, { isPrimary: true });
  const taking = (more: Partial<GroupPartInput>) =>
    reasonOf(
      part.opened.volumes
        .takeGroupPart(part.call(), { ...part.input(), ...more })
        [Symbol.asyncIterator]()
        .next(),
    );
  t.is(await taking({ groupId: 'group.ffffffff' }), 'invalid');
  t.is(await taking({ groupId: '../x' }), 'invalid');
  t.is(await taking({ sourceVolumeIds: [] }), 'invalid');
  t.is(await taking({ sourceVolumeIds: ['v.0a0a0a0a'] }), 'not-found');
  t.is(await part.counts(), nothing);
});
