import test from 'ava';
import { mutated } from '../../mutants/defect.ts';

const row = { name: 'n', file: 'f', find: 'if (a) b();', replace: '$&`$1' };

test('a row matches its text whatever the white space, and inserts its replacement literally', (t) => {
  t.is(mutated('x if (a)\n  b(); y', row), 'x $&`$1 y');
});

test('a row with a pattern can use its groups in the replacement', (t) => {
  const pattern = { ...row, find: /await (\w+)\.sync\(\w+\)/, replace: 'void $1' };
  t.is(mutated('{ await files.sync(path); }', pattern), '{ void files; }');
});

test('a row that does not match exactly once is refused', (t) => {
  t.throws(() => mutated('if (a) b(); if (a) b();', row), { message: /2 times/ });
  t.throws(() => mutated('b()', row), { message: /0 times/ });
});
