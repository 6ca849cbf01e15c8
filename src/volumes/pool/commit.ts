import { basename, join } from 'node:path';
import type * as v from 'valibot';
import { messageOf, VolumeError } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import type { Files, Host } from '../../host/host.ts';
import type { EntryId } from '../../ids.ts';
import type { Logger } from '../../observe/log.ts';
import {
  type groupRecord,
  readRecord,
  type snapshotRecord,
  type volumeRecord,
  writeNewRecord,
  writeRecord,
} from '../../state/records.ts';
import type { Reached } from '../engine/fault-points.ts';
import { onDiskOf } from '../engine/lanes.ts';

import { makeTemporaryName, parseTemporaryName, type RecordArea, recordFiles } from './layout.ts';
import type { Pool } from './pool.ts';

/** The parts of the domain that a commit needs. */
interface CommitDeps {
  readonly host: Host;
  readonly log: Logger;
  readonly reached: Reached;
}

/** The schema of the record of an entry. */
type EntrySchema = typeof volumeRecord | typeof snapshotRecord | typeof groupRecord;

interface NewEntry<S extends EntrySchema> {
  readonly pool: Pool;
  readonly area: RecordArea;
  readonly id: EntryId;
  readonly schema: S;
  /** Fills the directory (image, filesystem) and returns the record. */
  readonly build: (directory: string) => Promise<v.InferOutput<S>>;
  /** The names of the image files that `build` creates in the directory. They are synced with the record. */
  readonly images: readonly string[];
  /** The directory in `tmp/` of an earlier attempt, to resume it; undefined to create a new one. */
  readonly resumeDirectory?: string | undefined;
  /** Whether a failed attempt keeps the directory for the next start. */
  readonly keepOnFailure?: (directory: string) => Promise<boolean>;
  /** Called right after the rename, when the record is in its index. The entry exists, even if a later step fails. */
  readonly onRenamed?: (record: v.InferOutput<S>) => void;
}

/**
 * Builds a volume, snapshot or group in `tmp/` and renames it into place: the rename is the commit (docs/design.md, guarantee 1).
 * Order: fsync images, record and directory, and on btrfs `tmp/` (ADR 0013), rename without replacing, fsync both parents (ADR
 * 0006). After a failure before the rename the entry does not exist, and its directory in `tmp/` is removed now or at the next
 * start. If an earlier attempt crashed after its rename, returns the record of that attempt.
 */
export async function commitNew<S extends EntrySchema>(
  deps: CommitDeps,
  entry: NewEntry<S>,
): Promise<v.InferOutput<S>> {
  const temporary =
    entry.resumeDirectory ?? (await createTemporaryDirectory(deps, entry.pool, entry.id));
  // True after the rename, when nothing is left to remove, and for a directory that the next start resumes.
  let isKept = false;
  try {
    const record = await entry.build(temporary);
    await completeEntry(deps, entry, { temporary, record });
    const onRenamed = (existing: v.InferOutput<S>): void => {
      isKept = existing === record;
      entry.pool.indexOf(entry.area).put(existing);
      entry.onRenamed?.(existing);
    };
    return await renameIntoPlace(deps, { ...entry, onRenamed }, { temporary, record });
  } catch (error) {
    isKept ||= (await entry.keepOnFailure?.(temporary)) === true;
    throw error;
  } finally {
    if (!isKept) await removeOrLog(deps, entry, temporary);
  }
}

/** A failure to remove the directory must not hide the error of the call. The next start of the pool removes the directory. */
export async function removeOrLog(
  deps: Pick<CommitDeps, 'host' | 'log'>,
  { pool, id }: { readonly pool: Pool; readonly id: EntryId },
  temporary: string,
): Promise<void> {
  await deps.host.files.removeTree(temporary).catch((error: unknown) => {
    deps.log.warn(
      { pool: pool.name, id, path: temporary, problem: messageOf(error) },
      'an unfinished entry could not be removed; the next start removes it',
    );
  });
}

/** A new path in `tmp/` where an entry is built. */
export function temporaryPathFor(pool: Pool, id: EntryId): string {
  return join(pool.directoryOf('tmp'), makeTemporaryName(pool.openings, id));
}

