import * as v from 'valibot';

/** Ids in records. They have types of their own: only records and volumes/ids.ts turn a string into an id. */
export const volumeId = v.pipe(v.string(), v.brand('VolumeId'));
export type VolumeId = v.InferOutput<typeof volumeId>;

export const snapshotId = v.pipe(v.string(), v.brand('SnapshotId'));
export type SnapshotId = v.InferOutput<typeof snapshotId>;

export const groupId = v.pipe(v.string(), v.brand('GroupId'));
export type GroupId = v.InferOutput<typeof groupId>;

/** The id of an entry of a pool. An inline volume has a `VolumeId` too. */
export type EntryId = VolumeId | SnapshotId | GroupId;

/** A name that was read from a directory of a pool. It is the id of an entry only if the record in the entry says so. */
export type FoundName = string & v.Brand<'FoundName'>;

/** The name of an entry's directory. No other string becomes part of a path in a pool. */
export type EntryName = EntryId | FoundName;
