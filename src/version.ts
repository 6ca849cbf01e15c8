import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Reads the version from package.json, which is not copied into dist/. */
export async function readVersion(): Promise<string> {
  // The compiled file is in dist/src/ or dist/bundle/.
  const path = join(import.meta.dirname, '..', '..', 'package.json');
  const content: unknown = JSON.parse(await readFile(path, 'utf8'));
  const isPackage = typeof content === 'object' && content !== null && 'version' in content;
  return isPackage && typeof content.version === 'string' ? content.version : 'unknown';
}
