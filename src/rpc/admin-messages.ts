/** Converts the domain's answers to messages of loopcsi.v1. */
import type {
  Check,
  Copy,
  FilesystemUsage,
  GroupSnapshot,
  IoLimits as IoLimitsMessage,
  Pool,
  PoolAbilities,
  Snapshot,
  SnapshotOwner,
  VolumeUsage as UsageMessage,
  Volume,
  VolumeIo,
  VolumeOwner,
  VolumeUser,
} from '../csi/admin-types.ts';
import type { Capacity, IoCounters, IoLimits } from '../host/host.ts';
import type { Finding } from '../volumes/admin/doctor.ts';
import type { SnapshotFacts, VolumeFacts, VolumeUsers } from '../volumes/admin/inspect.ts';
import type { PoolFacts } from '../volumes/admin/pools/facts.ts';
import type { MeasuredVolume, VolumeUsage } from '../volumes/admin/usage.ts';
import type { GroupSnapshot as GroupOfVolumes, RunningCopy } from '../volumes/model.ts';
import { snapshotOwnerOf } from '../volumes/owner.ts';
import { capacityTermsOf } from '../volumes/pool/space.ts';

export function poolMessage(facts: PoolFacts): Pool {
  const { settings, problem, space, abilities, marker } = facts;
  const terms = space === undefined ? undefined : capacityTermsOf(space);
  return {
    name: settings.name,
    path: settings.path,
    state: problem === undefined ? 'SERVED' : 'UNAVAILABLE',
    reason: problem ?? '',
    fs_type: abilities?.filesystem ?? '',
    abilities: abilities === undefined ? null : abilitiesMessage(abilities),
    total_bytes: space?.totalBytes ?? 0n,
    free_bytes: space?.freeBytes ?? 0n,
    promised_bytes: space === undefined ? 0n : space.promisedBytes + space.snapshotBytes,
    room_bytes: facts.capacityBytes,
    allocated_bytes: space === undefined ? 0n : space.allocatedBytes - space.trashBytes,
    trash_bytes: space?.trashBytes ?? 0n,
    volume_count: facts.volumeCount,
    snapshot_count: facts.snapshotCount,
    node_tag: marker?.nodeTag ?? '',
    uuid: marker?.uuid ?? '',
    overcommit: settings.overcommitPerMille / 1000,
    reserve_bytes: space?.reserveBytes ?? 0n,
    embedded: facts.isEmbedded,
    other_bytes: terms?.otherBytes ?? 0n,
    volume_bytes: terms?.volumeBytes ?? 0n,
    snapshot_bytes: terms?.snapshotBytes ?? 0n,
    in_flight_bytes: terms?.inFlightBytes ?? 0n,
    blocks_bytes: terms?.blocksBytes ?? 0n,
    held_back_bytes: terms?.heldBackBytes ?? 0n,
    never_read: !facts.wasRead,
  };
}

function abilitiesMessage({
  reflink,
  directIo,
  discard,
}: NonNullable<PoolFacts['abilities']>): PoolAbilities {
  return { reflink, direct_io: directIo, discard };
}

export function adminVolumeMessage(facts: VolumeFacts | MeasuredVolume): Volume {
  const { record, device } = facts;
  const filesystem = 'filesystem' in facts ? facts.filesystem : undefined;
  return {
    volume_id: facts.isEphemeral ? record.name : record.id,
    name: record.name,
    pool: facts.pool,
    kind: record.kind === 'block' ? 'BLOCK' : 'MOUNT',
    fs_type: record.fsType ?? '',
    size_bytes: record.sizeBytes,
    allocated_bytes: facts.allocatedBytes,
    provisioning: record.provisioning === 'thick' ? 'THICK' : 'THIN',
    sector_size: record.sectorSize,
    created_at: timestampOf(record.createdAtMs),
    ...sourceField(record.source),
    staged_at: facts.stagedAt,
    published_at: facts.publishedAt,
    loop_device: device?.path ?? '',
    direct_io: device?.directIo ?? false,
    ephemeral: facts.isEphemeral,
    problems: facts.conditions,
    fs_uuid: record.fsUuid ?? '',
    image_path: facts.imagePath,
    owner: facts.owner === undefined ? null : volumeOwnerMessage(facts.owner),
    pods: facts.pods.map(({ namespace, name, uid, targetPath, publishedAtMs }) => ({
      namespace,
      name,
      uid,
      target_path: targetPath,
      published_at: publishedAtMs === undefined ? null : timestampOf(publishedAtMs),
    })),
    mount_ids: facts.mountIds,
    reader_devices: facts.readers.map(({ path }) => path),
    trim: record.trim,
    io_limits: limitsMessage(record.limits),
    filesystem: filesystem === undefined ? null : filesystemMessage(filesystem),
  };
}

