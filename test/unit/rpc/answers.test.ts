import test from 'ava';
import type { VolumeCapability } from '../../../src/csi/types.ts';
import { VolumeError } from '../../../src/errors.ts';
import { codeOf, serveFake } from '../../helpers/csi-server.ts';
import { aVolume } from '../../helpers/fake-volumes.ts';

const mount: VolumeCapability = {
  access_mode: { mode: 'SINGLE_NODE_WRITER' },
  access_type: 'mount',
  mount: { fs_type: '', mount_flags: ['noatime'], volume_mount_group: '' },
};
const topology = { segments: { 'topology.loopcsi.io/node': 'node-a' } };

test('CreateVolume passes the request to the domain and answers from the record', async (t) => {
  const { controller, calls } = await serveFake(t, {
    volumes: {
      createVolume: async () => ({
        pool: 'fast',
        record: { ...aVolume.record, source: { kind: 'snapshot', id: 's.0123abcd' } },
      }),
    },
  });
  const { volume } = await controller.CreateVolume({
    name: 'pvc-1',
    capacity_range: { required_bytes: 5n },
    volume_capabilities: [mount],
    parameters: { pool: 'fast', trim: 'off', 'csi.storage.k8s.io/pvc/name': 'data' },
    mutable_parameters: { trim: 'online' },
    volume_content_source: { type: 'snapshot', snapshot: { snapshot_id: 's.0123abcd' } },
  });
  t.like(calls[0]?.input, {
    name: 'pvc-1',
    kind: 'mount',
    fsType: 'ext4',
    range: { requiredBytes: 5n, limitBytes: 0n },
    source: { kind: 'snapshot', id: 's.0123abcd' },
    settings: { pool: 'fast', trim: 'online', provisioning: 'thin', sectorSize: undefined },
  });
  t.deepEqual(volume, {
    volume_id: 'pvc-1.0123abcd',
    capacity_bytes: 1n << 30n,
    volume_context: { pool: 'fast' },
    content_source: { type: 'snapshot', snapshot: { snapshot_id: 's.0123abcd' } },
    accessible_topology: [topology],
  });
});

test('NodeGetInfo returns node id, topology and maximum number of volumes', async (t) => {
  const { node } = await serveFake(t);
  t.deepEqual(await node.NodeGetInfo({}), {
    node_id: 'node-a',
    max_volumes_per_node: 100n,
    accessible_topology: topology,
  });
});

test('stats contain bytes and inodes of a mounted volume, but only the size of a block volume', async (t) => {
  const asked = { volume_id: 'v', volume_path: '/a' };
  const { node } = await serveFake(t);
  t.deepEqual((await node.NodeGetVolumeStats(asked)).usage, [
    { unit: 'BYTES', total: 100n, used: 40n, available: 60n },
    { unit: 'INODES', total: 10n, used: 3n, available: 7n },
  ]);
  const nothing = { usedBytes: 0n, availableBytes: 0n, totalInodes: 0n, usedInodes: 0n };
  const blocks = await serveFake(t, {
    volumes: {
      volumeStats: async () => ({
        kind: 'block',
        totalBytes: 9n,
        availableInodes: 0n,
        ...nothing,
      }),
    },
  });
  t.deepEqual((await blocks.node.NodeGetVolumeStats(asked)).usage, [
    { unit: 'BYTES', total: 9n, used: 0n, available: 0n },
  ]);
});

test('GetCapacity answers for this node, and 0 for another topology', async (t) => {
  const { controller, calls } = await serveFake(t);
  t.deepEqual(await controller.GetCapacity({ accessible_topology: topology }), {
    available_capacity: 5n,
    maximum_volume_size: { value: 4n },
    minimum_volume_size: { value: 1n },
  });
  const elsewhere = { segments: { 'topology.loopcsi.io/node': 'node-b' } };
  const answer = await controller.GetCapacity({ accessible_topology: elsewhere });
  t.is(answer.available_capacity, 0n);
  t.is(calls.length, 1);
  await controller.GetCapacity({
    parameters: { pool: 'fast', provisioning: 'thick' },
    volume_capabilities: [{ ...mount, access_type: 'block', block: {}, mount: undefined }],
  });
  const asked = { pool: 'fast', provisioning: 'thick', fsType: null, isLimited: false };
  t.deepEqual(calls[1]?.input, asked);
  for (const [parameters, isLimited] of [
    [{ readIops: 'max' }, false],
    [{ readIops: 'max', writeBytesPerSecond: '1Mi' }, true],
  ] as const) {
    await controller.GetCapacity({ parameters });
    t.like(calls.at(-1)?.input, { isLimited });
  }
});

