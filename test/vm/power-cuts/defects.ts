/** Defects that only a power cut shows. Each must leave a disk on which a check fails. */

import type { Defect } from '../../mutants/defect.ts';
import { durability } from '../../mutants/rows/durability.ts';

const recordAfterRename: Defect = {
  name: 'a new record is written after the rename into place',
  file: 'volumes/pool/commit.ts',
  find: 'await host.files.renameNoReplace(built.temporary, target);',
  // The record has been written before the rename as well, and is removed here, so that the rename does not include it.
  replace: `
    await host.files.removeFile(join(built.temporary, recordFiles[entry.area]));
    await host.files.renameNoReplace(built.temporary, target);
    await writeNewRecord(host.files, join(target, recordFiles[entry.area]), {
      schema: entry.schema,
      value: built.record,
    });
    await host.files.sync(join(target, recordFiles[entry.area]), target);`,
};

/** One missing fsync, so that the answered change is only in memory. */
const answeredBeforeSync: Defect = {
  name: 'a create is answered before its rename is on the disk',
  file: 'volumes/pool/commit.ts',
  find: /await entry\.pool\.sync\('tmp', entry\.area\);(\s+await reached\('new:committed'\);)/,
  replace: '$1',
};

/**
 * Rows of test/mutants. Not all rows about durability are suitable: ext4 and XFS have one journal for the whole filesystem,
 * so an fsync of one directory also makes a rename in another directory durable.
 */
const rows = [
  'a new record is not synced before it is renamed into place',
  'a delete is answered before its rename is on the disk',
].map((wanted): Defect => {
  const row = durability.rows.find(({ name }) => name === wanted);
  if (row === undefined) throw new Error(`test/mutants has no row '${wanted}'`);
  return row;
});

export const defects: readonly Defect[] = [recordAfterRename, answeredBeforeSync, ...rows];
