import * as v from 'valibot';
import { byteCount, decodeJson, encodeJson, looseRecord } from './decode.ts';
import type { RecordFiles } from './record-files.ts';

const stringMap = v.record(v.string(), v.string());

/** The last millisecond of the year 9999: no calendar of a front goes further (google.protobuf.Timestamp). */
const lastMomentMs = 253_402_300_799_999;
/** Milliseconds; a number that is no moment becomes the nearest one, so that one record never fails a list of all. */
const momentMs = v.pipe(
  v.number(),
  v.transform((ms) => Math.round(Math.min(Math.max(ms, 0), lastMomentMs))),
);

/** Where the first bytes of a volume came from. */
const source = v.nullable(
  looseRecord({ kind: v.picklist(['snapshot', 'volume']), id: v.string() }),
);

const volumeFields = {
  name: v.string(),
  kind: v.picklist(['mount', 'block']),
  /** null for a raw block volume. */
  fsType: v.nullable(v.picklist(['ext4', 'xfs', 'btrfs'])),
  /** UUID of the filesystem as it was made; null for raw block. */
  fsUuid: v.nullable(v.string()),
  provisioning: v.picklist(['thin', 'thick']),
  sectorSize: v.picklist([512, 4096]),
};

/** `volume.json`: what was asked for. What is attached, mounted or allocated is asked from the kernel. */
export const volumeRecord = looseRecord({
  schemaVersion: v.literal(1),
  id: v.string(),
  ...volumeFields,
  /** The promise. The image may be smaller for a moment while the volume grows, never larger for long. */
  sizeBytes: byteCount,
  /**
   * The size that the image was last known to have, on the disk: `sizeBytes` but while a growth is under way. An image that is
   * smaller has been truncated. Absent in records of earlier versions: not known.
   */
  reachedBytes: v.optional(byteCount),
  trim: v.picklist(['periodic', 'online', 'off']),
  directIo: v.boolean(),
  mkfsOptions: v.array(v.string()),
  /** The parameters of the request, as they came. */
  parameters: stringMap,
  source,
  /** Set for inline ephemeral volumes: the only target they are published at. */
  ephemeralTarget: v.nullable(v.string()),
  /** Mount options that are part of the volume (Docker's `mountOptions`); a CSI request brings its own. */
  mountOptions: v.array(v.string()),
  createdAtMs: momentMs,
});
export type VolumeRecord = Readonly<v.InferOutput<typeof volumeRecord>>;

/** `snapshot.json`. */
export const snapshotRecord = looseRecord({
  schemaVersion: v.literal(1),
  id: v.string(),
  ...volumeFields,
  sizeBytes: byteCount,
  sourceVolumeId: v.string(),
  /** Group this snapshot is a member of, or null. */
  groupId: v.nullable(v.string()),
  /** Uuid of the pool that holds the group's record, which may be another one; null without a group. */
  groupPool: v.nullable(v.string()),
  /** `copying` while a long copy without reflink runs: the image is then `disk.img.part`. */
  state: v.picklist(['copying', 'ready']),
  /** What a copy under way needs to go on after a restart; null when it is ready. */
  copy: v.nullable(
    looseRecord({
      /** Bytes the copy will allocate: room is kept for them. */
      allocatedBytes: byteCount,
      /** st_mtime of the source's image in nanoseconds when the copy began: the copy goes on only while it is the same. */
      sourceModifiedNs: v.pipe(v.string(), v.regex(/^\d{1,20}$/)),
    }),
  ),
  /** Milliseconds the source stood still for the cut; 0 when it was idle. */
  frozenMs: momentMs,
  parameters: stringMap,
  createdAtMs: momentMs,
});
export type SnapshotRecord = Readonly<v.InferOutput<typeof snapshotRecord>>;

/** `group.json`: the commit of a group snapshot. */
export const groupRecord = looseRecord({
  schemaVersion: v.literal(1),
  id: v.string(),
  name: v.string(),
  sourceVolumeIds: v.array(v.string()),
  snapshotIds: v.array(v.string()),
  frozenMs: momentMs,
  parameters: stringMap,
  createdAtMs: momentMs,
});
export type GroupRecord = Readonly<v.InferOutput<typeof groupRecord>>;

/** `pool.json`: written once, at the pool's first init. */
export const poolMarker = looseRecord({
  schemaVersion: v.literal(1),
  uuid: v.string(),
  /** The node whose volumes these are: 8 hexadecimal digits, the end of every id. */
  nodeTag: v.pipe(v.string(), v.regex(/^[0-9a-f]{8}$/)),
  createdAtMs: momentMs,
});
export type PoolMarker = Readonly<v.InferOutput<typeof poolMarker>>;

/**
 * `twin.json`, beside the record of an entry whose id another pool uses: it stays set aside over restarts, also when the
 * other one is deleted meanwhile.
 */
export const twinNote = looseRecord({
  schemaVersion: v.literal(1),
  /** The pool whose entry is used, by uuid and by the name it had. */
  usedPool: v.string(),
  usedPoolName: v.string(),
});

const publication = looseRecord({
  targetPath: v.string(),
  readOnly: v.boolean(),
  accessMode: v.string(),
  mountFlags: v.array(v.string()),
  fsType: v.string(),
});

/**
 * `node.json`: the arguments of the stage and publish calls, which the kernel does not keep (access mode, flags as asked).
 * It says what was asked, never what is: an entry counts only while the kernel shows its mount. Not fsynced, since mounts do
 * not outlive a power cut.
 */
export const nodeRecord = looseRecord({
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
  /** Mount ids of Docker, which come back after its restart and are not told again. */
  dockerMountIds: v.array(v.string()),
});
export type NodeRecord = Readonly<v.InferOutput<typeof nodeRecord>>;
export type Publication = Readonly<v.InferOutput<typeof publication>>;

/** Reads and decodes a record. Throws what reading throws (ENOENT), or `internal` when it does not decode. */
export async function readRecord<S extends v.GenericSchema>(
  files: RecordFiles,
  schema: S,
  path: string,
): Promise<v.InferOutput<S>> {
  return decodeJson(schema, await files.readText(path), path);
}

/** What is written: the value is decoded once more first, so nothing unreadable ever is. */
interface Written<S extends v.GenericSchema> {
  readonly schema: S;
  readonly value: v.InferOutput<S>;
}

/** Replaces a record atomically and, unless told otherwise, durably. */
export async function writeRecord<S extends v.GenericSchema>(
  files: RecordFiles,
  path: string,
  { schema, value, durable = true }: Written<S> & { readonly durable?: boolean },
): Promise<void> {
  await files.replaceFile(path, textOf(path, { schema, value }), { durable });
}

/** Writes a record into a directory that nobody reads yet; not synced. EEXIST when it is there. */
export async function writeNewRecord<S extends v.GenericSchema>(
  files: RecordFiles,
  path: string,
  written: Written<S>,
): Promise<void> {
  await files.writeNew(path, textOf(path, written));
}

function textOf<S extends v.GenericSchema>(path: string, { schema, value }: Written<S>): string {
  const text = encodeJson(value);
  decodeJson(schema, text, path);
  return text;
}
