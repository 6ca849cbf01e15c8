import { randomUUID } from 'node:crypto';
import { dirname, join } from 'node:path';
import { messageOf, VolumeError } from '../../errors.ts';
import { hasErrno, mayBeStorageFailure } from '../../host/errors.ts';
import type { Files, Host } from '../../host/host.ts';
import type { Logger } from '../../observe/log.ts';
import type { KnownPools } from '../../state/known-pools.ts';
import { type PoolMarker, poolMarker, readRecord, writeRecord } from '../../state/records.ts';
import type { Reached } from '../engine/fault-points.ts';
import { isEmbedded, openEmbedded } from './embedded.ts';
import { poolAreas, poolFiles, recordAreas } from './layout.ts';
import { unavailable } from './problem.ts';
import type { PoolSettings } from './settings.ts';

/** What the pool's filesystem was seen to do. */
export interface PoolAbilities {
  readonly reflink: boolean;
  readonly directIo: boolean;
  readonly discard: boolean;
  /** ext4, xfs, btrfs, …, or its magic number. */
  readonly filesystem: string;
}

export interface OpenedPool {
  /** The real path of the directory that holds `pool.json`. */
  readonly root: string;
  /** The directory with the image that the pool lies in; undefined when the directory itself is the pool. */
  readonly embeddedIn: string | undefined;
  readonly marker: PoolMarker;
  readonly lock: { release(): Promise<void> };
}

const filesystemNames: Readonly<Record<string, string>> = {
  ef53: 'ext4',
  '58465342': 'xfs',
  '9123683e': 'btrfs',
  '1021994': 'tmpfs',
  '794c7630': 'overlayfs',
  '65735546': 'fuse',
  '6969': 'nfs',
  '2fc12fc1': 'zfs',
  f2f52010: 'f2fs',
};

/** Name of the filesystem below `path`, by its magic number (statfs(2)). */
export async function filesystemOf(files: Files, path: string): Promise<string> {
  const magic = (await files.filesystemMagic(path)).toString(16);
  return filesystemNames[magic] ?? `0x${magic}`;
}

/**
 * Tries in its `tmp/` what the pool's filesystem can do. Throws `unavailable` when it cannot rename without replacing, which is
 * how everything is committed.
 */
export async function probeAbilities(
  { root, name }: { readonly root: string; readonly name: string },
  { host, log }: { host: Host; log: Logger },
): Promise<PoolAbilities> {
  const filesystem = await filesystemOf(host.files, root);
  const tmp = join(root, 'tmp');
  try {
    const reflink = await host.copies.canReflink(tmp);
    const { directIo, discard, renameNoReplace } = await host.files.probe(tmp);
    if (!renameNoReplace) {
      throw unavailable(
        name,
        `${root} is on ${filesystem}, which cannot rename without replacing (RENAME_NOREPLACE of renameat2(2)); choose a directory on ext4, XFS or btrfs`,
      );
    }
    return { reflink, directIo, discard, filesystem };
  } catch (error) {
    if (!hasErrno(error, 'ENOSPC', 'EDQUOT')) throw error;
    // A full disk serves what is on it all the same. What may share blocks is measured as if it did.
    log.warn({ pool: name, filesystem }, 'the disk is full: its abilities are guessed');
    const reflink = filesystem === 'xfs' || filesystem === 'btrfs';
    return { reflink, directIo: true, discard: true, filesystem };
  }
}

/**
 * Opens a pool's directory: checks that it is the right one, makes it at its first start where that is allowed, takes its
 * lock. Throws `unavailable` with what an operator must do; writes nothing into a directory that is not known to be ours.
 */
export async function openPoolDirectory(
  settings: PoolSettings,
  deps: { host: Host; knownPools: KnownPools; nodeTag: string; reached: Reached; nowMs: number },
): Promise<OpenedPool> {
  const { name } = settings;
  const { files } = deps.host;
  const seen = await deps.knownPools.seenAt(settings.path);
  await requireDirectory(deps.host, settings, seen);
  const directory = await files.resolveDirectory(settings.path);
  await requirePlace(settings, deps.host, directory);
  const embeddedIn = (await isEmbedded(files, settings)) ? directory : undefined;
  const mayBeMade = settings.create && seen === undefined;
  const root =
    embeddedIn === undefined
      ? directory
      : await openEmbedded(settings, { directory, mayBeMade, deps });
  const marker =
    (await findMarker(files, root, name)) ?? (await firstInit(settings, root, { ...deps, seen }));
  if (seen !== undefined && seen !== marker.uuid) {
    throw unavailable(
      name,
      `${root} holds pool ${marker.uuid}, but this node knows ${seen} there: another disk is mounted; mount the right one, or accept this one with 'loopcsi pool adopt ${name}'`,
    );
  }
  if (marker.nodeTag !== deps.nodeTag) {
    throw unavailable(
      name,
      `${root} belongs to a node with tag ${marker.nodeTag}, this one is ${deps.nodeTag} (its --node-id changed, or the disk was moved here); take it over with 'loopcsi pool adopt ${name}'`,
    );
  }
  const lock = await takeLock(deps.host, root, name);
  try {
    await makeAreas(files, root);
    await deps.knownPools.remember(settings.path, marker.uuid);
  } catch (error) {
    await lock.release();
    throw error;
  }
  return { root, embeddedIn, marker, lock };
}

