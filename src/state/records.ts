import * as v from 'valibot';
import { byteCount, decodeJson, encodeJson, looseRecord } from './decode.ts';
import type { FileCalls } from './file-calls.ts';
import { groupId, snapshotId, volumeId } from './ids.ts';

const stringMap = v.record(v.string(), v.string());

/** The last millisecond of the year 9999, the maximum of google.protobuf.Timestamp. */
const maxTimestampMs = 253_402_300_799_999;
/** Milliseconds. A value out of range is clamped, so that a single record never makes a list fail. */
const milliseconds = v.pipe(
  v.number(),
  v.transform((ms) => Math.round(Math.min(Math.max(ms, 0), maxTimestampMs))),
);

/** The source of a volume's content; null if it was created empty. */
const source = v.nullable(
  looseRecord({ kind: v.picklist(['snapshot', 'volume']), id: v.string() }),
);

/** What a volume was imported from. A path may contain other data later, which `state` shows. */
const importSource = looseRecord({
  kind: v.picklist(['directory', 'image', 'stream']),
  /** Empty for a stream. */
  path: v.string(),
  /** `inode:size:mtime` of an image, the fingerprint of a directory (`TreeSize`), or empty for a stream. */
  state: v.string(),
  /** The filesystem in the image kept its UUID. Absent for other sources. */
  keepsUuid: v.optional(v.boolean()),
});
export type ImportSource = Readonly<v.InferOutput<typeof importSource>>;

/** null: not limited. */
const limit = v.optional(v.nullable(byteCount), null);

/** I/O limits of a volume, in bytes and requests per second. */
const limits = looseRecord({
  readBytesPerSecond: limit,
  writeBytesPerSecond: limit,
  readIops: limit,
  writeIops: limit,
});

const volumeFields = {
  name: v.string(),
  kind: v.picklist(['mount', 'block']),
  /** null for a raw block volume. */
  fsType: v.nullable(v.picklist(['ext4', 'xfs', 'btrfs'])),
  /** The UUID of the filesystem when it was created, or when it became one; null for a raw block volume. */
  fsUuid: v.nullable(v.string()),
  provisioning: v.picklist(['thin', 'thick']),
  sectorSize: v.picklist([512, 4096]),
};

/**
 * `volume.json`: what was requested. It does not say what is attached, mounted or allocated, which only the kernel
 * knows.
 */
export const volumeRecord = looseRecord({
  schemaVersion: v.literal(1),
  id: volumeId,
  ...volumeFields,
  /** The kind of the request, if a stage has changed it since (ADR 0032). */
  createdKind: v.optional(volumeFields.kind),
  /** The promised size. The image may be smaller only while the volume grows. */
  sizeBytes: byteCount,
  /**
   * The reached size: the size that the image is known to have reached on the disk. It equals `sizeBytes` except during
   * a growth. A smaller image has been truncated. Absent in records of earlier versions, where it is unknown.
   */
  reachedBytes: v.optional(byteCount),
  trim: v.picklist(['periodic', 'online', 'off']),
  /** Absent in records of earlier versions, whose volumes are not limited. */
  limits: v.optional(limits, {}),
  directIo: v.boolean(),
  mkfsOptions: v.array(v.string()),
  /** The parameters of the request, unchanged. */
  parameters: stringMap,
  source,
  /** Present if the volume was imported, so that a repeated import finds it. */
  importedFrom: v.optional(importSource),
  /** The only target path of an inline volume; null for other volumes. */
  ephemeralTarget: v.nullable(v.string()),
  /** Mount options of a Docker volume (`mountOptions`). CSI requests contain their own instead. */
  mountOptions: v.array(v.string()),
  createdAtMs: milliseconds,
});
export type VolumeRecord = Readonly<v.InferOutput<typeof volumeRecord>>;