function limitsMessage(limits: IoLimits): IoLimitsMessage {
  return {
    read_bytes_per_second: limits.readBytesPerSecond ?? 0n,
    write_bytes_per_second: limits.writeBytesPerSecond ?? 0n,
    read_iops: limits.readIops ?? 0n,
    write_iops: limits.writeIops ?? 0n,
  };
}

function volumeOwnerMessage(owner: NonNullable<VolumeFacts['owner']>): VolumeOwner {
  const { namespace, claim, persistentVolume: persistent_volume, pod } = owner;
  return { namespace, claim, persistent_volume, pod };
}

function sourceField(source: VolumeFacts['record']['source']) {
  if (source === null) return {};
  return source.kind === 'snapshot'
    ? ({ source: 'source_snapshot_id', source_snapshot_id: source.id } as const)
    : ({ source: 'source_volume_id', source_volume_id: source.id } as const);
}

export function adminSnapshotMessage({
  record,
  pool,
  owner,
  sourceVolumeName,
  allocatedBytes,
  progress,
}: SnapshotFacts): Snapshot {
  return {
    snapshot_id: record.id,
    name: record.name,
    source_volume_id: record.sourceVolumeId,
    source_volume_name: sourceVolumeName ?? '',
    pool,
    size_bytes: record.sizeBytes,
    allocated_bytes: allocatedBytes,
    created_at: timestampOf(record.createdAtMs),
    ready: progress.ready,
    done_bytes: progress.doneBytes,
    total_bytes: progress.totalBytes,
    group_snapshot_id: record.groupId ?? '',
    kind: record.kind === 'block' ? 'BLOCK' : 'MOUNT',
    fs_type: record.fsType ?? '',
    frozen_ms: BigInt(Math.round(record.frozenMs)),
    owner: owner === undefined ? null : snapshotOwnerMessage(owner),
  };
}

function snapshotOwnerMessage(owner: NonNullable<SnapshotFacts['owner']>): SnapshotOwner {
  return {
    namespace: owner.namespace,
    volume_snapshot: owner.volumeSnapshot,
    volume_snapshot_content: owner.volumeSnapshotContent,
    volume_group_snapshot: owner.volumeGroupSnapshot,
  };
}

export function userMessages({ processes, devices }: VolumeUsers): VolumeUser[] {
  return [
    ...devices.map((name) => ({ name, pid: 0, container_id: '' })),
    ...processes.map(({ command, pid, containerId = '' }) => ({
      name: command,
      pid,
      container_id: containerId,
    })),
  ];
}

const checkStates = { ok: 'OK', warn: 'WARN', fail: 'FAIL' } as const;

export function checkMessage({ name, state, message, remedy }: Finding): Check {
  return { name, state: checkStates[state], message, remedy };
}

export function copyMessage(copy: RunningCopy): Copy {
  const { kind, id } = copy.source;
  return {
    direction: copy.direction,
    ...{ source_kind: kind, source_id: id },
    copy_name: copy.copyName,
    peer: copy.peer,
    waiting: copy.isWaiting,
    done_bytes: copy.doneBytes,
    total_bytes: copy.totalBytes,
  };
}

function timestampOf(ms: number): { readonly seconds: bigint; readonly nanos: number } {
  return { seconds: BigInt(Math.floor(ms / 1000)), nanos: (ms % 1000) * 1_000_000 };
}

export function adminGroupMessage(record: GroupOfVolumes['record']): GroupSnapshot {
  const owner = snapshotOwnerOf(record);
  return {
    group_snapshot_id: record.id,
    name: record.name,
    snapshot_ids: record.snapshotIds,
    source_volume_ids: record.sourceVolumeIds,
    created_at: timestampOf(record.createdAtMs),
    frozen_ms: BigInt(record.frozenMs),
    owner: owner === undefined ? null : snapshotOwnerMessage(owner),
  };
}

export function usageMessage({
  record,
  isEphemeral,
  pool,
  owner,
  allocatedBytes,
  filesystem,
  io,
}: VolumeUsage): UsageMessage {
  return {
    volume_id: isEphemeral ? record.name : record.id,
    name: record.name,
    pool,
    size_bytes: record.sizeBytes,
    allocated_bytes: allocatedBytes,
    filesystem: filesystem === undefined ? null : filesystemMessage(filesystem),
    io: io === undefined ? null : ioMessage(io),
    owner: owner === undefined ? null : volumeOwnerMessage(owner),
  };
}

function filesystemMessage({ totalBytes, freeBytes }: Capacity): FilesystemUsage {
  return { total_bytes: totalBytes, used_bytes: totalBytes - freeBytes };
}

function ioMessage(io: IoCounters): VolumeIo {
  return {
    reads: BigInt(io.reads),
    read_bytes: io.readBytes,
    read_ms: BigInt(io.readMs),
    writes: BigInt(io.writes),
    written_bytes: io.writtenBytes,
    write_ms: BigInt(io.writeMs),
    busy_ms: BigInt(io.busyMs),
    in_flight: BigInt(io.inFlight),
  };
}
