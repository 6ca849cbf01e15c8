import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { makeClient } from '../../../src/csi/client.ts';
import { VolumeError } from '../../../src/errors.ts';
import type { BlockRange } from '../../../src/volumes/model.ts';
import { codeOf, serveFake } from '../../helpers/csi-server.ts';
import { aGroup, aSnapshot, rangesOf } from '../../helpers/fake-volumes.ts';

const thisNode = { segments: { 'topology.loopcsi.io/node': 'node-a' } };
const elsewhere = { segments: { 'topology.loopcsi.io/node': 'node-b' } };
const { id } = aSnapshot.record;

async function serveMetadata(t: ExecutionContext, options: Parameters<typeof serveFake>[1] = {}) {
  const served = await serveFake(t, options);
  const metadata = makeClient('csi.v1.SnapshotMetadata', `unix://${served.endpoint}`);
  const group = makeClient('csi.v1.GroupController', `unix://${served.endpoint}`);
  t.teardown(() => {
    metadata.close();
    group.close();
  });
  return { ...served, metadata, group };
}

test('CreateSnapshot answers from the record', async (t) => {
  const { controller, calls } = await serveFake(t);
  const parameters = { freeze: 'yes', 'csi.storage.k8s.io/volumesnapshot/name': 's' };
  const request = { name: 'snap-1', source_volume_id: 'pvc-1.0123abcd', parameters };
  const { snapshot } = await controller.CreateSnapshot(request);
  t.deepEqual(snapshot, {
    size_bytes: 1n << 30n,
    snapshot_id: id,
    source_volume_id: 'pvc-1.0123abcd',
    creation_time: { seconds: 1_700_000_000n, nanos: 123_000_000 },
    ready_to_use: true,
    group_snapshot_id: '',
    accessible_topology: [thisNode],
  });
  t.deepEqual(calls.at(-1)?.input, {
    name: 'snap-1',
    sourceVolumeId: 'pvc-1.0123abcd',
    settings: { freeze: true },
    parameters,
  });
});

test('every snapshot message has this node as its topology, whatever topology was requested', async (t) => {
  const { controller, group } = await serveMetadata(t);
  const request = { name: 'snap-1', source_volume_id: 'pvc-1.0123abcd' };
  const topologyFor = async (requisite: readonly (typeof thisNode)[]) => {
    const accessibility_requirements = { requisite, preferred: [] };
    const { snapshot } = await controller.CreateSnapshot({
      ...request,
      accessibility_requirements,
    });
    return snapshot?.accessible_topology;
  };
  t.deepEqual(await topologyFor([thisNode]), [thisNode]);
  t.deepEqual(await topologyFor([elsewhere, thisNode]), [thisNode]);
  t.deepEqual(await topologyFor([]), [thisNode]);
  t.is(await codeOf(topologyFor([elsewhere])), 'RESOURCE_EXHAUSTED');
  const { snapshot } = await controller.GetSnapshot({ snapshot_id: id });
  t.deepEqual(snapshot?.accessible_topology, [thisNode]);
  const { entries } = await controller.ListSnapshots({});
  t.deepEqual(entries[0]?.snapshot?.accessible_topology, [thisNode]);
  const { group_snapshot: made } = await group.CreateVolumeGroupSnapshot({
    name: 'group-1',
    source_volume_ids: ['pvc-1.0123abcd'],
  });
  const { group_snapshot: found } = await group.GetVolumeGroupSnapshot({ group_snapshot_id: 'g' });
  for (const member of [made?.snapshots[0], found?.snapshots[0]]) {
    t.deepEqual(member?.accessible_topology, [thisNode]);
  }
});

test('malformed requests are refused before they reach the domain', async (t) => {
  const { controller, group, metadata, calls } = await serveMetadata(t);
  const source_volume_id = 'pvc-1.0123abcd';
  const first = async (stream: AsyncIterable<unknown>) => {
    for await (const _message of stream) return;
  };
  for (const call of [
    controller.CreateSnapshot({ source_volume_id }),
    controller.CreateSnapshot({ name: 'snap' }),
    controller.CreateSnapshot({ name: 's', source_volume_id, parameters: { frezze: 'yes' } }),
    controller.CreateSnapshot({ name: 's', source_volume_id, parameters: { freeze: 'maybe' } }),
    controller.DeleteSnapshot({}),
    controller.GetSnapshot({}),
    controller.ListSnapshots({ max_entries: -1 }),
    group.CreateVolumeGroupSnapshot({ source_volume_ids: [source_volume_id] }),
    group.CreateVolumeGroupSnapshot({ name: 'g' }),
    group.CreateVolumeGroupSnapshot({ name: 'g', source_volume_ids: [''] }),
    group.CreateVolumeGroupSnapshot({
      name: 'g',
      source_volume_ids: [source_volume_id, 'v'.repeat(129)],
    }),
    group.DeleteVolumeGroupSnapshot({ snapshot_ids: [id] }),
    group.GetVolumeGroupSnapshot({}),
    first(metadata.GetMetadataAllocated({})),
    first(metadata.GetMetadataAllocated({ snapshot_id: id, max_results: -1 })),
    first(metadata.GetMetadataDelta({ base_snapshot_id: id })),
    first(metadata.GetMetadataDelta({ target_snapshot_id: id })),
  ]) {
    t.is(await codeOf(call), 'INVALID_ARGUMENT');
  }
  t.deepEqual(calls, []);
});

