import type {
  Snapshot as CsiSnapshot,
  Timestamp,
  Topology,
  VolumeGroupSnapshot,
} from '../csi/types.ts';
import type { GroupSnapshot, Snapshot } from '../volumes/model.ts';

/**
 * From the record alone: time and size are those of the cut, however often it is asked for (CSI spec, "CreateSnapshot"). It
 * always says where it can be restored.
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
  topology: Topology,
): VolumeGroupSnapshot {
  return {
    group_snapshot_id: record.id,
    snapshots: snapshots.map((snapshot) => snapshotMessage(snapshot, topology)),
    creation_time: timestamp(record.createdAtMs),
    ready_to_use: snapshots.every((snapshot) => snapshot.record.state === 'ready'),
  };
}

function timestamp(ms: number): Timestamp {
  return { seconds: BigInt(Math.floor(ms / 1000)), nanos: Math.floor(ms % 1000) * 1_000_000 };
}
