import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { MiB } from '../../../../src/units.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, plainSettings, volumeInput } from '../../../helpers/scratch-node.ts';
import { collect } from '../../../helpers/snapshot-node.ts';

const sizeBytes = MiB;

/** A node with pools `a` and `b`, and a block volume in each. */
async function nodeWith(t: ExecutionContext, { reflink }: { reflink: boolean }) {
  const node = await fakeNode(t, { reflink });
  const { volumes } = await node.open([node.settings('a'), node.settings('b')]);
  const make = async (pool: string) => {
    const settings = { ...plainSettings, pool };
    const input = volumeInput(`of-${pool}`, { kind: 'block', sizeBytes, settings });
    return (await volumes.createVolume(call(), input)).record.id;
  };
  return {
    node,
    volumes,
    ids: { a: await make('a'), b: await make('b') },
    snapshot: async (name: string, sourceVolumeId: string) => {
      const asked = { name, sourceVolumeId, settings: { freeze: false }, parameters: {} };
      return (await volumes.createSnapshot(call(), asked)).record.id;
    },
    changed: (baseSnapshotId: string, targetSnapshotId: string, startingOffset = 0n) =>
      volumes.changedRanges(call(), {
        baseSnapshotId,
        targetSnapshotId,
        startingOffset,
        batchSize: 10,
      }),
    write: (volumeId: string, text: string) =>
      writeFile(join(node.directory, 'a', 'volumes', volumeId, 'disk.img'), text, { flag: 'r+' }),
  };
}

test('snapshots of different volumes are not compared', async (t) => {
  const { ids, snapshot, changed } = await nodeWith(t, { reflink: true });
  const [one, other] = [await snapshot('a', ids.a), await snapshot('b', ids.b)];
  t.is(await reasonOf(changed(one, other)), 'invalid');
});

test('a starting offset beyond the end of the volume is refused', async (t) => {
  const { volumes, ids, snapshot, changed } = await nodeWith(t, { reflink: true });
  const [one, other] = [await snapshot('a', ids.a), await snapshot('b', ids.a)];
  for (const startingOffset of [-1n, sizeBytes + 1n]) {
    t.is(await reasonOf(changed(one, other, startingOffset)), 'out-of-range');
    const asked = { snapshotId: one, startingOffset, batchSize: 10 };
    t.is(await reasonOf(volumes.allocatedRanges(call(), asked)), 'out-of-range');
  }
  t.deepEqual(await collect(await changed(one, other, sizeBytes)), []);
});

for (const reflink of [true, false]) {
  const by = reflink ? 'its maps where blocks are shared' : 'its content where they are not';
  test(`changed blocks are found by ${by}`, async (t) => {
    const { node, ids, snapshot, changed, write } = await nodeWith(t, { reflink });
    await write(ids.a, 'before');
    const one = await snapshot('one', ids.a);
    await write(ids.a, 'behind');
    const two = await snapshot('two', ids.a);
    const from = node.host.calls.length;
    const ranges = await collect(await changed(one, two));
    t.deepEqual(
      ranges.map(({ offset }) => offset),
      [0n],
    );
    t.is(node.host.calls.slice(from).includes('extents.compare'), !reflink);
  });
}
