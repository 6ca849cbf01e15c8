import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** The version in package.json, which the build leaves where it is. */
export async function readVersion(): Promise<string> {
  // From dist/src/ to the package.
  const path = join(import.meta.dirname, '..', '..', 'package.json');
  const content: unknown = JSON.parse(await readFile(path, 'utf8'));
  const isPackage = typeof content === 'object' && content !== null && 'version' in content;
  return isPackage && typeof content.version === 'string' ? content.version : 'unknown';
}
