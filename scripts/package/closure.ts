/** Installed npm packages and everything that they depend on. */
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import * as v from 'valibot';

const manifestShape = v.object({
  name: v.string(),
  version: v.string(),
  license: v.optional(v.string(), 'not stated'),
  dependencies: v.optional(v.record(v.string(), v.string()), {}),
});

export interface InstalledPackage {
  readonly name: string;
  readonly version: string;
  readonly license: string;
  readonly directory: string;
}

/**
 * Returns the packages with these names below `root`, and their dependencies, in the order of their directories. Optional and
 * peer dependencies are not included. Throws an Error if a package is not installed.
 */
export async function findPackageClosure(
  root: string,
  names: readonly string[],
): Promise<readonly InstalledPackage[]> {
  const found = new Map<string, InstalledPackage>();
  const visit = async (name: string, importer: string): Promise<void> => {
    const directory = resolveInstalled(name, { importer, root });
    if (found.has(directory)) return;
    const text = await readFile(join(directory, 'package.json'), 'utf8');
    const { dependencies, ...facts } = v.parse(manifestShape, JSON.parse(text));
    found.set(directory, { ...facts, directory });
    for (const dependency of Object.keys(dependencies)) await visit(dependency, directory);
  };
  for (const name of names) await visit(name, root);
  return [...found.values()].sort((a, b) => (a.directory < b.directory ? -1 : 1));
}

/** Looks for the package in `node_modules` of the importer's directory and of its parents, as Node does. */
function resolveInstalled(
  name: string,
  { importer, root }: { readonly importer: string; readonly root: string },
): string {
  for (let directory = importer; directory.startsWith(root); directory = dirname(directory)) {
    const candidate = join(directory, 'node_modules', name);
    if (existsSync(join(candidate, 'package.json'))) return candidate;
  }
  throw new Error(`npm package ${name}, which ${importer} needs, is not installed: run 'npm ci'`);
}

/** The texts of the package's licence files. */
export async function readLicenses(directory: string): Promise<readonly string[]> {
  const names = (await readdir(directory)).filter((name) => /^(licen[cs]e|notice)/i.test(name));
  return Promise.all(names.sort().map((name) => readFile(join(directory, name), 'utf8')));
}
