import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Suite } from './suite.ts';

/** Every module of `suites/` exports one as `suite`. In the order of their files' names. */
export async function findSuites(): Promise<readonly Suite[]> {
  const directory = join(import.meta.dirname, 'suites');
  const files = (await readdir(directory)).filter((name) => name.endsWith('.js')).sort();
  const suites: Suite[] = [];
  for (const file of files) {
    // Their own types say that they do.
    const module = (await import(pathToFileURL(join(directory, file)).href)) as { suite: Suite };
    suites.push(module.suite);
  }
  return suites;
}

export const isInSample = (suite: Suite): boolean =>
  'drive' in suite ? suite.isSample === true : suite.sample !== undefined;
