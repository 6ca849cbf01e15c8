import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import {
  entryFiles,
  imageFile,
  poolAreas,
  poolFiles,
  recordFiles,
} from '../../../src/volumes/pool/layout.ts';

const page = readFileSync(
  join(import.meta.dirname, '..', '..', '..', '..', 'docs', 'glossary.md'),
  'utf8',
);
const rows = [...page.matchAll(/^\| (?!Term|-)(.+?) \| (.+) \|$/gm)].map(
  ([, term = '', definition = '']) => ({ term, definition }),
);
const terms = rows.map(({ term }) => term);

test('docs/glossary.md defines each term once, in alphabetical order', (t) => {
  t.true(terms.length >= 40, terms.join(', '));
  t.deepEqual(terms, [...new Set(terms)].sort());
});

test('docs/glossary.md defines every term that a definition uses', (t) => {
  const defined = new Set(terms.flatMap((term) => term.split(', ')));
  const isDefined = (word: string): boolean =>
    [/$/, /[ds]$/, /e[ds]$/].some((ending) => defined.has(word.replace(ending, ''))) ||
    defined.has(word.replace(/ies$/, 'y')) ||
    (word === 'frozen' && defined.has('freeze'));
  const unknown = rows.flatMap(({ term, definition }) =>
    [...definition.matchAll(/\*([^*]+)\*/g)]
      .map(([, word = '']) => word.toLowerCase())
      .filter((word) => !isDefined(word))
      .map((word) => `${term}: ${word}`),
  );
  t.deepEqual(unknown, []);
});

test('docs/glossary.md names files and directories as the layout of a pool has them', (t) => {
  const files = new Set<string>([
    imageFile,
    ...Object.values(poolFiles),
    ...Object.values(recordFiles),
    ...Object.values(entryFiles),
    ...poolAreas.map((area) => `${area}/`),
  ]);
  const named = [...page.matchAll(/`([a-z]+\.[a-z.]*|[a-z]+\/)`/g)].map(([, name = '']) => name);
  t.true(named.length >= 10, named.join(' '));
  t.deepEqual(
    named.filter((name) => !files.has(name)),
    [],
  );
});
