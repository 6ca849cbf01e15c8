import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import test from 'ava';

const root = join(import.meta.dirname, '..', '..', '..', '..');

/** The modules that are loaded with `path`: static imports without types, and theirs. */
function loadedWith(path: string, seen = new Set<string>()): ReadonlySet<string> {
  if (seen.has(path)) return seen;
  seen.add(path);
  const text = readFileSync(join(root, path), 'utf8');
  for (const [, typeOnly, from = ''] of text.matchAll(
    /^(?:import|export) (type )?[^'";]*?from '([^']+)'/gm,
  )) {
    if (typeOnly !== undefined) continue;
    if (from.startsWith('.')) loadedWith(join(dirname(path), from), seen);
    else seen.add(from);
  }
  return seen;
}

test('the driver of a node loads neither the controller nor the library for certificates', (t) => {
  const loaded = new Set([...loadedWith('src/main.ts'), ...loadedWith('src/serve.ts')]);
  t.true(loaded.has('src/config/load.ts') && loaded.has('pino'), 'the search finds imports');
  const ofController = [...loaded].filter((path) =>
    /^src\/controller\/|^src\/tls\/|^@peculiar|^reflect-metadata|^node:https$/.test(path),
  );
  t.deepEqual(ofController, []);
});
