/**
 * The table of capabilities and calls that the driver offers. Each row contains a capability, its calls, and the condition
 * under which they are offered. The responses of the capability calls and the set of served calls are both derived from this
 * table, so that no capability is advertised without its calls.
 */
import type { MethodName, ServiceName } from '../csi/rpc-types.ts';
import type {
  ControllerServiceCapabilityRPCType,
  GroupControllerServiceCapabilityRPCType,
  NodeServiceCapabilityRPCType,
  PluginCapabilityServiceType,
} from '../csi/types.ts';

/** The options that change which capabilities and calls are offered. */
export interface Features {
  /** With `node`, ControllerExpandVolume is not offered, and NodeExpandVolume grows volumes. */
  readonly expansion: 'both' | 'node';
  readonly withoutStaging: boolean;
}

/** Determines the log level of a call. Clients send `polling` calls every few seconds. */
export type LogClass = 'change' | 'read' | 'polling';

interface Row<N extends ServiceName, C extends string> {
  /** Absent for calls that every plugin with this service must offer. */
  readonly capability?: Exclude<C, 'UNKNOWN'>;
  readonly calls: { readonly [M in MethodName<N>]?: LogClass };
  /** Absent if the calls are always offered. */
  readonly offered?: (features: Features) => boolean;
}

const never = (): boolean => false;

const identity: readonly Row<'csi.v1.Identity', PluginCapabilityServiceType>[] = [
  { calls: { GetPluginInfo: 'polling', GetPluginCapabilities: 'polling', Probe: 'polling' } },
  { capability: 'CONTROLLER_SERVICE', calls: {} },
  { capability: 'VOLUME_ACCESSIBILITY_CONSTRAINTS', calls: {} },
  { capability: 'GROUP_CONTROLLER_SERVICE', calls: {} },
  { capability: 'SNAPSHOT_METADATA_SERVICE', calls: {} },
  { capability: 'SNAPSHOT_ACCESSIBILITY_CONSTRAINTS', calls: {} },
];

const controller: readonly Row<'csi.v1.Controller', ControllerServiceCapabilityRPCType>[] = [
  { calls: { ControllerGetCapabilities: 'polling', ValidateVolumeCapabilities: 'read' } },
  {
    capability: 'CREATE_DELETE_VOLUME',
    calls: { CreateVolume: 'change', DeleteVolume: 'change' },
  },
  { capability: 'LIST_VOLUMES', calls: { ListVolumes: 'read' } },
  { capability: 'GET_CAPACITY', calls: { GetCapacity: 'read' } },
  {
    capability: 'EXPAND_VOLUME',
    calls: { ControllerExpandVolume: 'change' },
    offered: ({ expansion }) => expansion === 'both',
  },
  { capability: 'GET_VOLUME', calls: { ControllerGetVolume: 'read' } },
  { capability: 'SINGLE_NODE_MULTI_WRITER', calls: {} },
  { capability: 'GET_VOLUME_HEALTH', calls: { ControllerGetVolumeHealth: 'read' } },
  { capability: 'LIST_VOLUME_HEALTH', calls: { ControllerListVolumeHealth: 'read' } },
  {
    capability: 'CREATE_DELETE_SNAPSHOT',
    calls: { CreateSnapshot: 'change', DeleteSnapshot: 'change' },
  },
  { capability: 'LIST_SNAPSHOTS', calls: { ListSnapshots: 'read' } },
  { capability: 'GET_SNAPSHOT', calls: { GetSnapshot: 'read' } },
  { capability: 'CLONE_VOLUME', calls: {} },
  { capability: 'MODIFY_VOLUME', calls: { ControllerModifyVolume: 'change' } },
  // A volume can only be used on the node where it was created, so there is nothing to attach.
  {
    capability: 'PUBLISH_UNPUBLISH_VOLUME',
    calls: { ControllerPublishVolume: 'change', ControllerUnpublishVolume: 'change' },
    offered: never,
  },
];

const group: readonly Row<'csi.v1.GroupController', GroupControllerServiceCapabilityRPCType>[] = [
  { calls: { GroupControllerGetCapabilities: 'polling' } },
  {
    capability: 'CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT',
    calls: {
      CreateVolumeGroupSnapshot: 'change',
      DeleteVolumeGroupSnapshot: 'change',
      GetVolumeGroupSnapshot: 'read',
    },
  },
];

const metadata: readonly Row<'csi.v1.SnapshotMetadata', never>[] = [
  { calls: { GetMetadataAllocated: 'read', GetMetadataDelta: 'read' } },
];

const node: readonly Row<'csi.v1.Node', NodeServiceCapabilityRPCType>[] = [
  {
    calls: {
      NodeGetCapabilities: 'polling',
      NodeGetInfo: 'polling',
      NodePublishVolume: 'change',
      NodeUnpublishVolume: 'change',
    },
  },
  {
    capability: 'STAGE_UNSTAGE_VOLUME',
    calls: { NodeStageVolume: 'change', NodeUnstageVolume: 'change' },
    offered: ({ withoutStaging }) => !withoutStaging,
  },
  { capability: 'GET_VOLUME_STATS', calls: { NodeGetVolumeStats: 'read' } },
  { capability: 'EXPAND_VOLUME', calls: { NodeExpandVolume: 'change' } },
  { capability: 'SINGLE_NODE_MULTI_WRITER', calls: {} },
  { capability: 'GET_VOLUME_HEALTH', calls: { NodeGetVolumeHealth: 'read' } },
  { capability: 'GET_STORAGE_HEALTH', calls: { NodeGetStorageHealth: 'read' } },
];

/** The rows of each service of csi.v1. */
export const advertised = {
  'csi.v1.Identity': identity,
  'csi.v1.Controller': controller,
  'csi.v1.GroupController': group,
  'csi.v1.SnapshotMetadata': metadata,
  'csi.v1.Node': node,
} as const;

export type CsiServiceName = keyof typeof advertised;

interface AnyRow {
  readonly capability?: string;
  readonly calls: Readonly<Record<string, LogClass | undefined>>;
  readonly offered?: (features: Features) => boolean;
}

/** Returns the log class of each call of a service, and whether the call is offered. */
export function offeredCalls(
  service: CsiServiceName,
  features: Features,
): ReadonlyMap<string, { readonly logClass: LogClass; readonly offered: boolean }> {
  const rows: readonly AnyRow[] = advertised[service];
  const calls = rows.flatMap(({ calls: own, offered }) =>
    Object.entries(own).map(
      ([rpc, logClass]) =>
        [rpc, { logClass: logClass ?? 'read', offered: offered?.(features) ?? true }] as const,
    ),
  );
  return new Map(calls);
}

function offeredIn<C extends string>(
  rows: readonly { readonly capability?: C; readonly offered?: (f: Features) => boolean }[],
  features: Features,
): readonly C[] {
  return rows.flatMap(({ capability, offered }) =>
    capability !== undefined && (offered?.(features) ?? true) ? [capability] : [],
  );
}

export const pluginServices = (features: Features) => offeredIn(identity, features);
export const controllerCapabilities = (features: Features) => offeredIn(controller, features);
export const groupCapabilities = (features: Features) => offeredIn(group, features);
export const nodeCapabilities = (features: Features) => offeredIn(node, features);
