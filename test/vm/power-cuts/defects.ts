/** Defects that only a power cut shows, each of which must leave a disk that is not as it must be. */

import { type Defect, lines } from '../../mutants/mutant.ts';
import { durability } from '../../mutants/rows/durability.ts';

const recordAfterRename: Defect = {
  name: 'a new record is written after the rename into place',
  file: 'volumes/controller/new-entry.ts',
  text: '    await host.files.renameNoReplace(made.temporary, place);',
  // It has been written before as well; what counts is that it comes with the rename no more.
  by: lines(
    '    await host.files.removeFile(join(made.temporary, entry.file));',
    '    await host.files.renameNoReplace(made.temporary, place);',
    '    await writeNewRecord(host.files, join(place, entry.file), {',
    '      schema: entry.schema,',
    '      value: made.record,',
    '    });',
    '    await host.files.sync(join(place, entry.file), place);',
  ),
};

/** The one fsync less after which an answer is only in memory. */
const answeredBeforeSync: Defect = {
  name: 'a create is answered before its rename is on the disk',
  file: 'volumes/controller/new-entry.ts',
  text: lines("  await entry.pool.sync('tmp', entry.area);", "  await reached('new:committed');"),
  by: "  await reached('new:committed');",
};

/**
 * Rows of the mutants, by their names. Not all of durability's: ext4 and XFS have one journal for the whole filesystem, so that an
 * fsync of one directory makes the rename in another one durable, too.
 */
const mutants: readonly string[] = [
  'a new record is not synced before it is renamed into place',
  'a delete is answered before its rename is on the disk',
];

export const defects: readonly Defect[] = [
  recordAfterRename,
  answeredBeforeSync,
  ...durability.mutants.filter(({ name }) => mutants.includes(name)),
];
