/**
 * Removes what the compiler once wrote for a source that is gone, so that no test of a renamed
 * file runs for ever and no stale module can be imported.
 */
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join, relative } from 'node:path';

const root = join(import.meta.dirname, '..', '..');
const dist = join(root, 'dist');

for (const entry of readdirSync(dist, { recursive: true, withFileTypes: true })) {
  const output = join(entry.parentPath, entry.name);
  const match = /^(.*)\.js(?:\.map)?$/.exec(relative(dist, output));
  if (!entry.isFile() || match?.[1] === undefined) continue;
  if (!existsSync(join(root, `${match[1]}.ts`))) rmSync(output);
}
