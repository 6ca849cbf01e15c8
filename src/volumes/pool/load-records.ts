import { join } from 'node:path';
import type * as v from 'valibot';
import { messageOf } from '../../errors.ts';
import { hasErrno, isStorageFailure, StuckError } from '../../host/errors.ts';
import { replacementOf } from '../../host/files/replace-file.ts';
import type { Files } from '../../host/host.ts';
import { type EntryName, foundName } from '../../ids.ts';
import { decodeJson, LaterVersionError } from '../../state/decode.ts';
import {
  duplicateRecord,
  type GroupRecord,
  type SnapshotRecord,
  type VolumeRecord,
} from '../../state/records.ts';
import { entryFiles } from './layout.ts';
import type { RecordIndex } from './record-index.ts';
import { duplicateMessage, findUndecided, type SetAside } from './set-aside.ts';

/** Number of records that one call of the gate reads. The gate runs the calls of a pool one at a time, each with a time limit. */
const recordsPerBatch = 128;

/** One area of a pool: its directory, the form of its records, and its index. */
interface Area<T extends VolumeRecord | SnapshotRecord | GroupRecord> {
  readonly directory: string;
  /** File name of the record in an entry. */
  readonly file: string;
  readonly schema: v.GenericSchema;
  readonly index: RecordIndex<T>;
}

/**
 * Reads every record of an area into its index. Entries that cannot be used are set aside with the reason. If the pool is opened again,
 * what was read before stays in the index meanwhile: a list must not lack volumes that exist.
 */
export async function loadArea<T extends VolumeRecord | SnapshotRecord | GroupRecord>(
  files: Files,
  area: Area<T>,
): Promise<void> {
  const names = (await files.list(area.directory)).map(foundName);
  for (let from = 0; from < names.length; from += recordsPerBatch) {
    await loadEntries(files, area, names.slice(from, from + recordsPerBatch));
  }
  area.index.keepOnly(new Set(names));
}

/** Reads the records of some entries into the index of their area. The entries may have been removed in the meantime. */
export async function loadEntries<T extends VolumeRecord | SnapshotRecord | GroupRecord>(
  files: Files,
  area: Area<T>,
  names: readonly EntryName[],
): Promise<void> {
  const inEntries = (file: string): readonly string[] =>
    names.map((name) => join(area.directory, name, file));
  const records = await files.readTexts(inEntries(area.file));
  const duplicates = await files.readTexts(inEntries(entryFiles.duplicate));
  const used: string[] = [];
  for (const [at, name] of names.entries()) {
    const [record, duplicate] = [records[at], duplicates[at]];
    if (record === undefined || duplicate === undefined) continue;
    if (await addToIndex(files, area, { name, record, duplicate }))
      used.push(join(area.directory, name));
  }
  // Left by interrupted replacements of records. They do no harm if they cannot be removed.
  const temporaries = used.map((entry) => replacementOf(join(entry, area.file)));
  await files.removeFile(...temporaries).catch(() => undefined);
}

/** The files of one entry, as read. */
interface ReadEntry {
  readonly name: EntryName;
  readonly record: PromiseSettledResult<string>;
  readonly duplicate: PromiseSettledResult<string>;
}

/** Adds the entry to the index or sets it aside. Returns whether its record can be read. */
async function addToIndex<T extends VolumeRecord | SnapshotRecord | GroupRecord>(
  files: Files,
  { directory, file, schema, index }: Area<T>,
  { name, record: text, duplicate }: ReadEntry,
): Promise<boolean> {
  const entry = join(directory, name);
  const path = join(entry, file);
  let record: T;
  try {
    if (text.status === 'rejected') throw text.reason;
    // `PoolRecords` passes the schema that belongs to the index.
    record = decodeJson(schema, text.value, path) as T;
  } catch (error) {
    // A plain file in the area is not an entry.
    if (hasErrno(error, 'ENOTDIR') || (await isRemoved(files, entry, error))) index.delete(name);
    else
      index.setAside(
        name,
        setAsideForDuplicate(entry, { id: name, duplicate }) ?? setAsideForError(path, error),
      );
    return false;
  }
  const aside =
    record.id === name
      ? (setAsideForDuplicate(entry, { id: name, duplicate }) ?? setAsideForGroup(record))
      : setAsideForOtherId(path, record.id);
  if (aside === undefined) index.put(record);
  else index.setAside(name, aside);
  return true;
}

async function isRemoved(files: Files, entry: string, error: unknown): Promise<boolean> {
  return hasErrno(error, 'ENOENT') && !(await files.exists(entry));
}

/**
 * Whether the error says nothing about the record itself: descriptors or memory are exhausted, or the disk hangs. Such an error is
 * thrown, and the pool is opened again later.
 */
function isTemporary(error: unknown): boolean {
  return hasErrno(error, 'EMFILE', 'ENFILE', 'ENOMEM') || error instanceof StuckError;
}

function setAsideForError(path: string, error: unknown): SetAside {
  if (isTemporary(error)) throw error;
  if (error instanceof LaterVersionError) {
    return { kind: 'later-version', message: error.message };
  }
  if (isStorageFailure(error)) {
    const message = `${messageOf(error)}; check the pool's disk and the kernel's log; the record is read again every few seconds`;
    return { kind: 'unreadable', message, mayBeIntact: true };
  }
  const isMissing = hasErrno(error, 'ENOENT');
  const message = isMissing ? `${path} is missing; restore it from a backup` : messageOf(error);
  return { kind: 'unreadable', message };
}

function setAsideForGroup(
  record: VolumeRecord | SnapshotRecord | GroupRecord,
): SetAside | undefined {
  return 'groupId' in record ? findUndecided(record) : undefined;
}

function setAsideForOtherId(path: string, id: string): SetAside {
  return {
    kind: 'unreadable',
    message: `${path} contains another id, '${id}'; restore it from a backup`,
  };
}

function setAsideForDuplicate(
  entry: string,
  { id, duplicate }: { readonly id: string; readonly duplicate: PromiseSettledResult<string> },
): SetAside | undefined {
  try {
    if (duplicate.status === 'rejected') throw duplicate.reason;
    const { usedPoolName } = decodeJson(
      duplicateRecord,
      duplicate.value,
      join(entry, entryFiles.duplicate),
    );
    return { kind: 'duplicate', message: duplicateMessage(entry, { id, usedPoolName }) };
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined;
    if (isTemporary(error)) throw error;
    // The name of the other pool cannot be read, but the entry is a duplicate.
    return { kind: 'duplicate', message: duplicateMessage(entry, { id }) };
  }
}
