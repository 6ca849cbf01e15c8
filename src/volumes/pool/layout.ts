/**
 * The directories and files of a pool, as they are called on disk (docs/design.md, "On disk"; a test compares the two). Only this
 * file and state/ know a name.
 */

/** The directories whose entries have records. */
export const recordAreas = ['volumes', 'ephemeral', 'snapshots', 'groups'] as const;
export type RecordArea = (typeof recordAreas)[number];

/** Of these, the ones whose entries are volumes. */
export const volumeAreas = ['volumes', 'ephemeral'] as const;
export type VolumeArea = (typeof volumeAreas)[number];

/** All directories of a pool. */
export const poolAreas = [...recordAreas, 'tmp', 'trash'] as const;
export type PoolArea = (typeof poolAreas)[number];

/** Files of the pool itself. */
export const poolFiles = {
  /** Written once: what makes a directory a pool. */
  marker: 'pool.json',
  /** Locked by the process that owns the pool. */
  lock: 'lock',
  /** An XFS image that the pool lies in, so that it can share blocks. */
  embeddedImage: 'reflink.img',
  /** Where that image is mounted. */
  embeddedMount: 'reflink',
} as const;

/** The record of an entry, by its area. */
export const recordFiles = {
  volumes: 'volume.json',
  ephemeral: 'volume.json',
  snapshots: 'snapshot.json',
  groups: 'group.json',
} as const satisfies Record<RecordArea, string>;

/** Data of a volume, or of a snapshot. */
export const imageFile = 'disk.img';

/** Other files in the directory of an entry. */
export const entryFiles = {
  /** Image of a snapshot that is being copied; the rename to `disk.img` is the commit of the copy. */
  partialImage: 'disk.img.part',
  /** How much of that copy is on the disk, for the driver's next start. */
  copyProgress: 'copy.json',
  /** The same of a copy for a new volume, in `tmp/`. */
  restoreProgress: 'restore.json',
  /** Where a volume is staged and published. */
  nodeState: 'node.json',
  /** When a volume was trimmed last. */
  lastTrim: 'trim.json',
  /** Another pool uses the id: the entry is not used. */
  duplicate: 'twin.json',
} as const;
