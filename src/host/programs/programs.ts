import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { join } from 'node:path';

/** Directories that are searched for programs, in order. They are the PATH of every child process. */
export const programDirectories = ['/usr/sbin', '/usr/bin', '/sbin', '/bin'] as const;

/**
 * Every program that the driver may start, with its Debian package. `run` starts no other. The container image,
 * `doctor` and the check at start use this table.
 */
export const programs = {
  cp: 'coreutils',
  setpriv: 'util-linux',
  'mkfs.ext4': 'e2fsprogs',
  e2fsck: 'e2fsprogs',
  resize2fs: 'e2fsprogs',
  tune2fs: 'e2fsprogs',
  'mkfs.xfs': 'xfsprogs',
  xfs_db: 'xfsprogs',
  'mkfs.btrfs': 'btrfs-progs',
  btrfstune: 'btrfs-progs',
} as const;

export type Program = keyof typeof programs;

/** Programs that everybody runs, so that a running one need not be the driver's. */
export const commonPrograms: ReadonlySet<string> = new Set<Program>(['cp', 'setpriv']);

/** The Debian packages of all programs, sorted and unique. */
export const debianPackages: readonly string[] = [...new Set(Object.values(programs))].sort();

/** The full path of a program; undefined if none of the directories contains an executable with that name. */
export async function findProgram(name: Program): Promise<string | undefined> {
  for (const directory of programDirectories) {
    const path = join(directory, name);
    try {
      await access(path, constants.X_OK);
      return path;
    } catch {
      // Try the next directory.
    }
  }
  return undefined;
}

/** Programs that this machine does not have, in the order of the table. */
export async function missingPrograms(): Promise<readonly Program[]> {
  const names = Object.keys(programs).filter(isProgram);
  const found = await Promise.all(names.map(findProgram));
  return names.filter((_, index) => found[index] === undefined);
}

/** How long the result is cached if no program is missing: probes ask every few seconds. */
const cacheMs = 60_000;

/** Returns `missingPrograms` with a cache. A result with a missing program is not cached; any other for a minute. */
export function makeProgramCheck(
  search: () => Promise<readonly Program[]> = missingPrograms,
  now: () => number = () => performance.now(),
): () => Promise<readonly Program[]> {
  let last: { readonly atMs: number; readonly missing: Promise<readonly Program[]> } | undefined;
  return async () => {
    if (last === undefined || now() - last.atMs > cacheMs)
      last = { atMs: now(), missing: search() };
    const current = last;
    const missing = await current.missing;
    if (missing.length > 0 && last === current) last = undefined;
    return missing;
  };
}

function isProgram(name: string): name is Program {
  return Object.hasOwn(programs, name);
}
