/** The domain's answers as messages of csi.v1. */
import type {
  Volume as CsiVolume,
  Topology,
  VolumeContentSource,
  VolumeHealth,
  VolumeUsage,
} from '../csi/types.ts';
import type { HealthSign, Volume, VolumeSource, VolumeStats } from '../volumes/model.ts';

/** From the record alone, so that every repetition answers the same (CSI spec, "CreateVolume"). */
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

/** No pair of status and reason twice (CSI spec, "VolumeHealth"): what else was said joins the first message. */
export function healthMessage(volumeId: string, signs: readonly HealthSign[]): VolumeHealth {
  const byPair = new Map<string, HealthSign>();
  for (const sign of signs) {
    const pair = `${sign.status} ${sign.reason}`;
    const before = byPair.get(pair);
    const message = before === undefined ? sign.message : `${before.message}; ${sign.message}`;
    byPair.set(pair, { ...sign, message });
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
