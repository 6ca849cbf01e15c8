import { randomUUID } from 'node:crypto';
import { basename, join } from 'node:path';
import type * as v from 'valibot';
import { messageOf, VolumeError } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import type { Host } from '../../host/host.ts';
import { onDisk } from '../../host/kernel/gate.ts';
import type { Logger } from '../../observe/log.ts';
import { readRecord, writeNewRecord } from '../../state/records.ts';
import type { Reached } from '../engine/fault-points.ts';
import { syncsBeforeRename } from './btrfs-log.ts';
import { type RecordArea, recordFiles } from './layout.ts';
import type { Pool } from './pool.ts';

/** What a commit needs of the domain. */
export interface CommitDeps {
  readonly host: Host;
  readonly log: Logger;
  readonly reached: Reached;
}

interface NewEntry<S extends v.GenericSchema> {
  readonly pool: Pool;
  readonly area: RecordArea;
  readonly id: string;
  readonly schema: S;
  /** Fills the directory (image, filesystem) and says what to write into the record. */
  readonly build: (directory: string) => Promise<v.InferOutput<S>>;
  /** Images that `build` leaves in the directory; synced with the record. */
  readonly images: readonly string[];
  /** A directory in `tmp/` with a part of the work, instead of a new one. */
  readonly begun?: string | undefined;
  /** Whether a failure leaves the directory to the next start. */
  readonly staysAfterFailure?: (directory: string) => Promise<boolean>;
  /** Called right after the rename: from then on it exists, also when a later step fails. */
  readonly placed?: (record: v.InferOutput<S>) => void;
}

/**
 * Makes a volume, snapshot or group whole in `tmp/` and renames it into place: the rename is the commit (design, rule 1).
 * Order: fsync images, record and directory, and on btrfs `tmp/` (ADR 0013), rename without replacing, fsync both parents (ADR 0006).
 * On a failure nothing of it is visible, and what stood in `tmp/` is removed now or at the next start. When a crash after the
 * rename already made it, the record that stands there is answered.
 */
export async function commitNew<S extends v.GenericSchema>(
  deps: CommitDeps,
  entry: NewEntry<S>,
): Promise<v.InferOutput<S>> {
  const temporary = entry.begun ?? (await newDirectory(deps, entry.pool, entry.id));
  // Renamed, there is nothing left to remove.
  let stays = false;
  try {
    const record = await entry.build(temporary);
    await finishNew(deps, entry, { temporary, record });
    const placed = (stands: v.InferOutput<S>): void => {
      stays = stands === record;
      entry.placed?.(stands);
    };
    return await placeNew(deps, { ...entry, placed }, { temporary, record });
  } catch (error) {
    stays ||= (await entry.staysAfterFailure?.(temporary)) === true;
    throw error;
  } finally {
    if (!stays) await removeOrLog(deps, entry, temporary);
  }
}

/** A removal that fails must not hide why the call did: the next start of the pool removes it. */
async function removeOrLog(
  deps: CommitDeps,
  { pool, id }: { readonly pool: Pool; readonly id: string },
  temporary: string,
): Promise<void> {
  await deps.host.files.removeTree(temporary).catch((error: unknown) => {
    deps.log.warn(
      { pool: pool.name, id, path: temporary, problem: messageOf(error) },
      'what a call began could not be removed; the next start does it',
    );
  });
}

/** Where something new is built: its name says in which opening of the pool it was begun, and what it will be. */
export function newName(pool: Pool, id: string): string {
  return pool.pathOf('tmp', `${pool.openings}.${randomUUID()}.${id}`);
}

/** A directory of its own in the pool's `tmp/`. */
export function newDirectory(deps: CommitDeps, pool: Pool, id: string): Promise<string> {
  // A group has members in several pools, each with a disk of its own.
  return onDisk(pool.name, () => makeNewDirectory(deps, pool, id));
}

async function makeNewDirectory(deps: CommitDeps, pool: Pool, id: string): Promise<string> {
  const temporary = newName(pool, id);
  await deps.host.files.makeNewDirectory(temporary);
  try {
    await deps.reached('new:directory-made');
  } catch (error) {
    await deps.host.files.removeTree(temporary);
    throw error;
  }
  return temporary;
}

type Finished<S extends v.GenericSchema> = Omit<NewEntry<S>, 'build'>;

/** Writes the record and syncs all: afterwards the directory is whole and on the disk. */
export async function finishNew<S extends v.GenericSchema>(
  deps: CommitDeps,
  entry: Finished<S>,
  made: { temporary: string; record: v.InferOutput<S> },
): Promise<void> {
  const { host, reached } = deps;
  const { temporary, record } = made;
  await reached('new:image-made');
  await writeNewRecord(host.files, join(temporary, recordFiles[entry.area]), {
    schema: entry.schema,
    value: record,
  });
  await reached('new:record-written');
  const images = entry.images.map((image) => join(temporary, image));
  const built = [...images, join(temporary, recordFiles[entry.area]), temporary];
  const around = syncsBeforeRename(entry.pool) ? [entry.pool.pathOf('tmp')] : [];
  await host.files.sync(...built, ...around);
  await reached('new:synced');
}

/** Renames it into its place: from then on it exists. Answers the record that stands there. */
export async function placeNew<S extends v.GenericSchema>(
  deps: CommitDeps,
  entry: Finished<S>,
  made: { temporary: string; record: v.InferOutput<S> },
): Promise<v.InferOutput<S>> {
  const { host, reached } = deps;
  const place = entry.pool.pathOf(entry.area, entry.id);
  requireSameOpening(entry.pool, made.temporary);
  try {
    await host.files.renameNoReplace(made.temporary, place);
  } catch (error) {
    if (!hasErrno(error, 'EEXIST')) throw error;
    const record = await standing(deps, entry, place);
    entry.placed?.(record);
    return record;
  }
  entry.placed?.(made.record);
  await reached('new:renamed');
  await entry.pool.sync('tmp', entry.area);
  await reached('new:committed');
  return made.record;
}

/** A pool that went away and came back has swept its `tmp/`, perhaps this directory half-way. */
function requireSameOpening(pool: Pool, temporary: string): void {
  if (basename(temporary).startsWith(`${pool.openings}.`)) return;
  throw new VolumeError(
    'unavailable',
    `pool '${pool.name}' was away meanwhile and what was begun in it is gone; try again`,
  );
}

/** Only an earlier run of the same call, cut short between rename and answer, can have made it: the id follows from the name. */
async function standing<S extends v.GenericSchema>(
  deps: CommitDeps,
  entry: Finished<S>,
  place: string,
): Promise<v.InferOutput<S>> {
  const file = recordFiles[entry.area];
  await entry.pool.sync('tmp', entry.area);
  try {
    return await readRecord(deps.host.files, entry.schema, join(place, file));
  } catch (cause) {
    throw new VolumeError(
      'internal',
      `${place} stands in the way and has no readable ${file}; look at it and move it away`,
      { cause },
    );
  }
}
