import test from 'ava';
import { mutated } from '../../mutants/mutant.ts';

const row = { name: 'n', file: 'f', text: 'a()', by: '$&`$1' };

test('a row replaces its text by exactly what it names', (t) => {
  t.is(mutated('x a() y', row), 'x $&`$1 y');
});

test('a row that does not match exactly once is refused', (t) => {
  t.throws(() => mutated('a() a()', row), { message: /2 times/ });
  t.throws(() => mutated('b()', row), { message: /0 times/ });
});
