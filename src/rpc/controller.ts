import type { ControllerServiceCapability, CreateVolumeRequest } from '../csi/types.ts';
import type { CreateVolumeInput, Volume } from '../volumes/model.ts';
import { hasLimitParameters } from '../volumes/parameters/io-limits.ts';
import {
  parseMutableParameters,
  parseParameters,
  parsePoolOfClass,
  parsePoolParameter,
  requireMutable,
} from '../volumes/parameters/storage-class.ts';
import { controllerCapabilities } from './advertised.ts';
import type { RpcCall } from './call.ts';
import type { CsiContext } from './context.ts';
import { controllerSnapshotMethods } from './controller-snapshots.ts';
import { orProgress } from './copy-progress.ts';
import { parseCapacityForm, parseCreateVolumeForm, parseExpandForm } from './forms.ts';
import type { Implementation } from './handlers.ts';
import { healthMessage, volumeMessage } from './messages.ts';
import {
  accessibleTopology,
  includesNode,
  mentionedNodeIds,
  requireReachable,
} from './topology.ts';
import { parsePage, requireText } from './validate.ts';
import { findRefusal } from './validate-capabilities.ts';
import { combineCapabilities, isFsTypeUnset } from './volume-capability.ts';

type Methods = Implementation<'csi.v1.Controller'>;

/** Implements the Controller service (CSI spec, "Controller Service RPC"). */
export function controllerMethods(context: CsiContext): Methods {
  return {
    ...volumeMethods(context),
    ...sizeMethods(context),
    ...healthMethods(context),
    ...controllerSnapshotMethods(context),

    async ControllerGetCapabilities() {
      const capabilities = controllerCapabilities(context.settings).map(
        (type): ControllerServiceCapability => ({ type: 'rpc', rpc: { type } }),
      );
      return { capabilities };
    },
  };
}

function volumeMethods(context: CsiContext): Methods {
  const { volumes, thisNode } = context;
  const topology = accessibleTopology(thisNode);
  return {
    async CreateVolume(request, call) {
      const volume = await createVolume(context, request, call);
      return { volume: volumeMessage(volume, topology) };
    },

    async DeleteVolume(request, call) {
      await volumes.deleteVolume(call, requireText(request.volume_id, 'volume_id'));
      return {};
    },

    async ValidateVolumeCapabilities(request) {
      const volumeId = requireText(request.volume_id, 'volume_id');
      const requested = {
        capabilities: request.volume_capabilities,
        parameters: { ...request.parameters, ...request.mutable_parameters },
        context: request.volume_context,
      };
      const message = await findRefusal(context, { volumeId, ...requested });
      if (message !== undefined) return { confirmed: null, message };
      const { volume_context, volume_capabilities, parameters, mutable_parameters } = request;
      const confirmed = { volume_context, volume_capabilities, parameters, mutable_parameters };
      return { confirmed, message: '' };
    },

    async ControllerModifyVolume(request, call) {
      const volumeId = requireText(request.volume_id, 'volume_id');
      const settings = parseMutableParameters(request.mutable_parameters);
      await volumes.modifyVolume(call, { volumeId, settings });
      return {};
    },

    async ListVolumes(request) {
      const page = await volumes.listVolumes(parsePage(request));
      const entries = page.entries.map((volume) => ({
        volume: volumeMessage(volume, topology),
        status: null,
      }));
      return { entries, next_token: page.nextToken };
    },

    async ControllerGetVolume(request) {
      const volume = await volumes.getVolume(requireText(request.volume_id, 'volume_id'));
      return { volume: volumeMessage(volume, topology), status: { published_node_ids: [] } };
    },
  };
}

async function createVolume(
  context: CsiContext,
  request: CreateVolumeRequest,
  call: RpcCall,
): Promise<Volume> {
  const { volumes } = context;
  const input = parseCreateVolume(request, context);
  return orProgress(volumes.createVolume(call, input), { volumes, name: input.name, call });
}

function parseCreateVolume(
  request: CreateVolumeRequest,
  { settings, thisNode, remoteSources }: CsiContext,
): CreateVolumeInput {
  const { name, capabilities, range, source } = parseCreateVolumeForm(request);
  const { kind, fsType } = combineCapabilities(capabilities, settings.defaultFstype);
  requireMutable(request.mutable_parameters);
  // Mutable parameters take precedence (CSI spec, "CreateVolume").
  const parameters = { ...request.parameters, ...request.mutable_parameters };
  const volumeSettings = parseParameters(parameters, fsType);
  requireReachable(request.accessibility_requirements, thisNode);
  return {
    name,
    range,
    kind,
    fsType,
    isFsTypeUnset: isFsTypeUnset(capabilities),
    mountFlags: [...new Set(capabilities.flatMap(({ mountFlags }) => mountFlags))],
    settings: volumeSettings,
    parameters,
    source,
    mentionedNodeIds: mentionedNodeIds(request.accessibility_requirements, thisNode),
    remote: source === null ? undefined : remoteSources.take({ source, copyName: name }),
  };
}

/** Methods for the capacity of the node and the growth of volumes. */
function sizeMethods({ settings, volumes, thisNode }: CsiContext): Methods {
  return {
    async GetCapacity(request) {
      const { parameters } = request;
      const { fsType } = combineCapabilities(parseCapacityForm(request), settings.defaultFstype);
      const pool =
        settings.clusterPools === undefined
          ? parsePoolParameter(parameters)
          : parsePoolOfClass(parameters, settings.clusterPools);
      const topology = request.accessible_topology;
      if (topology !== null && !includesNode(topology, thisNode)) {
        return { available_capacity: 0n, maximum_volume_size: null, minimum_volume_size: null };
      }
      // Any other value means thin here; CreateVolume refuses it.
      const provisioning = parameters['provisioning'] === 'thick' ? 'thick' : 'thin';
      const isLimited = hasLimitParameters(parameters);
      const capacity = await volumes.capacity({ pool, provisioning, fsType, isLimited });
      return {
        available_capacity: capacity.availableBytes,
        maximum_volume_size: { value: capacity.maximumVolumeBytes },
        minimum_volume_size: { value: capacity.minimumVolumeBytes },
      };
    },

    async ControllerExpandVolume(request, call) {
      const grown = await volumes.expandVolume(call, parseExpandForm(request));
      return {
        capacity_bytes: grown.sizeBytes,
        node_expansion_required: grown.remaining === 'node-expand',
      };
    },
  };
}

function healthMethods({ volumes }: CsiContext): Methods {
  return {
    async ControllerGetVolumeHealth(request) {
      const volumeId = requireText(request.volume_id, 'volume_id');
      const conditions = await volumes.volumeHealth(volumeId);
      return { volume_health: healthMessage(volumeId, conditions, volumes.ownerOf(volumeId)) };
    },

    async ControllerListVolumeHealth(request) {
      const page = await volumes.listVolumeHealth(parsePage(request));
      const entries = page.entries.map(({ volumeId, conditions }) =>
        healthMessage(volumeId, conditions, volumes.ownerOf(volumeId)),
      );
      return { entries, next_token: page.nextToken };
    },
  };
}
