/** Formats volumes as text and JSON. */
import type { FilesystemUsage, PublishedPod, Timestamp, Volume } from '../csi/admin-types.ts';
import { formatExactBytes } from '../units.ts';
import {
  type Column,
  count,
  formatFields,
  formatPromisedSize,
  formatSize,
  sizeColumns,
} from './output.ts';
import { ownerAsJson, ownerTextOf } from './owner-format.ts';
import { printable } from './printable.ts';
import type { Terminal } from './terminal.ts';

export function dateOf(timestamp: Timestamp | null): Date | undefined {
  if (timestamp === null) return undefined;
  return new Date(Number(timestamp.seconds) * 1000 + Math.floor(timestamp.nanos / 1_000_000));
}

/** Formats a time as ISO 8601 in UTC, with seconds. */
export function formatTime(timestamp: Timestamp | null): string {
  return (
    dateOf(timestamp)
      ?.toISOString()
      .replace(/\.\d+Z$/, 'Z') ?? ''
  );
}

function textOf<T extends string | number>(value: T): string | null {
  return value === '' ? null : value.toString().toLowerCase();
}

/** Returns the filesystem type, or `block`. */
export function formatOf({ kind, fs_type }: Pick<Volume, 'kind' | 'fs_type'>): string {
  return kind === 'BLOCK' ? 'block' : fs_type;
}

function sourceOf(volume: Volume): { readonly kind: string; readonly id: string } | null {
  if (volume.source === undefined) return null;
  return volume.source === 'source_snapshot_id'
    ? { kind: 'snapshot', id: volume.source_snapshot_id }
    : { kind: 'volume', id: volume.source_volume_id };
}

function podAsJson(pod: PublishedPod) {
  return {
    namespace: pod.namespace,
    name: pod.name,
    uid: pod.uid,
    targetPath: pod.target_path,
    since: dateOf(pod.published_at)?.toISOString() ?? null,
  };
}

/** The limits by the names of the parameters; null: not limited. */
function limitsOf({ io_limits: limits }: Pick<Volume, 'io_limits'>) {
  const limitOrNull = (limit: bigint | undefined): bigint | null =>
    limit === undefined || limit === 0n ? null : limit;
  return {
    readBytesPerSecond: limitOrNull(limits?.read_bytes_per_second),
    writeBytesPerSecond: limitOrNull(limits?.write_bytes_per_second),
    readIops: limitOrNull(limits?.read_iops),
    writeIops: limitOrNull(limits?.write_iops),
  };
}

/** The limits of a volume as text, such as `read 10 MiB/s, write 500 IOPS`; empty for a volume without limits. */
export function limitsText(volume: Pick<Volume, 'io_limits'>): string {
  const { readBytesPerSecond, writeBytesPerSecond, readIops, writeIops } = limitsOf(volume);
  const rate = (what: string, bytes: bigint | null): readonly string[] =>
    bytes === null ? [] : [`${what} ${formatExactBytes(bytes)}/s`];
  const requests = (what: string, iops: bigint | null): readonly string[] =>
    iops === null ? [] : [`${what} ${iops} IOPS`];
  return [
    ...rate('read', readBytesPerSecond),
    ...requests('read', readIops),
    ...rate('write', writeBytesPerSecond),
    ...requests('write', writeIops),
  ].join(', ');
}

/** docs/command-line.md lists the keys. */
export function volumeAsJson(volume: Volume) {
  return {
    id: volume.volume_id,
    name: volume.name,
    owner: ownerAsJson(volume),
    pool: volume.pool,
    kind: textOf(volume.kind),
    fsType: textOf(volume.fs_type),
    sizeBytes: volume.size_bytes,
    allocatedBytes: volume.allocated_bytes,
    filesystemBytes: volume.filesystem?.total_bytes ?? null,
    usedBytes: volume.filesystem?.used_bytes ?? null,
    provisioning: textOf(volume.provisioning),
    sectorSize: volume.sector_size,
    createdAt: dateOf(volume.created_at)?.toISOString() ?? null,
    source: sourceOf(volume),
    trim: textOf(volume.trim),
    limits: limitsOf(volume),
    stagedAt: volume.staged_at,
    publishedAt: volume.published_at,
    pods: volume.pods.map(podAsJson),
    mountIds: volume.mount_ids,
    loopDevice: textOf(volume.loop_device),
    directIo: volume.loop_device === '' ? null : volume.direct_io,
    readerDevices: volume.reader_devices,
    ephemeral: volume.ephemeral,
    fsUuid: textOf(volume.fs_uuid),
    imagePath: volume.image_path,
    problems: volume.problems.map(({ status, reason, message }) => ({ status, reason, message })),
  };
}

/** Returns `ok`, or the status of the worst problem. */
function healthOf({ problems }: Volume): string {
  const order = ['DATA_LOSS', 'INACCESSIBLE', 'DEGRADED'];
  const worst = order.find((status) => problems.some((problem) => problem.status === status));
  return problems.length === 0 ? 'ok' : (worst ?? 'DEGRADED').toLowerCase().replace('_', ' ');
}