/** Creates the directory in `tmp/` where an entry is built. */
export async function createTemporaryDirectory(
  deps: CommitDeps,
  pool: Pool,
  id: EntryId,
): Promise<string> {
  // Members of a group may be in other pools, so their calls wait for other disks.
  const { host, reached } = onDiskOf(deps, pool);
  const temporary = temporaryPathFor(pool, id);
  await host.files.makeNewDirectory(temporary);
  try {
    await reached('new:directory-made');
  } catch (error) {
    await host.files.removeTree(temporary);
    throw error;
  }
  return temporary;
}

type BuiltEntry<S extends EntrySchema> = Omit<NewEntry<S>, 'build'>;

/** Writes the record and syncs everything: afterwards the directory is complete and durable. */
export async function completeEntry<S extends EntrySchema>(
  deps: CommitDeps,
  entry: BuiltEntry<S>,
  built: { temporary: string; record: v.InferOutput<S> },
): Promise<void> {
  const { host, reached } = deps;
  const { temporary, record } = built;
  await reached('new:image-made');
  await writeNewRecord(host.files, join(temporary, recordFiles[entry.area]), {
    schema: entry.schema,
    value: record,
  });
  await reached('new:record-written');
  const images = entry.images.map((image) => join(temporary, image));
  const files = [...images, join(temporary, recordFiles[entry.area]), temporary];
  const parents = syncsBeforeRename(entry.pool) ? [entry.pool.directoryOf('tmp')] : [];
  await host.files.sync(...files, ...parents);
  await reached('new:synced');
}

/**
 * Renames a complete entry into its area: from then on it exists. Returns its record. If an earlier attempt has already renamed its
 * entry there, returns the record of that attempt.
 */
export async function renameIntoPlace<S extends EntrySchema>(
  deps: CommitDeps,
  entry: BuiltEntry<S>,
  built: { temporary: string; record: v.InferOutput<S> },
): Promise<v.InferOutput<S>> {
  const { host, reached } = deps;
  const target = entry.pool.pathOf(entry.area, entry.id);
  requireSameOpening(entry.pool, built.temporary);
  try {
    await host.files.renameNoReplace(built.temporary, target);
  } catch (error) {
    if (!hasErrno(error, 'EEXIST')) throw error;
    const record = await readExisting(deps, entry, target);
    entry.onRenamed?.(record);
    return record;
  }
  entry.onRenamed?.(built.record);
  await reached('new:renamed');
  await entry.pool.sync('tmp', entry.area);
  await reached('new:committed');
  return built.record;
}

/**
 * When a pool is opened, its `tmp/` is swept. If it was opened again since the entry was begun, a part of the directory may have
 * been removed.
 */
function requireSameOpening(pool: Pool, temporary: string): void {
  if (parseTemporaryName(basename(temporary))?.opening === pool.openings) return;
  throw new VolumeError(
    'unavailable',
    `pool '${pool.name}' was unavailable in the meantime, so the unfinished entry was removed; try again`,
  );
}

/**
 * The id is derived from the name, so the entry can only be that of an earlier attempt of the same call that was interrupted after
 * its rename.
 */
async function readExisting<S extends EntrySchema>(
  deps: CommitDeps,
  entry: BuiltEntry<S>,
  target: string,
): Promise<v.InferOutput<S>> {
  const file = recordFiles[entry.area];
  await entry.pool.sync('tmp', entry.area);
  try {
    return await readRecord(deps.host.files, entry.schema, join(target, file));
  } catch (cause) {
    throw new VolumeError(
      'internal',
      `${target} exists already and has no readable ${file}; inspect it and move it out of the pool`,
      { cause },
    );
  }
}

/**
 * Whether the pool's `tmp/` must be synced after an entry was created in it, before the entry is renamed. Otherwise btrfs may log
 * the entry under both names, and cannot be mounted after a power cut (ADR 0013).
 */
export function syncsBeforeRename({ abilities }: Pick<Pool, 'abilities'>): boolean {
  return abilities?.filesystem === 'btrfs';
}

/** Rewrites the record of an entry on the disk, then in its index: calls must be answered from durable records only. */
export async function rewriteRecord<S extends EntrySchema>(
  files: Files,
  entry: { readonly pool: Pool; readonly area: RecordArea; readonly schema: S },
  value: v.InferOutput<S>,
): Promise<void> {
  const { pool, area, schema } = entry;
  await writeRecord(files, pool.recordPathOf(area, value.id), { schema, value });
  pool.indexOf(area).put(value);
}
