import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { MiB } from '../../../../src/units.ts';
import type { FaultPoint } from '../../../../src/volumes/engine/fault-points.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, capability, volumeInput } from '../../../helpers/scratch-node.ts';

const sizeBytes = 4n * MiB;
const page = { maxEntries: 0, startingToken: '' };

/** A node with block volumes `one` and `two`, and a hook or failure at a fault point of a group. */
async function nodeWith(t: ExecutionContext, { reflink = true } = {}) {
  const node = await fakeNode(t, { reflink });
  let at: FaultPoint | undefined;
  let hook = async (): Promise<void> => undefined;
  const open = () =>
    node.open([node.settings('a', { reserve: { bytes: 0n } })], {
      reached: async (point) => {
        if (point === at) await hook();
      },
    });
  const { volumes, domain, ...opened } = await open();
  const ids: string[] = [];
  for (const name of ['one', 'two']) {
    const input = volumeInput(name, { kind: 'block', sizeBytes });
    ids.push((await volumes.createVolume(call(), input)).record.id);
  }
  return {
    node,
    volumes,
    domain,
    ids,
    reopen: async () => {
      await opened.close(100);
      return open();
    },
    pool: domain.pools.named('a'),
    group: (sourceVolumeIds: readonly string[] = ids) =>
      volumes.createGroupSnapshot(call(), {
        name: 'g',
        sourceVolumeIds,
        settings: { freeze: false },
        parameters: {},
      }),
    during: (point: FaultPoint, work: () => Promise<void>) => {
      at = point;
      hook = work;
    },
    left: async () => {
      await domain.trash.whenIdle();
      const left: string[] = [];
      for (const area of ['snapshots', 'groups', 'tmp', 'trash']) {
        for (const name of await readdir(join(node.directory, 'a', area)))
          left.push(`${area} ${name}`);
      }
      return left;
    },
  };
}

test('a group without members, with one twice, or with more than may be frozen at once is refused', async (t) => {
  const { ids, group, left } = await nodeWith(t);
  const [one = ''] = ids;
  const many = Array.from({ length: 65 }, (_, index) => `v${index}.${one.slice(-8)}`);
  for (const members of [[], [one, one], many]) {
    t.is(await reasonOf(group(members)), 'invalid', `${members.length}`);
  }
  t.deepEqual(await left(), []);
});

test('a group with the same name but other volumes is a conflict', async (t) => {
  const { ids, group } = await nodeWith(t);
  await group();
  t.is(await reasonOf(group(ids.toReversed())), 'ok', 'in any order');
  t.is(await reasonOf(group(ids.slice(1))), 'conflict');
});

test('a group is only deleted by a request that names exactly its members', async (t) => {
  const { volumes, group, left } = await nodeWith(t);
  const { record } = await group();
  const remove = (members: readonly string[]) =>
    reasonOf(volumes.deleteGroupSnapshot(call(), record.id, members));
  const notAnId = '../volumes';
  for (const members of [record.snapshotIds.slice(1), [...record.snapshotIds, notAnId]]) {
    t.is(await remove(members), 'invalid');
  }
  t.is(await remove(record.snapshotIds), 'ok');
  t.is(await remove([notAnId]), 'ok', 'the group is deleted already');
  t.deepEqual(await left(), []);
});

for (const point of [
  'group:members-made',
  'group:member-renamed',
  'group:members-renamed',
] as const) {
  test(`a group that fails at ${point} leaves nothing, and its members were never visible`, async (t) => {
    const { volumes, group, during, left } = await nodeWith(t);
    let seen = -1;
    during(point, async () => {
      seen = (await volumes.listSnapshots(page)).entries.length;
      throw new Error('a test');
    });
    t.is(await reasonOf(group()), 'internal');
    t.is(seen, 0);
    t.deepEqual(await left(), []);
  });
}

test('two block volumes in use cannot be captured at one point in time, but one can', async (t) => {
  const { node, volumes, ids, group } = await nodeWith(t);
  const stage = async (volumeId = '') => {
    const stagingTargetPath = join(node.directory, `staging-${volumeId}`);
    await mkdir(stagingTargetPath);
    const asked = { volumeId, stagingTargetPath, capability: capability({ kind: 'block' }) };
    await volumes.stageVolume(call(), asked);
  };
  await stage(ids[0]);
  t.is(await reasonOf(group()), 'ok');
  await stage(ids[1]);
  t.is(await reasonOf(group()), 'ok', 'the group exists');
  const { entries } = await volumes.listSnapshots(page);
  const members = entries.map(({ record }) => record.id);
  await volumes.deleteGroupSnapshot(call(), entries[0]?.record.groupId ?? '', members);
  t.is(await reasonOf(group()), 'wrong-state');
});

test('a group reserves space for all that its members have allocated, until it is committed', async (t) => {
  const { pool, ids, group, during, node } = await nodeWith(t, { reflink: false });
  for (const id of ids) {
    await writeFile(
      join(node.directory, 'a', 'volumes', id, 'disk.img'),
      Buffer.alloc(Number(MiB), 1),
      {
        flag: 'r+',
        flush: true,
      },
    );
  }
  let inFlight = -1n;
  during('capture:frozen', async () => {
    inFlight = (await pool.space.facts()).inFlightBytes;
  });
  await group();
  t.true(inFlight >= 2n * MiB, String(inFlight));
  t.is((await pool.space.facts()).inFlightBytes, 0n);
});

test('members of a group whose record cannot be read stay', async (t) => {
  const { node, group, left, reopen } = await nodeWith(t);
  const { record } = await group();
  await writeFile(join(node.directory, 'a', 'groups', record.id, 'group.json'), '{');
  const before = await left();
  await reopen();
  t.deepEqual(await left(), before);
});
