import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { compiled } from '../../mutants/compiled.ts';
import { mutated } from '../../mutants/mutant.ts';
import { defects } from '../../vm/power-cuts/defects.ts';
import { replacedModule, replacing } from '../../vm/power-cuts/replaced-module.ts';

const sources = join(import.meta.dirname, '..', '..', '..', '..', 'src');

test('each defect fits the driver, and what it makes of a module compiles', async (t) => {
  t.is(new Set(defects.map(({ name }) => name)).size, 4);
  for (const defect of defects) {
    const source = readFileSync(join(sources, defect.file), 'utf8');
    await t.notThrowsAsync(() => compiled(mutated(source, defect)), defect.name);
  }
});

test('a module reaches the machine through the environment', (t) => {
  const module = { file: 'host/replace-file.js', text: "export const x = '\\n';\n" };
  t.deepEqual(replacedModule(replacing(module)), module);
  t.is(replacedModule({}), undefined);
  t.throws(() => replacedModule({ LOOPCSI_REPLACED_MODULE: '{"file":"x"}' }));
});
