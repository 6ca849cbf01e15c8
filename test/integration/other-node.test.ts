import { mkdir, mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ServiceError, status } from '@grpc/grpc-js';
import type { ExecutionContext } from 'ava';
import { type Client, makeClient } from '../../src/csi/client.ts';
import type { Partially } from '../../src/csi/rpc-types.ts';
import type { CreateVolumeRequest } from '../../src/csi/types.ts';
import { nodeTagOf } from '../../src/ids.ts';
import { MiB } from '../../src/units.ts';
import { runCommand } from '../helpers/command-line.ts';
import { startDriver } from '../helpers/driver.ts';
import { onNode } from '../helpers/on-node.ts';
import { removeAll } from '../helpers/scratch-pool.ts';

/** Two nodes of a cluster, each with its own driver, pool and state directory. */
const nodeIds = ['worker-1', 'worker-2.example.org'] as const;
type NodeId = (typeof nodeIds)[number];
type Controller = Client<'csi.v1.Controller'>;

const capability = {
  access_mode: { mode: 'SINGLE_NODE_WRITER' },
  access_type: 'mount',
  mount: {},
} as const;

interface Cluster {
  readonly controllerOf: (nodeId: NodeId) => Controller;
  readonly endpointOf: (nodeId: NodeId) => string;
  /** A volume and a ready snapshot of it, both on `worker-1`. */
  readonly volumeId: string;
  readonly snapshotId: string;
}

async function startCluster(t: ExecutionContext): Promise<Cluster> {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-cluster-'));
  t.teardown(async () => {
    const left = await removeAll(directory);
    if (left.length > 0) throw new Error(`left over: ${left.join(', ')}`);
  });
  const nodes = new Map<NodeId, { controller: Controller; endpoint: string }>();
  for (const nodeId of nodeIds) {
    const own = join(directory, nodeId);
    await mkdir(own);
    const driver = await startDriver(own, [`--node-id=${nodeId}`]);
    t.teardown(() => driver.stop());
    const { endpoint } = driver;
    const controller = makeClient('csi.v1.Controller', `unix://${endpoint}`);
    t.teardown(() => controller.close());
    nodes.set(nodeId, { controller, endpoint });
  }
  const nodeOf = (nodeId: NodeId) => {
    const found = nodes.get(nodeId);
    if (found === undefined) throw new Error(`there is no node ${nodeId}`);
    return found;
  };
  const controllerOf = (nodeId: NodeId): Controller => nodeOf(nodeId).controller;
  const endpointOf = (nodeId: NodeId): string => nodeOf(nodeId).endpoint;
  const first = controllerOf('worker-1');
  const { volume } = await first.CreateVolume(requestFor('source'));
  const volumeId = volume?.volume_id ?? '';
  const { snapshot } = await first.CreateSnapshot({ name: 'snap', source_volume_id: volumeId });
  return { controllerOf, endpointOf, volumeId, snapshotId: snapshot?.snapshot_id ?? '' };
}

const requestFor = (
  name: string,
  source: CreateVolumeRequest['volume_content_source'] = null,
): Partially<CreateVolumeRequest> => ({
  name,
  capacity_range: { required_bytes: 32n * MiB },
  volume_capabilities: [capability],
  volume_content_source: source,
});

const snapshotSource = (snapshot_id: string) =>
  ({ type: 'snapshot', snapshot: { snapshot_id } }) as const;
const volumeSource = (volume_id: string) => ({ type: 'volume', volume: { volume_id } }) as const;
const topologyOf = (nodeId: NodeId) => ({ segments: { 'topology.loopcsi.io/node': nodeId } });

async function answerOf(call: Promise<unknown>): Promise<{ code: string; message: string }> {
  return call.then(
    () => ({ code: 'OK', message: '' }),
    (error: unknown) => {
      const { code, details } = error as ServiceError;
      return { code: status[code], message: details };
    },
  );
}

onNode(
  'a copy of a source on another node is refused with a code that makes the caller try another node, and succeeds on the source’s node',
  async (t) => {
    const { controllerOf, volumeId, snapshotId } = await startCluster(t);
    const second = controllerOf('worker-2.example.org');
    const tag = nodeTagOf('worker-1');
    for (const source of [snapshotSource(snapshotId), volumeSource(volumeId)]) {
      const request = requestFor('copy', source);
      // As with delayed binding in Kubernetes: the only topology in the request is this node.
      const here = { requisite: [topologyOf('worker-2.example.org')] };
      for (const accessibility_requirements of [null, here]) {
        const refused = await answerOf(
          second.CreateVolume({ ...request, accessibility_requirements }),
        );
        t.is(refused.code, 'RESOURCE_EXHAUSTED', refused.message);
        t.true(refused.message.includes(`on the node with tag ${tag}`), refused.message);
      }
      const both = { requisite: nodeIds.map(topologyOf) };
      const refused = await answerOf(
        second.CreateVolume({ ...request, accessibility_requirements: both }),
      );
      t.is(refused.code, 'RESOURCE_EXHAUSTED', refused.message);
      t.true(refused.message.includes(`on node 'worker-1' (tag ${tag})`), refused.message);
    }
    const { entries } = await second.ListVolumes({});
    t.deepEqual(entries, [], 'nothing is left on the wrong node');

    const first = controllerOf('worker-1');
    const { volume } = await first.CreateVolume(requestFor('copy', snapshotSource(snapshotId)));
    t.deepEqual(volume?.accessible_topology, [topologyOf('worker-1')]);
  },
);

