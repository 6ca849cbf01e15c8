import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { faultPoints } from '../../../src/volumes/engine/fault-points.ts';

const page = readFileSync(
  join(import.meta.dirname, '..', '..', '..', '..', 'docs', 'design.md'),
  'utf8',
);

test('docs/design.md says of every fault point what a crash there leaves, and of no other', (t) => {
  const rows = page.split('\n').filter((line) => line.startsWith('| `'));
  const named = rows.flatMap((row) =>
    [...(row.split('|')[1] ?? '').matchAll(/`([^`]+)`/g)].map(([, name]) => name),
  );
  t.deepEqual(
    faultPoints.filter((point) => !named.includes(point)),
    [],
    'not described',
  );
  t.deepEqual(
    named.filter((name) => !faultPoints.some((point) => point === name)),
    [],
    'described, but not in the code',
  );
});
