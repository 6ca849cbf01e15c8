/**
 * Removes compiled files whose source no longer exists, so that the tests of a renamed file do not run twice and no stale module
 * can be imported.
 */
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join, relative } from 'node:path';

const root = join(import.meta.dirname, '..', '..');
const dist = join(root, 'dist');
// scripts/bundle.ts clears this directory itself.
const bundle = join(dist, 'bundle');

for (const entry of readdirSync(dist, { recursive: true, withFileTypes: true })) {
  const output = join(entry.parentPath, entry.name);
  if (entry.parentPath === bundle) continue;
  const match = /^(.*)\.js(?:\.map)?$/.exec(relative(dist, output));
  if (!entry.isFile() || match?.[1] === undefined) continue;
  if (!existsSync(join(root, `${match[1]}.ts`))) rmSync(output);
}
