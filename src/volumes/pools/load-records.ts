import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf } from '../../errors.ts';
import { hasErrno } from '../../host/errors.ts';
import {
  type GroupRecord,
  readRecord,
  type SnapshotRecord,
  type VolumeRecord,
} from '../../state/records.ts';
import { inBatches } from '../in-batches.ts';
import type { Index } from './index-of-records.ts';

/** Records read together when a pool is opened. */
const readsAtOnce = 16;

/** Reads every record of one area, which is synced, into its index; what cannot be read is set aside with its reason. */
export async function loadArea<T extends VolumeRecord | SnapshotRecord | GroupRecord>(
  directory: string,
  file: string,
  schema: Parameters<typeof readRecord>[0],
  index: Index<T>,
): Promise<void> {
  index.clear();
  const jobs = (await readdir(directory)).map((id) => async () => {
    const path = join(directory, id, file);
    try {
      // The schema belongs to the index's records by the calls above.
      const record = (await readRecord(schema, path)) as T;
      if (record.id === id) index.put(record);
      else index.putBroken(id, `${path} names another id, '${record.id}'`);
    } catch (error) {
      if (hasErrno(error, 'ENOTDIR')) return;
      // The process has none left: that says nothing of the record, and the pool is tried again.
      if (hasErrno(error, 'EMFILE', 'ENFILE', 'ENOMEM')) throw error;
      const isMissing = hasErrno(error, 'ENOENT');
      index.putBroken(
        id,
        isMissing ? `${path} is missing; restore it from a backup` : messageOf(error),
      );
    }
    await rm(`${path}.new`, { force: true });
  });
  await inBatches(jobs, readsAtOnce);
}
