import test from 'ava';
import { mutated } from '../../mutants/defect.ts';

const row = { name: 'n', file: 'f', find: 'if (a) b();', replace: '$&`$1' };

test('a row replaces its text by exactly what it names, whatever the white space', (t) => {
  t.is(mutated('x if (a)\n  b(); y', row), 'x $&`$1 y');
});

test('a pattern leaves names open, and its groups are available', (t) => {
  const pattern = { ...row, find: /await (\w+)\.sync\(\w+\)/, replace: 'void $1' };
  t.is(mutated('{ await files.sync(path); }', pattern), '{ void files; }');
});

test('a row that does not match exactly once is refused', (t) => {
  t.throws(() => mutated('if (a) b(); if (a) b();', row), { message: /2 times/ });
  t.throws(() => mutated('b()', row), { message: /0 times/ });
});
