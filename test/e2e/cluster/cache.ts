/**
 * Results that take minutes and depend on few inputs (programs, images) are kept outside the checkout, so that a later run on
 * the same machine finds them. An entry is a directory `<name>-<hash of its inputs>`, which gets this name once it is complete.
 */
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, utimes } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';

export const projectRoot = join(import.meta.dirname, '..', '..', '..', '..');

/** This number of entries of each name is kept, regardless of age, and no entry that was used within the last hour is removed. */
const keptEntries = 2;
const freshMs = 3_600_000;

/** The directory of the cache; `scripts/bootstrap` uses the same. */
export function cacheRoot(): string {
  const cacheHome = process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache');
  return process.env['LOOPCSI_CACHE'] || join(cacheHome, 'loopcsi');
}

/** A hash of texts and of the content of files and directories (paths relative to the project's root). */
export async function hashInputs(
  texts: readonly string[],
  paths: readonly string[],
): Promise<string> {
  const hash = createHash('sha256').update(JSON.stringify(texts));
  for (const path of paths) {
    const absolute = join(projectRoot, path);
    const isDirectory = (await stat(absolute)).isDirectory();
    const files = isDirectory
      ? (await readdir(absolute, { recursive: true, withFileTypes: true }))
          .filter((entry) => entry.isFile())
          .map((entry) => join(entry.parentPath, entry.name))
          .sort()
      : [absolute];
    for (const file of files) {
      hash.update(`\0${file.slice(projectRoot.length)}\0`).update(await readFile(file));
    }
  }
  return hash.digest('hex').slice(0, 16);
}

/** Returns the entry's directory; `make` fills a new one if there is none yet. */
export async function cached(
  name: string,
  key: string,
  make: (directory: string) => Promise<void>,
): Promise<string> {
  const entry = join(cacheRoot(), `${name}-${key}`);
  if (await touch(entry)) return entry;
  await mkdir(cacheRoot(), { recursive: true });
  const draft = await mkdtemp(join(cacheRoot(), `.${name}-`));
  try {
    await make(draft);
    await rename(draft, entry);
  } catch (error) {
    await rm(draft, { recursive: true, force: true });
    if (!(await touch(entry))) throw error; // otherwise another run made the same meanwhile
  }
  await dropStale(name);
  return entry;
}

/** A directory that programs may use as their own cache. */
export async function sharedDirectory(name: string): Promise<string> {
  const directory = join(cacheRoot(), name);
  await mkdir(directory, { recursive: true });
  return directory;
}

async function touch(entry: string): Promise<boolean> {
  const now = new Date();
  return utimes(entry, now, now).then(
    () => true,
    () => false,
  );
}

async function dropStale(name: string): Promise<void> {
  const pattern = new RegExp(`^\\.?${name}-\\w{6,16}$`);
  const found: { readonly path: string; readonly usedAtMs: number }[] = [];
  for (const other of await readdir(cacheRoot())) {
    const path = join(cacheRoot(), other);
    if (pattern.test(other)) found.push({ path, usedAtMs: (await stat(path)).mtimeMs });
  }
  found.sort((a, b) => b.usedAtMs - a.usedAtMs);
  for (const { path, usedAtMs } of found.slice(keptEntries)) {
    if (usedAtMs < Date.now() - freshMs) await rm(path, { recursive: true, force: true });
  }
}
