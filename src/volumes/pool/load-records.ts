import { join } from 'node:path';
import type * as v from 'valibot';
import { messageOf } from '../../errors.ts';
import { hasErrno, isStorageFailure, StuckError } from '../../host/errors.ts';
import type { Files } from '../../host/host.ts';
import { decodeJson, LaterVersionError } from '../../state/decode.ts';
import {
  duplicateRecord,
  type GroupRecord,
  type SnapshotRecord,
  type VolumeRecord,
} from '../../state/records.ts';
import { entryFiles } from './layout.ts';
import type { Index } from './record-index.ts';
import type { SetAside } from './set-aside.ts';
import { duplicateMessage } from './set-aside.ts';

/** Records read in one step of the gate: the calls of a pool go one at a time, and each step has a bound. */
const recordsAtOnce = 128;

/** One area of a pool: where its entries are, and what is known of them. */
export interface Area<T extends VolumeRecord | SnapshotRecord | GroupRecord> {
  readonly directory: string;
  /** Name of the record in the directory of an entry. */
  readonly file: string;
  readonly schema: v.GenericSchema;
  readonly index: Index<T>;
}

/** Reads every record of one area, which is synced, into its index; what cannot be used is set aside with its reason. */
export async function loadArea<T extends VolumeRecord | SnapshotRecord | GroupRecord>(
  files: Files,
  area: Area<T>,
): Promise<void> {
  area.index.clear();
  const ids = await files.list(area.directory);
  for (let from = 0; from < ids.length; from += recordsAtOnce) {
    await loadEntries(files, area, ids.slice(from, from + recordsAtOnce));
  }
}

/** The same for some entries, which may have gone meanwhile. */
export async function loadEntries<T extends VolumeRecord | SnapshotRecord | GroupRecord>(
  files: Files,
  area: Area<T>,
  ids: readonly string[],
): Promise<void> {
  const inEntries = (file: string): readonly string[] =>
    ids.map((id) => join(area.directory, id, file));
  const records = await files.readTexts(inEntries(area.file));
  const notes = await files.readTexts(inEntries(entryFiles.duplicate));
  const used: string[] = [];
  for (const [at, id] of ids.entries()) {
    const [record, note] = [records[at], notes[at]];
    if (record === undefined || note === undefined) continue;
    if (await take(files, area, { id, record, note })) used.push(join(area.directory, id));
  }
  // Left by a replacement that was cut short. One that cannot be removed harms nobody.
  const temporaries = used.map((entry) => join(entry, `${area.file}.new`));
  await files.removeFile(...temporaries).catch(() => undefined);
}

/** What was read of one entry. */
interface Read {
  readonly id: string;
  readonly record: PromiseSettledResult<string>;
  readonly note: PromiseSettledResult<string>;
}

/** Puts it into the index, or sets it aside; whether its record can be read. */
async function take<T extends VolumeRecord | SnapshotRecord | GroupRecord>(
  files: Files,
  { directory, file, schema, index }: Area<T>,
  { id, record: text, note }: Read,
): Promise<boolean> {
  const entry = join(directory, id);
  const path = join(entry, file);
  let record: T;
  try {
    if (text.status === 'rejected') throw text.reason;
    // The schema belongs to the index's records by the calls of `loadArea`.
    record = decodeJson(schema, text.value, path) as T;
  } catch (error) {
    // A file among the entries is none.
    if (hasErrno(error, 'ENOTDIR') || (await isGone(files, entry, error))) index.delete(id);
    else index.setAside(id, duplicateOf(entry, { id, note }) ?? unreadable(path, error));
    return false;
  }
  const aside = record.id === id ? duplicateOf(entry, { id, note }) : otherId(path, record.id);
  if (aside === undefined) index.put(record);
  else index.setAside(id, aside);
  return true;
}

async function isGone(files: Files, entry: string, error: unknown): Promise<boolean> {
  return hasErrno(error, 'ENOENT') && !(await files.exists(entry));
}

/** The process has none left, or the disk hangs: that says nothing of the record, and the pool is tried again. */
function saysNothing(error: unknown): boolean {
  return hasErrno(error, 'EMFILE', 'ENFILE', 'ENOMEM') || error instanceof StuckError;
}

function unreadable(path: string, error: unknown): SetAside {
  if (saysNothing(error)) throw error;
  if (error instanceof LaterVersionError) {
    return { kind: 'later-version', message: error.message };
  }
  if (isStorageFailure(error)) {
    const message = `${messageOf(error)}; look at the pool's disk, and at the kernel's log: it is read again every few seconds`;
    return { kind: 'unreadable', message, mayBeWhole: true };
  }
  const isMissing = hasErrno(error, 'ENOENT');
  const message = isMissing ? `${path} is missing; restore it from a backup` : messageOf(error);
  return { kind: 'unreadable', message };
}

function otherId(path: string, id: string): SetAside {
  return { kind: 'unreadable', message: `${path} names another id, '${id}'` };
}

function duplicateOf(
  entry: string,
  { id, note }: { readonly id: string; readonly note: PromiseSettledResult<string> },
): SetAside | undefined {
  try {
    if (note.status === 'rejected') throw note.reason;
    const { usedPoolName } = decodeJson(
      duplicateRecord,
      note.value,
      join(entry, entryFiles.duplicate),
    );
    return { kind: 'duplicate', message: duplicateMessage(entry, { id, usedPoolName }) };
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined;
    if (saysNothing(error)) throw error;
    // Which pool it was cannot be read, but it is certainly a duplicate.
    return { kind: 'duplicate', message: duplicateMessage(entry, { id }) };
  }
}