async function makeAreas(files: Files, root: string): Promise<void> {
  const there = await files.list(root);
  const missing = poolAreas.filter((area) => !there.includes(area));
  for (const area of missing) await files.makeDirectory(join(root, area));
  // Also when a crash came between: what is there may not be on the disk yet.
  await files.sync(root);
}

async function requireDirectory(
  host: Host,
  settings: PoolSettings,
  seen: string | undefined,
): Promise<void> {
  const { name, path } = settings;
  const { files } = host;
  try {
    await files.list(path);
  } catch (error) {
    // What to do about a filesystem that has failed is the same, whichever call meets it.
    if (mayBeStorageFailure(error)) throw error;
    if (!hasErrno(error, 'ENOENT')) {
      throw unavailable(name, `${path} cannot be read: ${messageOf(error)}`, error);
    }
    if (!settings.create || seen !== undefined) {
      throw unavailable(
        name,
        `${path} does not exist; mount its disk, or make the directory${seen === undefined ? '' : givenUp(name)}`,
      );
    }
    if (settings.mountpointRequired) {
      throw unavailable(name, `${path} does not exist; mount the pool's disk there`);
    }
    // Looked at before it is made: a refusal leaves nothing behind.
    await requireKept(settings, files, await nearestThere(files, path));
    await files.makeDirectory(path);
  }
}

async function requirePlace(settings: PoolSettings, host: Host, root: string): Promise<void> {
  const { name } = settings;
  if (settings.mountpointRequired && (await host.mounts.at(root)) === undefined) {
    throw unavailable(name, `${root} is not a mount point; mount the pool's disk there`);
  }
  await requireKept(settings, host.files, root);
}

/** Throws for a filesystem whose files end with the machine or the container. */
async function requireKept(
  { name, path, force }: PoolSettings,
  files: Files,
  there: string,
): Promise<void> {
  const filesystem = await filesystemOf(files, there);
  if (force || (filesystem !== 'tmpfs' && filesystem !== 'overlayfs')) return;
  throw unavailable(
    name,
    `${path} is on ${filesystem}, where volumes would be lost; choose a directory on a disk, or accept that by --force of 'loopcsi pool init' and by ',force' in the driver's --pool ${name}=${path},force`,
  );
}

/** The path itself, or what is there of it. */
async function nearestThere(files: Files, path: string): Promise<string> {
  let there = path;
  while (!(await files.exists(there)) && dirname(there) !== there) there = dirname(there);
  return there;
}

/** What to do when the disk of a pool that was seen is not coming back. */
function givenUp(name: string): string {
  return `; if that pool is lost for good, give it up with 'loopcsi pool forget ${name}'`;
}

/** The marker of the pool in that directory; undefined when it is none. Throws `unavailable` when it cannot be read. */
export async function findMarker(
  files: Files,
  root: string,
  name: string,
): Promise<PoolMarker | undefined> {
  try {
    return await readRecord(files, poolMarker, join(root, poolFiles.marker));
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined;
    if (error instanceof VolumeError) throw unavailable(name, error.message, error);
    throw error;
  }
}

async function firstInit(
  settings: PoolSettings,
  root: string,
  deps: {
    host: Host;
    seen: string | undefined;
    nodeTag: string;
    reached: Reached;
    nowMs: number;
  },
): Promise<PoolMarker> {
  const { name } = settings;
  const { seen } = deps;
  if (seen !== undefined) {
    throw unavailable(
      name,
      (await hasRecords(deps.host.files, root))
        ? `${root} has no pool.json, but the records of pool ${seen} are there; restore it from a backup, or write it again with 'loopcsi pool recover ${name}'`
        : `${root} has no pool.json, but pool ${seen} was seen there before: its disk is not mounted; mount it${givenUp(name)}`,
    );
  }
  if (!settings.create) {
    throw unavailable(name, `${root} is no pool yet; make it one with 'loopcsi pool init ${name}'`);
  }
  const { files } = deps.host;
  const others = (await files.list(root)).filter(
    (entry) => entry !== 'lost+found' && entry !== poolFiles.lock && entry !== 'pool.json.new',
  );
  if (others.length > 0) {
    throw unavailable(
      name,
      `${root} is not empty (${others.slice(0, 3).join(', ')}); a pool starts in an empty directory`,
    );
  }
  const marker = {
    schemaVersion: 1 as const,
    uuid: randomUUID(),
    nodeTag: deps.nodeTag,
    createdAtMs: deps.nowMs,
  };
  await writeRecord(files, join(root, poolFiles.marker), { schema: poolMarker, value: marker });
  await deps.reached('pool:marker-written');
  return marker;
}

/** Whether volumes or snapshots stand in a directory that lost its marker. */
async function hasRecords(files: Files, root: string): Promise<boolean> {
  for (const area of recordAreas) {
    const entries = await files.list(join(root, area)).catch(() => []);
    if (entries.length > 0) return true;
  }
  return false;
}

async function takeLock(host: Host, root: string, name: string): Promise<OpenedPool['lock']> {
  try {
    return await host.files.lock(join(root, poolFiles.lock));
  } catch (error) {
    if (hasErrno(error, 'EAGAIN', 'EWOULDBLOCK')) {
      throw unavailable(name, `${root} is served by another loopcsi process; stop that one first`);
    }
    if (hasErrno(error, 'EROFS')) {
      const what = 'see dmesg, and mount it read-write again';
      throw unavailable(name, `the filesystem of ${root} is read-only; ${what}`, error);
    }
    throw error;
  }
}
