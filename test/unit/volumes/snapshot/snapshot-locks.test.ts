import test, { type ExecutionContext } from 'ava';
import { snapshotIdFor } from '../../../../src/ids.ts';
import { MiB } from '../../../../src/units.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, volumeInput } from '../../../helpers/scratch-node.ts';

const asked = { settings: { freeze: false }, parameters: {} };

/** A node with a block volume and a snapshot of it. */
async function nodeWith(t: ExecutionContext) {
  const node = await fakeNode(t, { reflink: true });
  const { volumes, domain } = await node.open([node.settings('a')]);
  const input = volumeInput('v', { kind: 'block', sizeBytes: MiB });
  const volumeId = (await volumes.createVolume(call(), input)).record.id;
  const snapshot = (name: string) =>
    volumes.createSnapshot(call(), { name, sourceVolumeId: volumeId, ...asked });
  const { locks } = domain.operations;
  return {
    volumes,
    volumeId,
    snapshot,
    snapshotId: (await snapshot('s')).record.id,
    idOf: (name: string) => snapshotIdFor(name, domain.settings.nodeTag),
    group: () =>
      volumes.createGroupSnapshot(call(), { name: 'g', sourceVolumeIds: [volumeId], ...asked }),
    /** While another call reads, creates or deletes that snapshot. */
    during: async (id: string, mode: 'shared' | 'exclusive', work: () => Promise<unknown>) => {
      const release = locks.acquire({ [mode]: [`snapshot:${id}`] }, 'a test');
      const reason = await reasonOf(work());
      release();
      return reason;
    },
  };
}

test('one call at a time can create or delete a snapshot, and none while it is read', async (t) => {
  const { volumes, snapshot, snapshotId, idOf, during } = await nodeWith(t);
  const remove = () => volumes.deleteSnapshot(call(), snapshotId);
  t.is(await during(idOf('other'), 'exclusive', () => snapshot('other')), 'busy');
  t.is(await during(snapshotId, 'shared', remove), 'busy');
  t.is(await during(snapshotId, 'exclusive', remove), 'busy');
  t.is(await reasonOf(remove()), 'ok');
});

test('one call at a time can create or delete members of a group, and none while they are read', async (t) => {
  const { volumes, volumeId, group, idOf, during } = await nodeWith(t);
  const member = idOf(`g/${volumeId}`);
  t.is(await during(member, 'exclusive', group), 'busy');
  const { record } = await group();
  t.deepEqual(record.snapshotIds, [member]);
  const remove = () => volumes.deleteGroupSnapshot(call(), record.id, record.snapshotIds);
  t.is(await during(member, 'shared', remove), 'busy');
  t.is(await reasonOf(remove()), 'ok');
});

test('snapshots that are being compared cannot be deleted until the answer is read', async (t) => {
  const { volumes, snapshot, snapshotId } = await nodeWith(t);
  const { record } = await snapshot('t');
  const { batches } = await volumes.changedRanges(call(), {
    baseSnapshotId: snapshotId,
    targetSnapshotId: record.id,
    startingOffset: 0n,
    batchSize: 1,
  });
  const reader = batches[Symbol.asyncIterator]();
  const answered = reader.next();
  t.is(await reasonOf(volumes.deleteSnapshot(call(), record.id)), 'busy');
  await answered;
  await reader.return?.();
  t.is(await reasonOf(volumes.deleteSnapshot(call(), record.id)), 'ok');
});