onNode('a source that does not exist is not found on any node', async (t) => {
  const { controllerOf, snapshotId, volumeId } = await startCluster(t);
  const first = controllerOf('worker-1');
  const tag = nodeTagOf('worker-1');
  for (const source of [
    snapshotSource('snap'),
    snapshotSource(`${snapshotId}0`),
    snapshotSource(`gone.${tag}`),
    volumeSource(`gone.${tag}`),
    volumeSource(`../${volumeId}`),
  ]) {
    const { code, message } = await answerOf(first.CreateVolume(requestFor('copy', source)));
    t.is(code, 'NOT_FOUND', message);
  }
});

onNode(
  'calls that read or change an entry of another node return not-found, and deletes do not claim success',
  async (t) => {
    const { controllerOf, endpointOf, volumeId, snapshotId } = await startCluster(t);
    const second = controllerOf('worker-2.example.org');
    const address = `unix://${endpointOf('worker-2.example.org')}`;
    const node = makeClient('csi.v1.Node', address);
    const group = makeClient('csi.v1.GroupController', address);
    t.teardown(() => {
      node.close();
      group.close();
    });
    const tag = nodeTagOf('worker-1');
    const group_snapshot_id = `group.${tag}`;
    const staging_target_path = '/nowhere/staging';
    const calls: Readonly<Record<string, readonly [Promise<unknown>, string]>> = {
      CreateSnapshot: [
        second.CreateSnapshot({ name: 'snap', source_volume_id: volumeId }),
        'NOT_FOUND',
      ],
      GetSnapshot: [second.GetSnapshot({ snapshot_id: snapshotId }), 'NOT_FOUND'],
      ControllerGetVolume: [second.ControllerGetVolume({ volume_id: volumeId }), 'NOT_FOUND'],
      ControllerExpandVolume: [
        second.ControllerExpandVolume({
          volume_id: volumeId,
          capacity_range: { required_bytes: 64n * MiB },
        }),
        'NOT_FOUND',
      ],
      CreateVolumeGroupSnapshot: [
        group.CreateVolumeGroupSnapshot({ name: 'group', source_volume_ids: [volumeId] }),
        'NOT_FOUND',
      ],
      GetVolumeGroupSnapshot: [
        group.GetVolumeGroupSnapshot({ group_snapshot_id, snapshot_ids: [snapshotId] }),
        'NOT_FOUND',
      ],
      NodeStageVolume: [
        node.NodeStageVolume({
          volume_id: volumeId,
          staging_target_path,
          volume_capability: capability,
        }),
        'NOT_FOUND',
      ],
      DeleteVolumeGroupSnapshot: [
        group.DeleteVolumeGroupSnapshot({ group_snapshot_id, snapshot_ids: [snapshotId] }),
        'FAILED_PRECONDITION',
      ],
      DeleteVolume: [second.DeleteVolume({ volume_id: volumeId }), 'FAILED_PRECONDITION'],
      DeleteSnapshot: [second.DeleteSnapshot({ snapshot_id: snapshotId }), 'FAILED_PRECONDITION'],
    };
    for (const [name, [call, code]] of Object.entries(calls)) {
      const answer = await answerOf(call);
      t.is(answer.code, code, name);
      t.true(answer.message.includes(tag), `${name}: ${answer.message}`);
    }
    const { entries } = await second.ListSnapshots({ snapshot_id: snapshotId });
    t.deepEqual(entries, []);
    // Pods must be able to end, on whichever node the kubelet calls.
    await node.NodeUnstageVolume({ volume_id: volumeId, staging_target_path });
    // Both are intact.
    const first = controllerOf('worker-1');
    t.is((await first.ListVolumes({})).entries.length, 1);
    t.is((await first.ListSnapshots({})).entries.length, 1);
  },
);

onNode('every answer about a snapshot states the node it can be restored on', async (t) => {
  const { controllerOf, volumeId, snapshotId } = await startCluster(t);
  const first = controllerOf('worker-1');
  const topology = topologyOf('worker-1');
  for (const accessibility_requirements of [
    null,
    { requisite: [topology], preferred: [topology] },
    { requisite: nodeIds.map(topologyOf) },
  ]) {
    const { snapshot } = await first.CreateSnapshot({
      name: 'snap',
      source_volume_id: volumeId,
      accessibility_requirements,
    });
    t.is(snapshot?.snapshot_id, snapshotId);
    t.deepEqual(snapshot?.accessible_topology, [topology]);
  }
  const { snapshot } = await first.GetSnapshot({ snapshot_id: snapshotId });
  t.deepEqual(snapshot?.accessible_topology, [topology]);
  const { entries } = await first.ListSnapshots({});
  t.deepEqual(entries[0]?.snapshot?.accessible_topology, [topology]);
});

onNode('the command line reports the node of a source that is on another node', async (t) => {
  const { endpointOf, volumeId, snapshotId } = await startCluster(t);
  const endpoint = endpointOf('worker-2.example.org');
  for (const from of [`snapshot:${snapshotId}`, `volume:${volumeId}`]) {
    const ran = await runCommand(endpoint, 'volume', 'create', 'copy', '--from', from);
    t.not(ran.exitCode, 0);
    t.true(ran.stderr.includes(`(tag ${nodeTagOf('worker-1')}`), ran.stderr);
  }
});
