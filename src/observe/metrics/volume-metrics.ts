import type {
  Observed,
  ObservedFilesystem,
  ObservedIo,
  ObservedSnapshots,
  ObservedVolume,
} from './observed.ts';
import type { ObservedMetric, Series } from './observed-metric.ts';

/** Metrics with the label `volume`. Names and units of I/O are those of node_exporter's metrics for disks. */

type Value = number | bigint | undefined;

/** Labels of a volume, made once for all its series. */
const labelsOf = new WeakMap<ObservedVolume, Readonly<Record<string, string>>>();

function volumeLabels(pool: string, volume: ObservedVolume): Readonly<Record<string, string>> {
  let labels = labelsOf.get(volume);
  if (labels === undefined) {
    labels = { pool, volume: volume.volumeId };
    labelsOf.set(volume, labels);
  }
  return labels;
}

/** One series for each volume; none if the value is undefined. */
function perVolume(read: (volume: ObservedVolume) => Value) {
  return ({ pools }: Observed): readonly Series[] => {
    const all: Series[] = [];
    for (const { name, images } of pools) {
      for (const volume of images) {
        const value = read(volume);
        if (value === undefined) continue;
        all.push({ labels: volumeLabels(name, volume), value: Number(value) });
      }
    }
    return all;
  };
}

function gauge(name: string, help: string, read: (volume: ObservedVolume) => Value) {
  return { name, help, type: 'gauge', series: perVolume(read) } as const;
}

function ofFilesystem(name: string, help: string, read: (one: ObservedFilesystem) => Value) {
  return gauge(`loopcsi_volume_filesystem_${name}`, help, ({ filesystem }) =>
    filesystem === undefined ? undefined : read(filesystem),
  );
}

function ioCounter(name: string, help: string, read: (io: ObservedIo) => Value): ObservedMetric {
  const series = perVolume(({ io }) => (io === undefined ? undefined : read(io)));
  return { name: `loopcsi_volume_${name}`, help, type: 'counter', series };
}

function ofSnapshots(name: string, help: string, read: (one: ObservedSnapshots) => Value) {
  return gauge(`loopcsi_volume_${name}`, help, ({ snapshots }) =>
    snapshots === undefined ? undefined : read(snapshots),
  );
}

const seconds = (ms: number | undefined): number | undefined =>
  ms === undefined ? undefined : ms / 1000;

/** Joined with other metrics of volumes. Its labels have the names that kube-state-metrics and the kubelet use. */
const volumeInfo: ObservedMetric = {
  name: 'loopcsi_volume_info',
  help: 'Claim and filesystem of a volume; the value is 1',
  type: 'gauge',
  series: ({ pools }) =>
    pools.flatMap(({ name: pool, images }) =>
      images.map(({ volumeId: volume, fsType: filesystem, claim }) => {
        const { namespace = '', persistentVolume: persistentvolume = '' } = claim ?? {};
        const persistentvolumeclaim = claim?.claim ?? '';
        const names = { namespace, persistentvolumeclaim, persistentvolume };
        return { labels: { pool, volume, ...names, filesystem }, value: 1 };
      }),
    ),
};

export const volumeMetrics: readonly ObservedMetric[] = [
  volumeInfo,
  {
    name: 'loopcsi_volume_bytes',
    help: 'Bytes of a volume',
    type: 'gauge',
    series: ({ pools }) =>
      pools.flatMap(({ name: pool, images }) =>
        images.flatMap(({ volumeId: volume, sizeBytes, allocatedBytes }) => [
          { labels: { pool, volume, kind: 'size' }, value: Number(sizeBytes) },
          { labels: { pool, volume, kind: 'allocated' }, value: Number(allocatedBytes) },
        ]),
      ),
  },
  ofFilesystem('size_bytes', 'Size of the mounted filesystem', (one) => one.sizeBytes),
  ofFilesystem('used_bytes', 'Used bytes of the mounted filesystem', (one) => one.usedBytes),
  ofFilesystem(
    'available_bytes',
    'Bytes of the mounted filesystem that unprivileged users may use',
    (one) => one.availableBytes,
  ),
  ofFilesystem('inodes', 'Inodes of the mounted filesystem', (one) => one.inodes),
  ofFilesystem('inodes_used', 'Used inodes of the mounted filesystem', (one) => one.usedInodes),
  ioCounter('reads_completed_total', 'Completed reads', (io) => io.reads),
  ioCounter('read_bytes_total', 'Bytes read', (io) => io.readBytes),
  ioCounter('read_time_seconds_total', 'Sum of the durations of reads', (io) => io.readMs / 1000),
  ioCounter('writes_completed_total', 'Completed writes', (io) => io.writes),
  ioCounter('written_bytes_total', 'Bytes written', (io) => io.writtenBytes),
  ioCounter(
    'write_time_seconds_total',
    'Sum of the durations of writes',
    (io) => io.writeMs / 1000,
  ),
  ioCounter(
    'io_time_seconds_total',
    'Time during which a request was in progress',
    (io) => io.busyMs / 1000,
  ),
  gauge('loopcsi_volume_io_now', 'Requests in progress', ({ io }) => io?.inFlight),
  ofSnapshots('snapshots', 'Snapshots of the volume', ({ count }) => count),
  ofSnapshots(
    'snapshot_bytes',
    'Blocks of the snapshots of the volume, shared ones included',
    ({ allocatedBytes }) => allocatedBytes,
  ),
  ofSnapshots(
    'newest_snapshot_timestamp_seconds',
    'Point in time of the newest snapshot, in seconds since 1970',
    ({ newestAtMs }) => seconds(newestAtMs),
  ),
  gauge(
    'loopcsi_volume_last_trim_timestamp_seconds',
    'Last trim by schedule or command, in seconds since 1970',
    ({ lastTrimAtMs }) => seconds(lastTrimAtMs),
  ),
  {
    name: 'loopcsi_volume_condition',
    help: '1 for each reason for which the volume is unhealthy',
    type: 'gauge',
    series: ({ pools }) =>
      pools.flatMap(({ name: pool, images }) =>
        images.flatMap(({ volumeId: volume, conditions }) =>
          conditions.map((reason) => ({ labels: { pool, volume, reason }, value: 1 })),
        ),
      ),
  },
];