test('GetCapacity with cluster pools returns capacity for a class that no node can serve, and none for a pool of another node', async (t) => {
  const settings = { clusterPools: ['here', 'elsewhere'] };
  const { controller, calls } = await serveFake(t, { settings });
  for (const parameters of [{ pool: 'elsewhere' }, { pool: 'nowhere' }, { poool: 'here' }]) {
    await controller.GetCapacity({ parameters });
  }
  const pools = calls.map(({ input }) => (input as { pool?: string }).pool);
  t.deepEqual(pools, ['elsewhere', undefined, undefined]);
});

test('ValidateVolumeCapabilities repeats a supported request and explains a refusal', async (t) => {
  const asked = {
    volume_id: 'v',
    volume_capabilities: [mount],
    volume_context: { pool: 'default' },
    parameters: { trim: 'off' },
  };
  const { controller } = await serveFake(t);
  const { confirmed, message } = await controller.ValidateVolumeCapabilities(asked);
  t.deepEqual(confirmed, {
    volume_context: asked.volume_context,
    volume_capabilities: [mount],
    parameters: asked.parameters,
    mutable_parameters: {},
  });
  t.is(message, '');
  const many: VolumeCapability = { ...mount, access_mode: { mode: 'MULTI_NODE_MULTI_WRITER' } };
  for (const volume_capabilities of [
    [many],
    [mount, { access_mode: { mode: 'SINGLE_NODE_WRITER' }, access_type: 'block', block: {} }],
    [{ ...mount, access_type: 'mount', mount: { fs_type: 'ntfs' } }],
  ] as const) {
    const answer = await controller.ValidateVolumeCapabilities({ ...asked, volume_capabilities });
    t.is(answer.confirmed, null);
    t.not(answer.message, '');
  }
  const wrong = await serveFake(t, {
    volumes: { findMismatch: async () => 'it is a block volume' },
  });
  t.like(await wrong.controller.ValidateVolumeCapabilities(asked), {
    confirmed: null,
    message: 'it is a block volume',
  });
});

test('an unknown volume is NOT_FOUND even if the capabilities are never supported', async (t) => {
  const { controller } = await serveFake(t, {
    volumes: {
      getVolume: async () => {
        throw new VolumeError('not-found', "volume 'v' does not exist");
      },
    },
  });
  const many: VolumeCapability = { ...mount, access_mode: { mode: 'MULTI_NODE_MULTI_WRITER' } };
  const call = controller.ValidateVolumeCapabilities({
    volume_id: 'v',
    volume_capabilities: [many],
  });
  t.is(await codeOf(call), 'NOT_FOUND');
});

test('each pair of status and reason appears once in a health answer', async (t) => {
  const condition = { status: 'DEGRADED', reason: 'LoopDetached' } as const;
  const { controller, node } = await serveFake(t, {
    volumes: {
      volumeHealth: async () => [
        { ...condition, message: 'one' },
        { ...condition, message: 'two' },
        { ...condition, status: 'INACCESSIBLE', message: 'three' },
      ],
      storageHealth: async () => [
        {
          pool: 'fast',
          status: 'STORAGE_UNREACHABLE',
          reason: 'NotMounted',
          message: 'its disk is not mounted',
        },
      ],
    },
  });
  const expected = {
    volume_id: 'v',
    health_statuses: [
      { ...condition, message: 'one; two' },
      { ...condition, status: 'INACCESSIBLE', message: 'three' },
    ],
  };
  t.deepEqual(
    (await controller.ControllerGetVolumeHealth({ volume_id: 'v' })).volume_health,
    expected,
  );
  t.deepEqual((await node.NodeGetVolumeHealth({ volume_id: 'v' })).volume_health, expected);
  t.like((await node.NodeGetStorageHealth({})).backend_health[0], {
    status: 'STORAGE_UNREACHABLE',
    reason: 'NotMounted',
    message: 'its disk is not mounted',
  });
});

test('expansion returns whether the node must expand the volume too', async (t) => {
  const { controller, node } = await serveFake(t);
  const grown = await controller.ControllerExpandVolume({
    volume_id: 'v',
    capacity_range: { required_bytes: 2n << 30n },
  });
  t.deepEqual(grown, { capacity_bytes: 2n << 30n, node_expansion_required: true });
  const onNode = await node.NodeExpandVolume({ volume_id: 'v', volume_path: '/a' });
  t.is(onNode.capacity_bytes, 2n << 30n);
});