export const volumeColumns: readonly Column<Volume>[] = [
  { title: 'NAME', text: ({ name, ephemeral }) => (ephemeral ? `${name} (inline)` : name) },
  { title: 'CLAIM', text: ownerTextOf, isOptional: true },
  ...sizeColumns,
  {
    title: 'USED',
    align: 'right',
    text: ({ filesystem }) => (filesystem === null ? '' : formatSize(filesystem.used_bytes)),
    sortBy: ({ filesystem }) => filesystem?.used_bytes ?? -1n,
    isWide: true,
  },
  { title: 'FORMAT', text: formatOf },
  { title: 'POOL', text: ({ pool }) => pool },
  { title: 'HEALTH', text: healthOf },
  { title: 'POD', text: ({ pods }) => firstOf(pods.map(({ name }) => name)), isOptional: true },
  {
    title: 'MOUNTED AT',
    text: mountedAtText,
    shrinks: true,
  },
  { title: 'ID', text: ({ volume_id }) => volume_id, isWide: true },
  { title: 'PROVISIONING', text: ({ provisioning }) => textOf(provisioning) ?? '', isWide: true },
  { title: 'DEVICE', text: ({ loop_device }) => loop_device, isWide: true },
  { title: 'CREATED', text: ({ created_at }) => formatTime(created_at), isWide: true },
  { title: 'SOURCE', text: (volume) => sourceOf(volume)?.id ?? '', isWide: true },
  { title: 'LIMITS', text: limitsText, isWide: true },
];

/** The target paths. Docker's containers mount the staging path themselves. */
function mountedAtText({ published_at, staged_at, mount_ids }: Volume): string {
  if (published_at.length > 0) return firstOf(published_at);
  if (mount_ids.length > 0) return `(Docker, ${count(mount_ids.length, 'container')})`;
  return staged_at.length > 0 ? '(staged)' : '';
}

/** The first text, and the number of the others. */
function firstOf([first = '', ...others]: readonly string[]): string {
  return others.length === 0 ? first : `${first} (+${others.length})`;
}

interface User {
  readonly name: string;
  /** null for a block device that is stacked on the volume's. */
  readonly pid: number | null;
  /** null for a process outside of containers. */
  readonly containerId: string | null;
}

export function describeVolume(
  terminal: Terminal,
  volume: Volume,
  { users = [], readers = [] }: { users?: readonly User[]; readers?: readonly string[] } = {},
): string {
  const source = sourceOf(volume);
  const isAttached = volume.loop_device !== '';
  return formatFields(terminal, [
    ['Name', volume.name],
    ['Id', volume.volume_id],
    [volume.owner?.claim === '' ? 'Inline volume of' : 'Claim', ownerTextOf(volume)],
    ['Persistent volume', volume.owner?.persistent_volume ?? ''],
    ['Pool', volume.pool],
    ['Size', formatPromisedSize(volume.size_bytes)],
    ['Allocated', `${formatSize(volume.allocated_bytes)} (${textOf(volume.provisioning) ?? ''})`],
    ['Used', volume.filesystem === null ? '' : usedText(volume.filesystem)],
    ['Format', formatOf(volume)],
    ['Filesystem UUID', volume.fs_uuid],
    ['Sector size', volume.sector_size.toString()],
    ['Created', dateOf(volume.created_at)?.toISOString() ?? ''],
    ['Source', source === null ? '' : `${source.kind} ${source.id}`],
    ['Trim', volume.trim],
    ['I/O limits', limitsText(volume)],
    ['Loop device', isAttached ? deviceText(volume) : ''],
    [
      'Also attached',
      volume.reader_devices.map((path) => `${path} (read-only, by other software)`),
    ],
    ['Staged at', volume.staged_at],
    ['Mounted at', volume.published_at],
    ['Pods', volume.pods.map(podText)],
    ['Docker mount IDs', volume.mount_ids],
    ['Used by', users.map(userText)],
    ['Copied by', readers],
    ['Image', volume.image_path],
    [
      'Health',
      volume.problems.length === 0
        ? 'ok'
        : volume.problems.map(({ status, reason, message }) => `${status} ${reason}: ${message}`),
    ],
  ]);
}

function usedText({ used_bytes, total_bytes }: FilesystemUsage): string {
  return `${formatSize(used_bytes)} of ${formatSize(total_bytes)}`;
}

/** Container ids have the length that `docker ps` and `crictl ps` show. */
function userText({ name, pid, containerId }: User): string {
  const container = containerId === null ? '' : `, container ${containerId.slice(0, 12)}`;
  return pid === null ? name : `${name} (pid ${pid}${container})`;
}

function podText({ namespace, name, published_at }: PublishedPod): string {
  const since = dateOf(published_at)?.toISOString();
  return `${namespace}/${name}${since === undefined ? '' : `, since ${since}`}`;
}

function deviceText({ loop_device, direct_io }: Volume): string {
  return `${loop_device} (${direct_io ? 'direct I/O' : 'buffered I/O'})`;
}

type Expanded = Pick<Volume, 'name' | 'size_bytes' | 'fs_type' | 'staged_at' | 'published_at'>;

/** `atNextMount`: the image has grown, but its filesystem will only grow at the next mount. */
export function expansionMessage(volume: Expanded, atNextMount: boolean): string {
  const { name, size_bytes, fs_type, published_at, staged_at } = volume;
  const result = `The size of volume '${printable(name)}' is now ${formatPromisedSize(size_bytes)}`;
  if (!atNextMount) return `${result}.`;
  if (published_at.length + staged_at.length === 0) {
    return `${result}. It is not mounted: its ${fs_type} filesystem grows when it is mounted.`;
  }
  const remedy =
    published_at.length > 0
      ? 'Unmount the volume and mount it again'
      : 'Restart the pods or containers that use it';
  return `${result}, but its ${fs_type} filesystem cannot grow while mounted, because the driver lacks CAP_SYS_RESOURCE. ${remedy}.`;
}
