import * as v from 'valibot';

/** Ids in records. They have types of their own: only volumes/ids.ts turns a string into an id. */
export const volumeId = v.pipe(v.string(), v.brand('VolumeId'));
export type VolumeId = v.InferOutput<typeof volumeId>;

export const snapshotId = v.pipe(v.string(), v.brand('SnapshotId'));
export type SnapshotId = v.InferOutput<typeof snapshotId>;

export const groupId = v.pipe(v.string(), v.brand('GroupId'));
export type GroupId = v.InferOutput<typeof groupId>;
