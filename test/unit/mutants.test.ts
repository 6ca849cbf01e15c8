import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { kinds } from '../mutants/all.ts';
import { countOf, mutated, testPathOf } from '../mutants/mutant.ts';

// The defects are tried by a command of their own, which takes minutes. That each still fits the driver is seen here.
const root = join(import.meta.dirname, '..', '..', '..');
const tried = kinds.flatMap(({ mutants }) => mutants);
const all = [...tried, ...kinds.flatMap(({ invisible = [] }) => invisible)];
const sources = new Map(
  all.map(({ file }) => [file, readFileSync(join(root, 'src', file), 'utf8')]),
);

test('the text of each defect stands in its file once, and something else takes its place', (t) => {
  for (const { name, file, text, by } of all) {
    t.is(
      countOf(sources.get(file) ?? '', text),
      1,
      `${name}: src/${file} was changed; so must be its row`,
    );
    t.not(text, by, name);
  }
});

test('each defect has a name of its own', (t) => {
  const names = all.map(({ name }) => name);
  t.deepEqual(
    names.filter((name, index) => names.indexOf(name) !== index),
    [],
  );
});

test('the tests that must see a defect are there', (t) => {
  for (const { name, red } of tried) {
    t.true(red.length > 0, name);
    for (const one of red)
      t.true(existsSync(join(root, `${testPathOf(one)}.ts`)), `${name}: ${one}`);
  }
});

test('a row puts its text in the place of the other, whatever is in it, and refuses a source that it does not fit', (t) => {
  const row = { name: 'n', file: 'f', text: 'a()', by: '$&`$1', red: ['x'] };
  t.is(mutated('x a() y', row), 'x $&`$1 y');
  t.throws(() => mutated('a() a()', row), { message: /stands 2 times/ });
  t.throws(() => mutated('b()', row), { message: /stands 0 times/ });
});
