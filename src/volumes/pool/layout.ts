/**
 * The names of the directories and files of a pool and of the state directory (docs/design.md, "On disk"; a test compares the two).
 * Exceptions: `state/known-pools.ts` has the name of its own file, and host/ has those of its scratch files, private mounts and
 * undo logs.
 */
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import type { EntryId } from '../../ids.ts';

/** The directories whose entries have records. */
export const recordAreas = ['volumes', 'ephemeral', 'snapshots', 'groups'] as const;
export type RecordArea = (typeof recordAreas)[number];

/** The directories whose entries are volumes. */
export const volumeAreas = ['volumes', 'ephemeral'] as const;
export type VolumeArea = (typeof volumeAreas)[number];

/** All directories of a pool. */
export const poolAreas = [...recordAreas, 'tmp', 'trash'] as const;
export type PoolArea = (typeof poolAreas)[number];

/** The directory of an area in the pool at `root`. */
export function areaIn(root: string, area: PoolArea): string {
  return join(root, area);
}

/** Files of the pool itself. */
export const poolFiles = {
  /** Marks a directory as a pool. Written once. */
  marker: 'pool.json',
  /** Locked by the process that owns the pool. */
  lock: 'lock',
  /** The XFS image of an embedded pool, in which images can share blocks. */
  embeddedImage: 'reflink.img',
  /** The mount point of that image. */
  embeddedMount: 'reflink',
} as const;

/** The image of an embedded pool while it is made; its rename is the commit. */
export const unfinishedEmbeddedImage = `${poolFiles.embeddedImage}.new`;

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

/** An entry in `tmp/` that is being built. */
interface TemporaryEntry {
  /** The value of `pool.openings` when the entry was begun. */
  readonly opening: number;
  readonly id: string;
}

/** A new name for an entry in `tmp/`: `<opening>.<uuid>.<id>`. */
export function makeTemporaryName(opening: number, id: EntryId): string {
  return `${opening}.${randomUUID()}.${id}`;
}

/** Returns undefined for any other name in `tmp/`, such as that of a mount point. */
export function parseTemporaryName(name: string): TemporaryEntry | undefined {
  const { opening, id } = /^(?<opening>\d+)\.[0-9a-f-]{36}\.(?<id>.+)$/.exec(name)?.groups ?? {};
  return id === undefined ? undefined : { opening: Number(opening), id };
}

/** A new name for a deleted entry in `trash/`: `<id>.<uuid>`. */
export function makeTrashName(id: EntryId): string {
  return `${id}.${randomUUID()}`;
}

/** The id of a deleted entry in `trash/`; undefined for any other name. */
export function parseTrashName(name: string): string | undefined {
  return /^(.+)\.[0-9a-f-]{36}$/.exec(name)?.[1];
}

/** A new name in `tmp/` for the directory that a write probe creates. */
export function makeTrialName(): string {
  return `.trial.${randomUUID()}`;
}

/** A name in `tmp/` that never exists. Removing it changes nothing, but waits if the filesystem is frozen. */
export const missingFile = '.nothing';

/** The directory in the state directory with one file for each volume that Docker knows. */
export const knownVolumesDirectory = 'known-volumes';
