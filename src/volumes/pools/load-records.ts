import { lstat, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf } from '../../errors.ts';
import { hasErrno, StuckError } from '../../host/errors.ts';
import { LaterVersionError } from '../../state/decode.ts';
import {
  type GroupRecord,
  readRecord,
  type SnapshotRecord,
  twinNote,
  type VolumeRecord,
} from '../../state/records.ts';
import { inBatches } from '../in-batches.ts';
import type { Index } from './index-of-records.ts';
import type { SetAside } from './set-aside.ts';
import { twinMessage, twinNoteName } from './twin-note.ts';

/** Records read together when a pool is opened. */
const readsAtOnce = 16;

/** One area of a pool: where its entries are, and what is known of them. */
export interface Area<T extends VolumeRecord | SnapshotRecord | GroupRecord> {
  readonly directory: string;
  /** Name of the record in the directory of an entry. */
  readonly file: string;
  readonly schema: Parameters<typeof readRecord>[0];
  readonly index: Index<T>;
}

/** Reads every record of one area, which is synced, into its index; what cannot be used is set aside with its reason. */
export async function loadArea<T extends VolumeRecord | SnapshotRecord | GroupRecord>(
  area: Area<T>,
): Promise<void> {
  area.index.clear();
  const jobs = (await readdir(area.directory)).map((id) => () => loadEntry(area, id));
  await inBatches(jobs, readsAtOnce);
}

/** The same for one entry, which may have gone meanwhile. */
export async function loadEntry<T extends VolumeRecord | SnapshotRecord | GroupRecord>(
  { directory, file, schema, index }: Area<T>,
  id: string,
): Promise<void> {
  const entry = join(directory, id);
  const path = join(entry, file);
  let record: T;
  try {
    // The schema belongs to the index's records by the calls of `loadArea`.
    record = (await readRecord(schema, path)) as T;
  } catch (error) {
    // A file among the entries is none.
    if (hasErrno(error, 'ENOTDIR') || (await isGone(entry))) index.delete(id);
    else index.setAside(id, (await twinOf(entry, id)) ?? unreadable(path, error));
    return;
  }
  const aside = record.id === id ? await twinOf(entry, id) : otherId(path, record.id);
  if (aside === undefined) index.put(record);
  else index.setAside(id, aside);
  // Left by a replacement that was cut short. One that cannot be removed harms nobody.
  await rm(`${path}.new`, { force: true }).catch(() => undefined);
}

async function isGone(path: string): Promise<boolean> {
  return lstat(path).then(
    () => false,
    (error: unknown) => hasErrno(error, 'ENOENT'),
  );
}

function unreadable(path: string, error: unknown): SetAside {
  // The process has none left, or the disk hangs: that says nothing of the record, and the pool is tried again.
  if (hasErrno(error, 'EMFILE', 'ENFILE', 'ENOMEM') || error instanceof StuckError) throw error;
  if (error instanceof LaterVersionError) {
    return { kind: 'later-version', message: error.message };
  }
  const isMissing = hasErrno(error, 'ENOENT');
  const message = isMissing ? `${path} is missing; restore it from a backup` : messageOf(error);
  return { kind: 'unreadable', message };
}

function otherId(path: string, id: string): SetAside {
  return { kind: 'unreadable', message: `${path} names another id, '${id}'` };
}

async function twinOf(entry: string, id: string): Promise<SetAside | undefined> {
  try {
    const { usedPoolName } = await readRecord(twinNote, join(entry, twinNoteName));
    return { kind: 'twin', message: twinMessage(entry, { id, usedPoolName }) };
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined;
    if (hasErrno(error, 'EMFILE', 'ENFILE', 'ENOMEM') || error instanceof StuckError) throw error;
    // Which pool it was cannot be read, but that it is a twin is certain.
    return { kind: 'twin', message: twinMessage(entry, { id }) };
  }
}
