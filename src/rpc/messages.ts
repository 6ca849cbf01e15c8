/** Converts the domain's answers to messages of csi.v1. */
import type {
  Snapshot as CsiSnapshot,
  Volume as CsiVolume,
  Timestamp,
  Topology,
  VolumeContentSource,
  VolumeGroupSnapshot,
  VolumeHealth,
  VolumeUsage,
} from '../csi/types.ts';
import type {
  GroupSnapshot,
  Snapshot,
  Volume,
  VolumeCondition,
  VolumeOwner,
  VolumeSource,
  VolumeStats,
} from '../volumes/model.ts';
import { ownerText } from '../volumes/owner.ts';
import { accessibleTopology, type NodeTopology, topologyOfOther } from './topology.ts';

/** Uses the record only, so that every repeated call gets the same answer (CSI spec, "CreateVolume"). */
export function volumeMessage({ record, pool }: Volume, topology: Topology): CsiVolume {
  return {
    volume_id: record.id,
    capacity_bytes: record.sizeBytes,
    volume_context: { pool },
    content_source: record.source === null ? null : sourceMessage(record.source),
    accessible_topology: [topology],
  };
}

function sourceMessage({ kind, id }: VolumeSource): VolumeContentSource {
  return kind === 'snapshot'
    ? { type: 'snapshot', snapshot: { snapshot_id: id } }
    : { type: 'volume', volume: { volume_id: id } };
}

/**
 * Each pair of status and reason appears once (CSI spec, "VolumeHealth"); the messages of repeated pairs are joined. A message
 * names the claim, because a reader of health reports does not know the volume's id.
 */
export function healthMessage(
  volumeId: string,
  conditions: readonly VolumeCondition[],
  owner: VolumeOwner | undefined,
): VolumeHealth {
  const subject = owner === undefined ? '' : `${ownerText(owner)}: `;
  const byPair = new Map<string, VolumeCondition>();
  for (const condition of conditions) {
    const pair = `${condition.status} ${condition.reason}`;
    const earlier = byPair.get(pair);
    const message =
      earlier === undefined
        ? `${subject}${condition.message}`
        : `${earlier.message}; ${condition.message}`;
    byPair.set(pair, { ...condition, message });
  }
  return { volume_id: volumeId, health_statuses: [...byPair.values()] };
}

export function usageMessages(stats: VolumeStats): readonly VolumeUsage[] {
  if (stats.kind === 'block') {
    return [{ unit: 'BYTES', total: stats.totalBytes, used: 0n, available: 0n }];
  }
  return [
    {
      unit: 'BYTES',
      total: stats.totalBytes,
      used: stats.usedBytes,
      available: stats.availableBytes,
    },
    {
      unit: 'INODES',
      total: stats.totalInodes,
      used: stats.usedInodes,
      available: stats.availableInodes,
    },
  ];
}

/**
 * Uses the record only, so that every repeated call gets the time and size of the capture (CSI spec, "CreateSnapshot"). The
 * topology where the snapshot can be restored is always set.
 */
export function snapshotMessage({ record }: Snapshot, topology: Topology): CsiSnapshot {
  return {
    size_bytes: record.sizeBytes,
    snapshot_id: record.id,
    source_volume_id: record.sourceVolumeId,
    creation_time: timestamp(record.createdAtMs),
    ready_to_use: record.state === 'ready',
    group_snapshot_id: record.groupId ?? '',
    accessible_topology: [topology],
  };
}

export function groupMessage(
  { record, snapshots }: GroupSnapshot,
  thisNode: NodeTopology,
): VolumeGroupSnapshot {
  const own = snapshots.map((snapshot) => snapshotMessage(snapshot, accessibleTopology(thisNode)));
  const others = record.elsewhere.map((member): CsiSnapshot => {
    return {
      size_bytes: member.sizeBytes,
      snapshot_id: member.snapshotId,
      source_volume_id: member.sourceVolumeId,
      creation_time: timestamp(record.createdAtMs),
      ready_to_use: true,
      group_snapshot_id: record.id,
      accessible_topology: [accessibleTopology(topologyOfOther(thisNode, member.nodeId))],
    };
  });
  return {
    group_snapshot_id: record.id,
    snapshots: [...own, ...others],
    creation_time: timestamp(record.createdAtMs),
    ready_to_use: snapshots.every((snapshot) => snapshot.record.state === 'ready'),
  };
}

function timestamp(ms: number): Timestamp {
  return { seconds: BigInt(Math.floor(ms / 1000)), nanos: Math.floor(ms % 1000) * 1_000_000 };
}
