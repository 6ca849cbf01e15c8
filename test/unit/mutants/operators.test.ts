import test from 'ava';
import { mutantsOf } from '../../mutants/generated/operators.ts';

const namesOf = (module: string): readonly string[] => mutantsOf(module).map(({ name }) => name);

test('the operator removes a call statement, unless it only logs or marks a fault point', (t) => {
  const module = `
    class A {
      #held; #log; #reached;
      async #save() {
        await file.sync(
          path,
        );
        this.#held.delete?.(key);
        this.#log.info('saved');
        await this.#reached('a:b');
        await reached?.('a:b');
        return file.close();
      }
    }`;
  t.deepEqual(namesOf(module), [
    'call in save: await file.sync( path, );',
    'call in save: this.#held.delete?.(key);',
  ]);
  t.true(mutantsOf(module)[0]?.module.includes('{\n        ;\n        this.#held'));
});

test('the operator inverts a comparison', (t) => {
  const [first, second, ...others] = mutantsOf('const f = (a, b) => a + 1 < b && a === b;');
  t.is(first?.module, 'const f = (a, b) => (a + 1 >= b) && a === b;');
  t.is(second?.module, 'const f = (a, b) => a + 1 < b && (a !== b);');
  t.is(second?.name, 'comparison in f: a === b');
  t.deepEqual(others, []);
});

test('the operator removes an if without else that ends with a throw or a return', (t) => {
  const module = `
    function f(a) {
      if (a) return;
      if (a) { const b = a; throw b; }
      if (a) a = 1;
      if (a) return; else throw a;
    }`;
  t.deepEqual(namesOf(module), [
    'guard in f: if (a) return;',
    'guard in f: if (a) { const b = a; throw b; }',
  ]);
});

test('equal defects have different names', (t) => {
  t.deepEqual(namesOf('f();\nf();'), ['call in module: f();', 'call in module: f(); (2)']);
});