test('an empty filter is no filter', async (t) => {
  const { controller, calls } = await serveFake(t);
  await controller.ListSnapshots({ max_entries: 3, source_volume_id: 'v' });
  t.deepEqual(calls.at(-1)?.input, {
    maxEntries: 3,
    startingToken: '',
    sourceVolumeId: 'v',
    snapshotId: undefined,
  });
});

test('a group is ready when all its members are ready', async (t) => {
  const [member] = aGroup.snapshots;
  const copying = { ...aSnapshot, record: { ...aSnapshot.record, state: 'copying' as const } };
  const { group } = await serveMetadata(t, {
    volumes: {
      getGroupSnapshot: async () => ({
        ...aGroup,
        snapshots: member === undefined ? [] : [member, copying],
      }),
    },
  });
  const request = { name: 'group-1', source_volume_ids: ['pvc-1.0123abcd'] };
  const { group_snapshot: made } = await group.CreateVolumeGroupSnapshot(request);
  t.like(made, { group_snapshot_id: aGroup.record.id, ready_to_use: true });
  t.is(made?.snapshots[0]?.group_snapshot_id, aGroup.record.id);
  const { group_snapshot: found } = await group.GetVolumeGroupSnapshot({ group_snapshot_id: 'g' });
  t.false(found?.ready_to_use);
  t.deepEqual(
    found?.snapshots.map(({ ready_to_use }) => ready_to_use),
    [true, false],
  );
});

test('each message of a stream has type and size, also without ranges', async (t) => {
  const range = { offset: 4096n, length: 8192n };
  const { metadata } = await serveMetadata(t, {
    volumes: {
      allocatedRanges: async () => rangesOf([range], [{ ...range, offset: 1n << 20n }]),
      changedRanges: async () => rangesOf(),
    },
  });
  const head = { block_metadata_type: 'VARIABLE_LENGTH', volume_capacity_bytes: 1n << 30n };
  const allocated = [];
  for await (const one of metadata.GetMetadataAllocated({ snapshot_id: id })) allocated.push(one);
  t.deepEqual(allocated, [
    { ...head, block_metadata: [{ byte_offset: 4096n, size_bytes: 8192n }] },
    { ...head, block_metadata: [{ byte_offset: 1n << 20n, size_bytes: 8192n }] },
  ]);
  const ids = { base_snapshot_id: id, target_snapshot_id: id };
  const changed = [];
  for await (const one of metadata.GetMetadataDelta(ids)) changed.push(one);
  t.deepEqual(changed, [{ ...head, block_metadata: [] }]);
});

test('an incomplete stream ends with an error', async (t) => {
  async function* broken(): AsyncGenerator<readonly BlockRange[]> {
    yield [{ offset: 0n, length: 4096n }];
    throw new VolumeError('unavailable', 'the blocks are being moved');
  }
  const { metadata } = await serveMetadata(t, {
    volumes: { allocatedRanges: async () => ({ volumeBytes: 1n << 20n, batches: broken() }) },
  });
  const read = async () => {
    for await (const one of metadata.GetMetadataAllocated({ snapshot_id: id })) {
      t.is(one.block_metadata.length, 1);
    }
  };
  t.is(await codeOf(read()), 'UNAVAILABLE');
});

test('a slow reader blocks the reading of ranges, and disconnecting ends it', async (t) => {
  let produced = 0;
  let ended = false;
  async function* endless(): AsyncGenerator<readonly BlockRange[]> {
    try {
      for (;;) {
        produced += 1;
        const base = BigInt(produced) << 40n;
        yield Array.from({ length: 16_384 }, (_, i) => ({
          offset: base + BigInt(i) * 8192n,
          length: 4096n,
        }));
      }
    } finally {
      ended = true;
    }
  }
  const { metadata } = await serveMetadata(t, {
    volumes: { changedRanges: async () => ({ volumeBytes: 1n << 60n, batches: endless() }) },
  });
  const ids = { base_snapshot_id: id, target_snapshot_id: id };
  for await (const message of metadata.GetMetadataDelta(ids)) {
    t.is(message.block_metadata.length, 16_384);
    // Without a reader only the windows of the connection fill up. Wait until no more is produced.
    for (let previous = -1; previous !== produced; ) {
      previous = produced;
      await delay(200);
    }
    t.true(produced < 40, `${produced} messages of 256 KiB were produced, and one was read`);
    break;
  }
  for (const deadline = Date.now() + 10_000; !ended; await delay(5)) {
    if (Date.now() > deadline) break;
  }
  t.true(ended, 'the iterator of the domain is closed');
});
