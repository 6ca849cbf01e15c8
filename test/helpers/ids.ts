import * as v from 'valibot';
import { type SnapshotId, snapshotId, type VolumeId, volumeId } from '../../src/state/ids.ts';

/** An id as a record would contain it. */
export const aVolumeId = (id: string): VolumeId => v.parse(volumeId, id);
export const aSnapshotId = (id: string): SnapshotId => v.parse(snapshotId, id);
