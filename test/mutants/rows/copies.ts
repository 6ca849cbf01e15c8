import type { Subject } from '../defect.ts';

export const copies: Subject = {
  title: 'Snapshots and copies',
  rows: [
    {
      name: 'a snapshot can be written to',
      file: 'volumes/snapshot/create.ts',
      find: /await [\w.]+\.makeReadOnly\([^;]*;/,
      replace: '',
      tests: ['volumes/snapshot/capture'],
    },
    {
      name: 'a capture that fails for one member is a success',
      file: 'volumes/snapshot/capture.ts',
      find: 'await settleAll( captures.map(async ({ capture, to }) =>',
      replace: 'await Promise.allSettled( captures.map(async ({ capture, to }) =>',
      tests: ['volumes/snapshot/capture'],
    },
    {
      name: 'a damaged filesystem is copied',
      file: 'volumes/snapshot/restore.ts',
      find: /(?<!function )await requireUndamaged\([^;]*;/,
      replace: '',
      tests: ['volumes/snapshot/snapshot-rules'],
    },
    {
      name: 'a snapshot that is still being copied is restored',
      file: 'volumes/snapshot/restore.ts',
      find: /if \(snapshot\.record\.state === 'copying'\) \{/,
      replace: 'if (false) {',
      tests: ['volumes/snapshot/snapshot-rules'],
    },
    {
      name: 'the unfinished copy of another snapshot or image is resumed',
      file: 'volumes/jobs/interrupted-restores.ts',
      find: /isDeepStrictEqual\(found\.source, wanted\.source\)/,
      replace: 'true',
      tests: ['volumes/jobs/interrupted-restores'],
    },
    {
      name: 'a copy is resumed although its source has changed',
      file: 'volumes/snapshot/recover.ts',
      find: /return \w+ === [\w.?]+\.sourceModifiedNs \? (\w+) : undefined;/,
      replace: 'return $1;',
      tests: ['volumes/snapshot/long-copies'],
    },
    {
      name: 'a start removes members of a complete group',
      file: 'volumes/snapshot/recover.ts',
      find: /(if \(groups === undefined) \|\| groups\.get\([^)]*\) \|\| groups\.aside\.has\([^)]*\)\)/,
      replace: '$1)',
      tests: ['volumes/snapshot/group-over-pools'],
    },
  ],
};
