import type { NodeServiceCapability } from '../csi/types.ts';
import { podIn } from '../volumes/owner.ts';
import { parseInlineAttributes } from '../volumes/parameters/storage-class.ts';
import { nodeCapabilities } from './advertised.ts';
import type { CsiContext } from './context.ts';
import type { Implementation } from './handlers.ts';
import { healthMessage, usageMessages } from './messages.ts';
import { accessibleTopology } from './topology.ts';
import {
  optionalPath,
  parseRange,
  requireMountedPath,
  requirePath,
  requireText,
} from './validate.ts';
import { nodeRefusals, parseCapability } from './volume-capability.ts';

/** Volume context key that the kubelet sets for an inline volume. */
const ephemeralKey = 'csi.storage.k8s.io/ephemeral';

type Methods = Implementation<'csi.v1.Node'>;

/** Implements the Node service (CSI spec, "Node Service RPC"). */
export function nodeMethods(context: CsiContext): Methods {
  const { settings, volumes, thisNode } = context;
  return {
    ...mountMethods(context),
    ...usedVolumeMethods(context),

    async NodeGetCapabilities() {
      const capabilities = nodeCapabilities(settings).map(
        (type): NodeServiceCapability => ({ type: 'rpc', rpc: { type } }),
      );
      return { capabilities };
    },

    async NodeGetInfo() {
      return {
        node_id: thisNode.nodeId,
        max_volumes_per_node: BigInt(volumes.maxVolumesPerNode),
        accessible_topology: accessibleTopology(thisNode),
      };
    },
  };
}

function mountMethods({ volumes }: CsiContext): Methods {
  return {
    async NodeStageVolume(request, call) {
      await volumes.stageVolume(call, {
        volumeId: requireText(request.volume_id, 'volume_id'),
        stagingTargetPath: requirePath(request.staging_target_path, 'staging_target_path'),
        capability: parseCapability(request.volume_capability, 'volume_capability', nodeRefusals),
      });
      return {};
    },

    async NodeUnstageVolume(request, call) {
      await volumes.unstageVolume(call, {
        volumeId: requireText(request.volume_id, 'volume_id'),
        stagingTargetPath: requirePath(request.staging_target_path, 'staging_target_path'),
      });
      return {};
    },

    async NodePublishVolume(request, call) {
      const { volume_context: context } = request;
      const isEphemeral = context[ephemeralKey] === 'true';
      const pod = podIn(context);
      await volumes.publishVolume(call, {
        volumeId: requireText(request.volume_id, 'volume_id'),
        stagingTargetPath: optionalPath(request.staging_target_path, 'staging_target_path'),
        targetPath: requirePath(request.target_path, 'target_path'),
        capability: parseCapability(request.volume_capability, 'volume_capability', nodeRefusals),
        readOnly: request.readonly,
        ...(pod === undefined ? {} : { pod }),
        ...(isEphemeral ? { ephemeral: parseInlineAttributes(context) } : {}),
      });
      return {};
    },

    async NodeUnpublishVolume(request, call) {
      await volumes.unpublishVolume(call, {
        volumeId: requireText(request.volume_id, 'volume_id'),
        targetPath: requirePath(request.target_path, 'target_path'),
      });
      return {};
    },
  };
}

/** Methods for the usage, growth and health of volumes on this node. */
function usedVolumeMethods({ volumes }: CsiContext): Methods {
  return {
    async NodeGetVolumeStats(request) {
      optionalPath(request.staging_target_path, 'staging_target_path');
      const stats = await volumes.volumeStats({
        volumeId: requireText(request.volume_id, 'volume_id'),
        volumePath: requireMountedPath(request.volume_path, 'volume_path'),
      });
      return { usage: usageMessages(stats) };
    },

    async NodeExpandVolume(request, call) {
      const { volume_capability } = request;
      optionalPath(request.staging_target_path, 'staging_target_path');
      const { sizeBytes } = await volumes.nodeExpandVolume(call, {
        volumeId: requireText(request.volume_id, 'volume_id'),
        volumePath: requireMountedPath(request.volume_path, 'volume_path'),
        range: parseRange(request.capacity_range),
        ...(volume_capability === null
          ? {}
          : { capability: parseCapability(volume_capability, 'volume_capability') }),
      });
      return { capacity_bytes: sizeBytes };
    },

    async NodeGetVolumeHealth(request) {
      const volumeId = requireText(request.volume_id, 'volume_id');
      optionalPath(request.volume_publish_path, 'volume_publish_path');
      optionalPath(request.staging_target_path, 'staging_target_path');
      const conditions = await volumes.volumeHealth(volumeId);
      return { volume_health: healthMessage(volumeId, conditions, volumes.ownerOf(volumeId)) };
    },

    async NodeGetStorageHealth() {
      const conditions = await volumes.storageHealth();
      const backend_health = conditions.map(({ status, reason, message }) => ({
        status,
        reason,
        message,
        volume_capability: null,
      }));
      return { backend_health };
    },
  };
}
