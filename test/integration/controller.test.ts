import { makeClient } from '../../src/csi/client.ts';
import { nodeTagOf, volumeIdFor } from '../../src/ids.ts';
import { topologyOfNode } from '../../src/rpc/topology.ts';
import { MiB } from '../../src/units.ts';
import { startControlledNodes } from '../helpers/controlled-nodes.ts';
import { endOf } from '../helpers/controller.ts';
import { onNode } from '../helpers/on-node.ts';
import { onScratch } from '../helpers/root-scratch.ts';
import { until } from '../helpers/until.ts';

const nodeIds = ['worker-1', 'worker-2', 'worker-3'] as const;
type NodeId = (typeof nodeIds)[number];

const aVolume = {
  capacity_range: { required_bytes: 16n * MiB },
  volume_capabilities: [
    {
      access_mode: { mode: 'SINGLE_NODE_WRITER' as const },
      access_type: 'block' as const,
      block: {},
    },
  ],
};

const onlyOn = (nodeId: NodeId) => {
  const { key, value } = topologyOfNode('loopcsi.io', nodeId);
  const topology = { segments: { [key]: value } };
  return { accessibility_requirements: { requisite: [topology], preferred: [topology] } };
};

onNode(
  'three real drivers behind a real controller: volumes, snapshots, lists, a node that is killed and one that hangs',
  async (t) =>
    onScratch(t, async ({ directory }) => {
      const nodes = await startControlledNodes(directory, nodeIds);
      const controller = makeClient('csi.v1.Controller', nodes.endpoint);
      try {
        for (const nodeId of nodeIds)
          await controller.CreateVolume({ ...aVolume, ...onlyOn(nodeId), name: 'data' });
        // A second volume on some node, and the same one when the call is repeated.
        const { volume: chosen } = await controller.CreateVolume({ ...aVolume, name: 'anywhere' });
        const again = await controller.CreateVolume({ ...aVolume, name: 'anywhere' });
        t.deepEqual(again.volume, chosen);
        const ids: string[] = [];
        let token = '';
        do {
          const page = await controller.ListVolumes({ max_entries: 1, starting_token: token });
          ids.push(...page.entries.map(({ volume }) => volume?.volume_id ?? ''));
          token = page.next_token;
        } while (token !== '');
        const idOn = (nodeId: NodeId) => volumeIdFor('data', nodeTagOf(nodeId));
        t.deepEqual([...ids].sort(), [...nodeIds.map(idOn), chosen?.volume_id ?? ''].sort());

        const grown = await controller.ControllerExpandVolume({
          volume_id: idOn('worker-2'),
          capacity_range: { required_bytes: 32n * MiB },
        });
        t.is(grown.capacity_bytes, 32n * MiB);
        const { snapshot } = await controller.CreateSnapshot({
          name: 'snap',
          source_volume_id: idOn('worker-2'),
        });
        const snapshot_id = snapshot?.snapshot_id ?? '';
        await until(
          'the snapshot is ready',
          async () =>
            (await controller.GetSnapshot({ snapshot_id })).snapshot?.ready_to_use ?? false,
        );
        const restore = {
          ...aVolume,
          capacity_range: { required_bytes: 32n * MiB },
          name: 'restored',
          volume_content_source: { type: 'snapshot', snapshot: { snapshot_id } } as const,
        };
        const elsewhere = await endOf(
          controller.CreateVolume({ ...restore, ...onlyOn('worker-1') }),
        );
        t.is(elsewhere.code, 'RESOURCE_EXHAUSTED');
        const { volume: restored } = await controller.CreateVolume(restore);
        t.is(restored?.volume_id, volumeIdFor('restored', nodeTagOf('worker-2')));

        await nodes.driverOf('worker-3').kill();
        await until('the killed node is away', async () => (await nodes.countAgents('away')) === 1);
        const lost = await endOf(controller.DeleteVolume({ volume_id: idOn('worker-3') }));
        t.is(lost.code, 'UNAVAILABLE');
        t.regex(lost.message, /^node 'worker-3' \(tag [0-9a-f]{8}\) is away/);
        await nodes.restart('worker-3');
        await until('it is back', async () => (await nodes.countAgents('ready')) === 3);

        process.kill(nodes.driverOf('worker-1').pid, 'SIGSTOP');
        try {
          const stopped = endOf(controller.DeleteVolume({ volume_id: idOn('worker-1') }));
          await controller.ControllerGetVolume({ volume_id: idOn('worker-2') });
          t.is((await stopped).code, 'UNAVAILABLE');
        } finally {
          process.kill(nodes.driverOf('worker-1').pid, 'SIGCONT');
        }
        await until('it is back', async () => (await nodes.countAgents('ready')) === 3);

        for (const volume_id of [...ids, restored?.volume_id ?? ''])
          await controller.DeleteVolume({ volume_id });
        await controller.DeleteSnapshot({ snapshot_id });
        t.deepEqual((await controller.ListVolumes({})).entries, []);
        t.deepEqual((await controller.ListSnapshots({})).entries, []);
      } catch (error) {
        t.log((await nodes.controllerLog()).slice(-10_000));
        throw error;
      } finally {
        controller.close();
        await nodes.stop();
      }
    }),
);
