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

/** Rows of the mutants, by their names. */
const mutants: readonly string[] = [
  'a new record is not synced before it is renamed into place',
  'the place that a new entry is renamed into is not synced',
  "a record's text is not synced before its rename",
  "a record's directory is not synced after its rename",
  'a record is renamed before its text is written',
  'a delete is answered before its rename is on the disk',
];

export const defects: readonly Defect[] = [
  recordAfterRename,
  ...durability.mutants.filter(({ name }) => mutants.includes(name)),
];
