/**
 * The directories and files of a pool (docs/design.md, "On disk"; a test compares the two). Only this file and state/ contain their
 * names.
 */

/** The directories whose entries have records. */
export const recordAreas = ['volumes', 'ephemeral', 'snapshots', 'groups'] as const;
export type RecordArea = (typeof recordAreas)[number];

/** The directories whose entries are volumes. */
export const volumeAreas = ['volumes', 'ephemeral'] as const;
export type VolumeArea = (typeof volumeAreas)[number];

/** All directories of a pool. */
export const poolAreas = [...recordAreas, 'tmp', 'trash'] as const;
export type PoolArea = (typeof poolAreas)[number];

/** Files of the pool itself. */
export const poolFiles = {
  /** Makes a directory a pool. Written once. */
  marker: 'pool.json',
  /** Locked by the process that owns the pool. */
  lock: 'lock',
  /** The XFS image of an embedded pool, in which images can share blocks. */
  embeddedImage: 'reflink.img',
  /** The mount point of that image. */
  embeddedMount: 'reflink',
} as const;

/** The name of an entry's record, by area. */
export const recordFiles = {
  volumes: 'volume.json',
  ephemeral: 'volume.json',
  snapshots: 'snapshot.json',
  groups: 'group.json',
} as const satisfies Record<RecordArea, string>;

/** The data of a volume or snapshot. */
export const imageFile = 'disk.img';

/** Other files in the directory of an entry. */
export const entryFiles = {
  /** The image of a snapshot that is being copied. The rename to `disk.img` commits the copy. */
  partialImage: 'disk.img.part',
  /** The progress of that copy, for the driver's next start. */
  copyProgress: 'copy.json',
  /** The progress of a copy for a new volume, in `tmp/`. */
  restoreProgress: 'restore.json',
  /** The node state: the paths where a volume is staged and published. */
  nodeState: 'node.json',
  /** The time of a volume's last trim. */
  lastTrim: 'trim.json',
  /** Marks a duplicate: another pool uses the id. */
  duplicate: 'twin.json',
} as const;
