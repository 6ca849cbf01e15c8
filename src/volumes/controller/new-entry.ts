import { randomUUID } from 'node:crypto';
import { basename, join } from 'node:path';
import type * as v from 'valibot';
import { messageOf, VolumeError } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import { onDisk } from '../../host/kernel/gate.ts';
import { readRecord, writeNewRecord } from '../../state/records.ts';
import type { Domain } from '../domain.ts';
import { syncsBeforeRename } from '../pools/btrfs-log.ts';
import type { Pool } from '../pools/pool.ts';
import type { KeptArea } from '../pools/pool-open.ts';

interface NewEntry<S extends v.GenericSchema> {
  readonly pool: Pool;
  readonly area: KeptArea;
  readonly id: string;
  readonly file: 'volume.json' | 'snapshot.json' | 'group.json';
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
  domain: Domain,
  entry: NewEntry<S>,
): Promise<v.InferOutput<S>> {
  const temporary = entry.begun ?? (await newDirectory(domain, entry.pool, entry.id));
  // Renamed, there is nothing left to remove.
  let stays = false;
  try {
    const record = await entry.build(temporary);
    await finishNew(domain, entry, { temporary, record });
    const placed = (stands: v.InferOutput<S>): void => {
      stays = stands === record;
      entry.placed?.(stands);
    };
    return await placeNew(domain, { ...entry, placed }, { temporary, record });
  } catch (error) {
    stays ||= (await entry.staysAfterFailure?.(temporary)) === true;
    throw error;
  } finally {
    if (!stays) await removeQuietly(domain, entry, temporary);
  }
}

/** A removal that fails must not hide why the call did: the next start of the pool removes it. */
async function removeQuietly(
  domain: Domain,
  { pool, id }: { readonly pool: Pool; readonly id: string },
  temporary: string,
): Promise<void> {
  await domain.host.files.removeTree(temporary).catch((error: unknown) => {
    domain.log.warn(
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
export function newDirectory(domain: Domain, pool: Pool, id: string): Promise<string> {
  // A group has members in several pools, each with a disk of its own.
  return onDisk(pool.name, () => makeNewDirectory(domain, pool, id));
}

async function makeNewDirectory(domain: Domain, pool: Pool, id: string): Promise<string> {
  const temporary = newName(pool, id);
  await domain.host.files.makeNewDirectory(temporary);
  try {
    await domain.reached('new:directory-made');
  } catch (error) {
    await domain.host.files.removeTree(temporary);
    throw error;
  }
  return temporary;
}

type Finished<S extends v.GenericSchema> = Omit<NewEntry<S>, 'build'>;

/** Writes the record and syncs all: afterwards the directory is whole and on the disk. */
export async function finishNew<S extends v.GenericSchema>(
  domain: Domain,
  entry: Finished<S>,
  made: { temporary: string; record: v.InferOutput<S> },
): Promise<void> {
  const { host, reached } = domain;
  const { temporary, record } = made;
  await reached('new:image-made');
  await writeNewRecord(host.files, join(temporary, entry.file), {
    schema: entry.schema,
    value: record,
  });
  await reached('new:record-written');
  const images = entry.images.map((image) => join(temporary, image));
  const built = [...images, join(temporary, entry.file), temporary];
  const around = syncsBeforeRename(entry.pool) ? [entry.pool.pathOf('tmp')] : [];
  await host.files.sync(...built, ...around);
  await reached('new:synced');
}

/** Renames it into its place: from then on it exists. Answers the record that stands there. */
export async function placeNew<S extends v.GenericSchema>(
  domain: Domain,
  entry: Finished<S>,
  made: { temporary: string; record: v.InferOutput<S> },
): Promise<v.InferOutput<S>> {
  const { host, reached } = domain;
  const place = entry.pool.pathOf(entry.area, entry.id);
  requireSameOpening(entry.pool, made.temporary);
  try {
    await host.files.renameNoReplace(made.temporary, place);
  } catch (error) {
    if (!hasErrno(error, 'EEXIST')) throw error;
    const record = await standing(domain, entry, place);
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
  domain: Domain,
  entry: Finished<S>,
  place: string,
): Promise<v.InferOutput<S>> {
  await entry.pool.sync('tmp', entry.area);
  try {
    return await readRecord(domain.host.files, entry.schema, join(place, entry.file));
  } catch (cause) {
    throw new VolumeError(
      'internal',
      `${place} stands in the way and has no readable ${entry.file}; look at it and move it away`,
      { cause },
    );
  }
}
