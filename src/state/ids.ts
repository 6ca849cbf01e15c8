import * as v from 'valibot';

/** Ids in records. Only volumes/ids.ts makes and parses them, so a plain string never becomes part of a path. */
export const volumeId = v.pipe(v.string(), v.brand('VolumeId'));
export type VolumeId = v.InferOutput<typeof volumeId>;

export const snapshotId = v.pipe(v.string(), v.brand('SnapshotId'));
export type SnapshotId = v.InferOutput<typeof snapshotId>;

export const groupId = v.pipe(v.string(), v.brand('GroupId'));
export type GroupId = v.InferOutput<typeof groupId>;
