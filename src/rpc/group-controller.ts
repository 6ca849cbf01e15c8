import type { GroupControllerServiceCapability } from '../csi/types.ts';
import { parseSnapshotParameters } from '../volumes/parameters/storage-class.ts';
import { groupCapabilities } from './advertised.ts';
import type { CsiContext } from './context.ts';
import { parseCreateGroupForm } from './forms.ts';
import type { Implementation } from './handlers.ts';
import { groupMessage } from './messages.ts';
import { requireText } from './validate.ts';

/**
 * Implements the GroupController service (CSI spec, "Group Controller Service RPC"): snapshots of several volumes of this
 * node at one point in time.
 */
export function groupControllerMethods(
  context: CsiContext,
): Implementation<'csi.v1.GroupController'> {
  const { settings, volumes, thisNode } = context;
  return {
    async GroupControllerGetCapabilities() {
      const capabilities = groupCapabilities(settings).map(
        (type): GroupControllerServiceCapability => ({ type: 'rpc', rpc: { type } }),
      );
      return { capabilities };
    },

    async CreateVolumeGroupSnapshot(request, call) {
      const group = await volumes.createGroupSnapshot(call, {
        ...parseCreateGroupForm(request),
        settings: parseSnapshotParameters(request.parameters),
        parameters: request.parameters,
      });
      return { group_snapshot: groupMessage(group, thisNode) };
    },

    async DeleteVolumeGroupSnapshot(request, call) {
      const id = requireText(request.group_snapshot_id, 'group_snapshot_id');
      await volumes.deleteGroupSnapshot(call, id, request.snapshot_ids);
      return {};
    },

    async GetVolumeGroupSnapshot(request) {
      const id = requireText(request.group_snapshot_id, 'group_snapshot_id');
      const group = await volumes.getGroupSnapshot(id, request.snapshot_ids);
      return { group_snapshot: groupMessage(group, thisNode) };
    },
  };
}
