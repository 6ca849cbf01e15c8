import { parseSnapshotParameters } from '../volumes/parameters/storage-class.ts';
import type { CsiContext } from './context.ts';
import { parseCreateSnapshotForm } from './forms.ts';
import type { Implementation } from './handlers.ts';
import { snapshotMessage } from './messages.ts';
import { accessibleTopology, requireReachable } from './topology.ts';
import { parsePage, requireText } from './validate.ts';

type SnapshotMethod = 'CreateSnapshot' | 'DeleteSnapshot' | 'ListSnapshots' | 'GetSnapshot';

/** Implements the snapshot calls of the Controller service (CSI spec, "Controller Service RPC"). */
export function controllerSnapshotMethods(
  context: CsiContext,
): Pick<Implementation<'csi.v1.Controller'>, SnapshotMethod> {
  const { volumes, thisNode } = context;
  const topology = accessibleTopology(thisNode);
  return {
    async CreateSnapshot(request, call) {
      const input = {
        ...parseCreateSnapshotForm(request),
        settings: parseSnapshotParameters(request.parameters),
        parameters: request.parameters,
      };
      requireReachable(request.accessibility_requirements, thisNode);
      return { snapshot: snapshotMessage(await volumes.createSnapshot(call, input), topology) };
    },

    async DeleteSnapshot(request, call) {
      await volumes.deleteSnapshot(call, requireText(request.snapshot_id, 'snapshot_id'));
      return {};
    },

    async ListSnapshots(request) {
      const { source_volume_id, snapshot_id } = request;
      const page = await volumes.listSnapshots({
        ...parsePage(request),
        sourceVolumeId: source_volume_id === '' ? undefined : source_volume_id,
        snapshotId: snapshot_id === '' ? undefined : snapshot_id,
      });
      const entries = page.entries.map((snapshot) => ({
        snapshot: snapshotMessage(snapshot, topology),
      }));
      return { entries, next_token: page.nextToken };
    },

    async GetSnapshot(request) {
      const id = requireText(request.snapshot_id, 'snapshot_id');
      return { snapshot: snapshotMessage(await volumes.getSnapshot(id), topology) };
    },
  };
}
