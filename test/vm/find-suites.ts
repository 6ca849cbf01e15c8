import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Suite } from './suite.ts';

/** Returns the export `suite` of every module of `suites/`, in the order of file names. */
export async function findSuites(): Promise<readonly Suite[]> {
  const directory = join(import.meta.dirname, 'suites');
  const files = (await readdir(directory)).filter((name) => name.endsWith('.js')).sort();
  const suites: Suite[] = [];
  for (const file of files) {
    // Each of these modules declares its export `suite` with this type.
    const module = (await import(pathToFileURL(join(directory, file)).href)) as { suite: Suite };
    suites.push(module.suite);
  }
  return suites;
}

export const isInSample = (suite: Suite): boolean =>
  'drive' in suite ? suite.isSample === true : suite.sample !== undefined;