/** `snapshot.json`. */
export const snapshotRecord = looseRecord({
  schemaVersion: v.literal(1),
  id: snapshotId,
  ...volumeFields,
  sizeBytes: byteCount,
  sourceVolumeId: volumeId,
  /** The id of the snapshot's group, or null. */
  groupId: v.nullable(groupId),
  /**
   * The uuid of the pool with the group's record, which may be another pool; null if there is no group. Absent in records of
   * earlier versions, which do not say in which pool the group is.
   */
  groupPool: v.optional(v.nullable(v.string()), null),
  /**
   * Present in a member whose group has its record on another node, while it is not known here whether that record was committed. Such a
   * member is not used.
   */
  prepared: v.optional(v.nullable(looseRecord({ attempt: v.string() }))),
  /** `copying` while the image, then named `disk.img.part`, is copied without reflink. */
  state: v.picklist(['copying', 'ready']),
  /** Data for resuming the copy after a restart; null if the snapshot is ready. */
  copy: v.nullable(
    looseRecord({
      /** Bytes that the copy will allocate. They count as promised space. */
      allocatedBytes: byteCount,
      /**
       * st_mtime of the source image, in nanoseconds, when the copy began. The copy is resumed only if it has not
       * changed.
       */
      sourceModifiedNs: v.pipe(v.string(), v.regex(/^\d{1,20}$/)),
    }),
  ),
  /** How many milliseconds the source was frozen; 0 if it was not in use. */
  frozenMs: milliseconds,
  parameters: stringMap,
  createdAtMs: milliseconds,
});
export type SnapshotRecord = Readonly<v.InferOutput<typeof snapshotRecord>>;

/** A member of a group that is on another node than the record of the group. */
const memberElsewhere = looseRecord({
  snapshotId,
  sourceVolumeId: volumeId,
  sizeBytes: byteCount,
  nodeId: v.string(),
});
export type MemberElsewhere = Readonly<v.InferOutput<typeof memberElsewhere>>;

/** `group.json`: the commit of a group snapshot. */
export const groupRecord = looseRecord({
  schemaVersion: v.literal(1),
  id: groupId,
  name: v.string(),
  /** Of all members, also of those on other nodes. */
  sourceVolumeIds: v.array(volumeId),
  snapshotIds: v.array(snapshotId),
  /** Absent if all members are on this node. */
  elsewhere: v.optional(v.array(memberElsewhere), []),
  /** Identifies the taking of a group over several nodes, whose members on other nodes name it while they are prepared. */
  attempt: v.optional(v.string(), ''),
  frozenMs: milliseconds,
  parameters: stringMap,
  createdAtMs: milliseconds,
});
export type GroupRecord = Readonly<v.InferOutput<typeof groupRecord>>;

/** `pool.json`, the marker. It is written once, when the pool is created. */
export const poolMarker = looseRecord({
  schemaVersion: v.literal(1),
  uuid: v.string(),
  /** The node tag of the node that owns the pool: 8 hex digits at the end of every id in the pool. */
  nodeTag: v.pipe(v.string(), v.regex(/^[0-9a-f]{8}$/)),
  createdAtMs: milliseconds,
});
export type PoolMarker = Readonly<v.InferOutput<typeof poolMarker>>;

/**
 * `twin.json`, beside the record of a duplicate. It keeps the entry set aside after a restart, even if the entry in the
 * other pool has since been deleted.
 */
export const duplicateRecord = looseRecord({
  schemaVersion: v.literal(1),
  /** The uuid and name of the pool whose entry is used. */
  usedPool: v.string(),
  usedPoolName: v.string(),
});

/**
 * `trim.json`, beside the record of a volume that is trimmed periodically, so that a driver that is restarted every day
 * trims too.
 */
export const lastTrimRecord = looseRecord({
  schemaVersion: v.literal(1),
  trimmedAtMs: milliseconds,
});
export type LastTrimRecord = Readonly<v.InferOutput<typeof lastTrimRecord>>;

