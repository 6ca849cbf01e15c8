/**
 * Removes compiled files whose source no longer exists. Otherwise the tests of a renamed file would run twice, and stale modules
 * could be imported.
 */
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join, relative } from 'node:path';

const root = join(import.meta.dirname, '..', '..');
const dist = join(root, 'dist');
// Contains bundled files without a source of the same name; scripts/bundle.ts clears it.
const bundle = join(dist, 'bundle');

for (const entry of readdirSync(dist, { recursive: true, withFileTypes: true })) {
  const output = join(entry.parentPath, entry.name);
  if (entry.parentPath === bundle) continue;
  const match = /^(.*)\.js(?:\.map)?$/.exec(relative(dist, output));
  if (!entry.isFile() || match?.[1] === undefined) continue;
  if (!existsSync(join(root, `${match[1]}.ts`))) rmSync(output);
}
