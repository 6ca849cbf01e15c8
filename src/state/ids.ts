import * as v from 'valibot';

/** Ids in records. They have their own types, so that only records and ids.ts can turn a string into an id. */
export const volumeId = v.pipe(v.string(), v.brand('VolumeId'));
export type VolumeId = v.InferOutput<typeof volumeId>;

export const snapshotId = v.pipe(v.string(), v.brand('SnapshotId'));
export type SnapshotId = v.InferOutput<typeof snapshotId>;

export const groupId = v.pipe(v.string(), v.brand('GroupId'));
export type GroupId = v.InferOutput<typeof groupId>;

/** The id of an entry in a pool. The id of an inline volume is also a `VolumeId`. */
export type EntryId = VolumeId | SnapshotId | GroupId;

/**
 * A name that was read from a directory of a pool. It is the id of an entry only if the record in that entry has the
 * same id.
 */
export type FoundName = string & v.Brand<'FoundName'>;

/** The name of an entry's directory. Paths in a pool contain no other strings. */
export type EntryName = EntryId | FoundName;
