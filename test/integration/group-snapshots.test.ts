import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { MiB } from '../../src/units.ts';
import { onNode } from '../helpers/on-node.ts';
import { reasonOf } from '../helpers/reason-of.ts';
import {
  call,
  mountVolume,
  type ScratchNode,
  scratchNode,
  unmountVolume,
} from '../helpers/scratch-node.ts';
import { makeMounted, makeVolume, restore } from '../helpers/snapshot-node.ts';

const groupInput = (name: string, sourceVolumeIds: readonly string[]) => ({
  name,
  sourceVolumeIds,
  settings: { freeze: false },
  parameters: {},
});

/** Writes numbers alternately to two files, each durable before the next. */
async function numberWrites(first: string, second: string, stop: AbortSignal): Promise<number> {
  const [a, b] = [await open(first, 'w'), await open(second, 'w')];
  let number = 0;
  try {
    while (!stop.aborted) {
      number += 1;
      for (const file of [a, b]) {
        await file.write(String(number).padStart(12), 0);
        await file.datasync();
      }
    }
    return number;
  } finally {
    await a.close();
    await b.close();
  }
}

async function numberIn(node: ScratchNode, name: string, snapshotId: string): Promise<number> {
  const id = await restore(node, name, { kind: 'snapshot', id: snapshotId });
  const paths = await mountVolume(node, id);
  try {
    return Number(await readFile(join(paths.targetPath, 'numbers'), 'utf8'));
  } finally {
    await unmountVolume(node, id, paths);
    await node.volumes.deleteVolume(call(), id);
  }
}

for (const [firstType, secondType] of [
  ['ext4', 'xfs'],
  ['xfs', 'btrfs'],
  ['ext4', 'ext4'],
] as const) {
  onNode(
    `a group of ${firstType} and ${secondType} shows one point in time: the second member is never ahead of the first`,
    async (t) => {
      const node = await scratchNode(t, { poolFs: 'xfs' });
      const first = await makeMounted(node, 'first', firstType);
      const second = await makeMounted(node, 'second', secondType);
      const stop = new AbortController();
      const writer = numberWrites(
        join(first.paths.targetPath, 'numbers'),
        join(second.paths.targetPath, 'numbers'),
        stop.signal,
      );
      const groups: (readonly string[])[] = [];
      try {
        for (let round = 0; round < 6; round += 1) {
          // Both orders are requested: the order must not matter.
          const ids = round % 2 === 0 ? [first.id, second.id] : [second.id, first.id];
          const group = await node.volumes.createGroupSnapshot(
            call(),
            groupInput(`group-${round}`, ids),
          );
          t.true(group.record.frozenMs > 0 && group.record.frozenMs < 5_000);
          const byVolume = new Map<string, string>(
            group.snapshots.map(({ record }) => [record.sourceVolumeId, record.id]),
          );
          groups.push([byVolume.get(first.id) ?? '', byVolume.get(second.id) ?? '']);
        }
      } finally {
        stop.abort();
      }
      t.true((await writer) > 6, 'the writer continued');
      await unmountVolume(node, first.id, first.paths);
      await unmountVolume(node, second.id, second.paths);
      for (const [round, [a = '', b = '']] of groups.entries()) {
        const ahead = await numberIn(node, `a-${round}`, a);
        const behind = await numberIn(node, `b-${round}`, b);
        t.true(behind <= ahead && ahead <= behind + 1, `round ${round}: ${ahead} and ${behind}`);
      }
    },
  );
}

onNode(
  'a group is found by a repeated call, listed with its members, and deleted completely',
  async (t) => {
    const node = await scratchNode(t, { poolFs: 'ext4' });
    const ids = [
      await makeVolume(node, 'a', { sizeBytes: 16n * MiB }),
      await makeVolume(node, 'b', { kind: 'block', sizeBytes: 16n * MiB }),
    ];
    const input = groupInput('group', ids);
    const group = await node.volumes.createGroupSnapshot(call(), input);
    t.deepEqual(await node.volumes.createGroupSnapshot(call(), input), group);
    t.deepEqual(
      await node.volumes.createGroupSnapshot(call(), {
        ...input,
        sourceVolumeIds: ids.toReversed(),
      }),
      group,
      'in any order of the members',
    );
    const less = groupInput('group', ids.slice(0, 1));
    t.is(await reasonOf(node.volumes.createGroupSnapshot(call(), less)), 'conflict');
    const unknown = groupInput('other', [...ids, 'gone.00000000']);
    t.is(await reasonOf(node.volumes.createGroupSnapshot(call(), unknown)), 'not-found');
    const twice = groupInput('twice', [...ids, ...ids]);
    t.is(await reasonOf(node.volumes.createGroupSnapshot(call(), twice)), 'invalid');

    const { id } = group.record;
    const members = group.snapshots.map(({ record }) => record.id);
    t.deepEqual(
      group.snapshots.map(({ record }) => record.groupId),
      [id, id],
    );
    const [member = ''] = members;
    t.is(await reasonOf(node.volumes.deleteSnapshot(call(), member)), 'invalid');
    t.deepEqual(await node.volumes.getGroupSnapshot(id, members.toReversed()), group);
    t.is(await reasonOf(node.volumes.getGroupSnapshot(id, [member])), 'invalid');
    t.is(await reasonOf(node.volumes.deleteGroupSnapshot(call(), id, [member])), 'invalid');
    await node.restart();
    t.deepEqual(await node.volumes.getGroupSnapshot(id, members), group);
    await node.volumes.deleteGroupSnapshot(call(), id, members);
    await node.volumes.deleteGroupSnapshot(call(), id, members);
    t.is(await reasonOf(node.volumes.getGroupSnapshot(id, members)), 'not-found');
    t.is(await reasonOf(node.volumes.getSnapshot(member)), 'not-found');
  },
);

onNode(
  'two raw block volumes in use cannot be captured at one point in time, but one together with filesystems can',
  async (t) => {
    const node = await scratchNode(t, { poolFs: 'xfs' });
    const options = { kind: 'block', sizeBytes: 16n * MiB } as const;
    const one = await makeVolume(node, 'one', options);
    const two = await makeVolume(node, 'two', options);
    const mounted = await makeMounted(node, 'mounted', 'ext4');
    const paths = [
      await mountVolume(node, one, { kind: 'block' }),
      await mountVolume(node, two, { kind: 'block' }),
    ];
    const both = groupInput('both', [one, two]);
    t.is(await reasonOf(node.volumes.createGroupSnapshot(call(), both)), 'wrong-state');
    const beside = groupInput('beside', [one, mounted.id]);
    const { snapshots } = await node.volumes.createGroupSnapshot(call(), beside);
    t.is(snapshots.length, 2);
    await unmountVolume(node, mounted.id, mounted.paths);
    for (const [i, id] of [one, two].entries()) {
      const at = paths[i];
      if (at !== undefined) await unmountVolume(node, id, at);
    }
  },
);
