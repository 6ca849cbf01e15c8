import test from 'ava';
import { replacedModule, replacing } from '../../vm/power-cuts/replaced-module.ts';

test('an environment variable carries the replaced module to the machine', (t) => {
  const module = { file: 'host/files/replace-file.js', text: "export const x = '\\n';\n" };
  t.deepEqual(replacedModule(replacing(module)), module);
  t.is(replacedModule({}), undefined);
  t.throws(() => replacedModule({ LOOPCSI_REPLACED_MODULE: '{"file":"x"}' }));
});