const publication = looseRecord({
  targetPath: v.string(),
  readOnly: v.boolean(),
  accessMode: v.string(),
  mountFlags: v.array(v.string()),
  fsType: v.string(),
  /** The pod of the target path. Absent if the call named none, and in node states of earlier versions. */
  pod: v.optional(looseRecord({ namespace: v.string(), name: v.string(), uid: v.string() })),
  /** Absent in node states of earlier versions. */
  publishedAtMs: v.optional(milliseconds),
});

/**
 * `node.json`, the node state: arguments of stage and publish calls that the kernel does not keep, such as access mode
 * and requested flags. An item is valid only while its mount is in the kernel's mount table. The file is not synced,
 * because mounts do not survive a power failure either.
 */
export const nodeStateSchema = looseRecord({
  schemaVersion: v.literal(1),
  staged: v.nullable(
    looseRecord({
      stagingTargetPath: v.string(),
      accessMode: v.string(),
      mountFlags: v.array(v.string()),
      fsType: v.string(),
    }),
  ),
  published: v.array(publication),
  /** Docker's mount IDs. They remain valid when Docker restarts, and Docker does not send them again. */
  dockerMountIds: v.array(v.string()),
});
export type NodeState = Readonly<v.InferOutput<typeof nodeStateSchema>>;
export type Publication = Readonly<v.InferOutput<typeof publication>>;

/** `copy.json`: progress of copying a snapshot's image. The first `doneBytes` bytes are on the disk. */
export const copyProgress = looseRecord({
  schemaVersion: v.literal(1),
  doneBytes: byteCount,
});

/**
 * `restore.json`, in `tmp/`: progress of copying a snapshot, or an image of other software, to a new volume. The first
 * `doneBytes` bytes are on the disk.
 */
export const restoreProgress = looseRecord({
  schemaVersion: v.literal(1),
  volumeId,
  source: v.union([
    looseRecord({
      snapshotId,
      createdAtMs: v.number(),
      /** `device:inode` of the snapshot's image. A later snapshot with the same name has another value. */
      inode: v.string(),
    }),
    importSource,
    looseRecord({
      kind: v.literal('remote'),
      /** `snapshot:ID` or `volume:ID`. */
      source: v.string(),
      nodeId: v.string(),
      /** Identifies the data, as the other node has told. */
      state: v.string(),
    }),
  ]),
  doneBytes: byteCount,
  /** The digest of what was received from another node so far, in hexadecimal. Absent for copies within this node. */
  digest: v.optional(v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/))),
});
export type RestoreProgress = Readonly<v.InferOutput<typeof restoreProgress>>;

/** Reads and decodes a record. Throws the read error (ENOENT), or `internal` if the record cannot be decoded. */
export async function readRecord<S extends v.GenericSchema>(
  files: FileCalls,
  schema: S,
  path: string,
): Promise<v.InferOutput<S>> {
  return decodeJson(schema, await files.readText(path), path);
}

/** A record to write. Its text is decoded before it is written, so that an unreadable record is never written. */
interface RecordToWrite<S extends v.GenericSchema> {
  readonly schema: S;
  readonly value: v.InferOutput<S>;
}

/** Replaces a record atomically and, by default, durably. */
export async function writeRecord<S extends v.GenericSchema>(
  files: FileCalls,
  path: string,
  { schema, value, durable = true }: RecordToWrite<S> & { readonly durable?: boolean },
): Promise<void> {
  await files.replaceFile(path, encodeRecord(path, { schema, value }), { durable });
}

/** Writes the record of an entry that is not yet committed, without fsync. EEXIST if it exists. */
export async function writeNewRecord<S extends v.GenericSchema>(
  files: FileCalls,
  path: string,
  record: RecordToWrite<S>,
): Promise<void> {
  await files.writeNew(path, encodeRecord(path, record));
}

function encodeRecord<S extends v.GenericSchema>(
  path: string,
  { schema, value }: RecordToWrite<S>,
): string {
  const text = encodeJson(value);
  decodeJson(schema, text, path);
  return text;
}
