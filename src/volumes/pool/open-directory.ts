import { randomUUID } from 'node:crypto';
import { dirname, join } from 'node:path';
import { messageOf, VolumeError } from '../../errors.ts';
import { hasErrno, mayBeStorageFailure } from '../../host/errors.ts';
import { replacementOf } from '../../host/files/replace-file.ts';
import type { Files, Host } from '../../host/host.ts';
import type { Logger } from '../../observe/log.ts';
import type { KnownPools } from '../../state/known-pools.ts';
import { type PoolMarker, poolMarker, readRecord, writeRecord } from '../../state/records.ts';
import type { Reached } from '../engine/fault-points.ts';
import { isEmbedded, openEmbedded } from './embedded.ts';
import { areaIn, poolAreas, poolFiles, recordAreas } from './layout.ts';
import { unavailableError } from './problem.ts';
import { lockPool, type ProcessLock } from './process-lock.ts';
import type { PoolSettings } from './settings.ts';

/** The abilities of the pool's filesystem, determined by trying them. */
export interface PoolAbilities {
  readonly reflink: boolean;
  readonly directIo: boolean;
  readonly discard: boolean;
  /** ext4, xfs, btrfs, …, or the magic number. */
  readonly filesystem: string;
}

export interface OpenedPool {
  /** The real path of the directory that contains `pool.json`. */
  readonly root: string;
  /** The directory with the image of an embedded pool; undefined if the directory itself is the pool. */
  readonly embeddedIn: string | undefined;
  readonly marker: PoolMarker;
  readonly lock: ProcessLock;
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

/** Name of the filesystem at `path`, by its magic number (statfs(2)). */
export async function filesystemOf(files: Files, path: string): Promise<string> {
  const magic = (await files.filesystemMagic(path)).toString(16);
  return filesystemNames[magic] ?? `0x${magic}`;
}

/**
 * Determines the abilities of the pool's filesystem by trying them in the pool's `tmp/`. Throws `unavailable` if it cannot rename
 * without replacing, because every commit does.
 */
export async function probeAbilities(
  { root, name }: { readonly root: string; readonly name: string },
  { host, log }: { host: Host; log: Logger },
): Promise<PoolAbilities> {
  const filesystem = await filesystemOf(host.files, root);
  const tmp = areaIn(root, 'tmp');
  try {
    const reflink = await host.copies.canReflink(tmp);
    const { directIo, discard, renameNoReplace } = await host.files.probe(tmp);
    if (!renameNoReplace) {
      throw unavailableError(
        name,
        `${root} is on ${filesystem}, which cannot rename without replacing (RENAME_NOREPLACE of renameat2(2)); choose a directory on ext4, XFS or btrfs`,
      );
    }
    return { reflink, directIo, discard, filesystem };
  } catch (error) {
    if (!hasErrno(error, 'ENOSPC', 'EDQUOT')) throw error;
    // The volumes on a full disk can still be served. Reflink is assumed where it is possible, so that shared blocks are measured
    // correctly.
    log.warn(
      { pool: name, filesystem },
      'the abilities of a filesystem were assumed because its disk was full',
    );
    const reflink = filesystem === 'xfs' || filesystem === 'btrfs';
    return { reflink, directIo: true, discard: true, filesystem };
  }
}

/**
 * Opens a pool's directory: checks that it is the right one, creates the pool at its first start if its settings allow that, and
 * locks it. Throws `unavailable` with advice for the operator. Writes nothing into a directory that is not known to be the
 * driver's.
 */
export async function openPoolDirectory(
  settings: PoolSettings,
  deps: { host: Host; knownPools: KnownPools; nodeTag: string; reached: Reached; nowMs: number },
): Promise<OpenedPool> {
  const { name } = settings;
  const { files } = deps.host;
  const seenUuid = await deps.knownPools.seenAt(settings.path);
  await requireDirectory(deps.host, settings, seenUuid);
  const directory = await files.resolveDirectory(settings.path);
  await requireSuitableDisk(settings, deps.host, directory);
  const embeddedIn = (await isEmbedded(files, settings)) ? directory : undefined;
  const mayCreate = settings.create && seenUuid === undefined;
  const root =
    embeddedIn === undefined
      ? directory
      : await openEmbedded(settings, { directory, mayCreate, deps });
  const marker =
    (await findMarker(files, root, name)) ??
    (await initPool(settings, root, { ...deps, seenUuid }));
  if (seenUuid !== undefined && seenUuid !== marker.uuid) {
    throw unavailableError(
      name,
      `${root} contains pool ${marker.uuid}, but this node has seen pool ${seenUuid} there, so another disk is mounted; mount the right one, or accept this one with 'loopcsi pool adopt ${name}'`,
    );
  }
  if (marker.nodeTag !== deps.nodeTag) {
    throw unavailableError(
      name,
      `${root} belongs to a node with tag ${marker.nodeTag}, but this node has tag ${deps.nodeTag} (its --node-id has changed, or the disk was moved here); take it over with 'loopcsi pool adopt ${name}'`,
    );
  }
  const lock = await lockServedPool(files, root, name);
  try {
    await ensureAreas(files, root);
    await deps.knownPools.remember(settings.path, marker.uuid);
  } catch (error) {
    await lock.release();
    throw error;
  }
  return { root, embeddedIn, marker, lock };
}

async function ensureAreas(files: Files, root: string): Promise<void> {
  const existing = await files.list(root);
  const missing = poolAreas.filter((area) => !existing.includes(area));
  for (const area of missing) await files.makeDirectory(areaIn(root, area));
  // Synced even if no directory was missing: after a crash, existing directories may not be durable.
  await files.sync(root);
}

async function requireDirectory(
  host: Host,
  settings: PoolSettings,
  seenUuid: string | undefined,
): Promise<void> {
  const { name, path } = settings;
  const { files } = host;
  try {
    await files.list(path);
  } catch (error) {
    // The caller adds the advice for a filesystem that has failed.
    if (mayBeStorageFailure(error)) throw error;
    if (!hasErrno(error, 'ENOENT')) {
      throw unavailableError(name, `${path} cannot be read: ${messageOf(error)}`, error);
    }
    if (!settings.create || seenUuid !== undefined) {
      throw unavailableError(
        name,
        `${path} does not exist; mount its disk, or create the directory${seenUuid === undefined ? '' : forgetAdvice(name)}`,
      );
    }
    if (settings.mountpointRequired) {
      throw unavailableError(name, `${path} does not exist; mount the pool's disk there`);
    }
    // Checked before the directory is created, so that a refusal leaves nothing behind.
    await requirePersistent(settings, files, await nearestExisting(files, path));
    await files.makeDirectory(path);
  }
}

async function requireSuitableDisk(
  settings: PoolSettings,
  host: Host,
  root: string,
): Promise<void> {
  const { name } = settings;
  if (settings.mountpointRequired && (await host.mounts.at(root)) === undefined) {
    throw unavailableError(name, `${root} is not a mount point; mount the pool's disk there`);
  }
  await requirePersistent(settings, host.files, root);
}

/** Throws for a filesystem whose files are lost with the machine or the container. */
async function requirePersistent(
  { name, path, force }: PoolSettings,
  files: Files,
  directory: string,
): Promise<void> {
  const filesystem = await filesystemOf(files, directory);
  if (force || (filesystem !== 'tmpfs' && filesystem !== 'overlayfs')) return;
  throw unavailableError(
    name,
    `${path} is on ${filesystem}, where volumes would be lost; choose a directory on a disk, or accept that with --force of 'loopcsi pool init' and with ',force' in the driver's --pool ${name}=${path},force`,
  );
}

/** The path itself, or its nearest existing parent. */
async function nearestExisting(files: Files, path: string): Promise<string> {
  let existing = path;
  while (!(await files.exists(existing)) && dirname(existing) !== existing) {
    existing = dirname(existing);
  }
  return existing;
}

/** The advice for a pool whose disk is lost. */
function forgetAdvice(name: string): string {
  return `; if that pool is lost, give it up with 'loopcsi pool forget ${name}'`;
}

/**
 * The marker of the pool in that directory; undefined if the directory is not a pool. Throws `unavailable` if the marker is
 * damaged.
 */
export async function findMarker(
  files: Files,
  root: string,
  name: string,
): Promise<PoolMarker | undefined> {
  try {
    return await readRecord(files, poolMarker, join(root, poolFiles.marker));
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined;
    if (error instanceof VolumeError) throw unavailableError(name, error.message, error);
    throw error;
  }
}

async function initPool(
  settings: PoolSettings,
  root: string,
  deps: {
    host: Host;
    seenUuid: string | undefined;
    nodeTag: string;
    reached: Reached;
    nowMs: number;
  },
): Promise<PoolMarker> {
  const { name } = settings;
  const { seenUuid } = deps;
  if (seenUuid !== undefined) {
    throw unavailableError(
      name,
      (await hasRecords(deps.host.files, root))
        ? `${root} has no pool.json, but it has the records of pool ${seenUuid}; restore pool.json from a backup, or write it again with 'loopcsi pool recover ${name}'`
        : `${root} has no pool.json, but pool ${seenUuid} was seen there before, so its disk is not mounted; mount it${forgetAdvice(name)}`,
    );
  }
  if (!settings.create) {
    throw unavailableError(
      name,
      `${root} is not a pool yet; make it a pool with 'loopcsi pool init ${name}'`,
    );
  }
  const { files } = deps.host;
  const allowed = ['lost+found', poolFiles.lock, replacementOf(poolFiles.marker)];
  const foreign = (await files.list(root)).filter((entry) => !allowed.includes(entry));
  if (foreign.length > 0) {
    throw unavailableError(
      name,
      `${root} is not empty (${foreign.slice(0, 3).join(', ')}); choose an empty directory for a new pool`,
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

/** Whether a directory without a marker has volumes or snapshots. */
async function hasRecords(files: Files, root: string): Promise<boolean> {
  for (const area of recordAreas) {
    const entries = await files.list(areaIn(root, area)).catch(() => []);
    if (entries.length > 0) return true;
  }
  return false;
}

async function lockServedPool(files: Files, root: string, name: string): Promise<ProcessLock> {
  try {
    return await lockPool(files, { name, root }, 'unavailable');
  } catch (error) {
    if (!hasErrno(error, 'EROFS')) throw error;
    const advice = "check the kernel's log and mount it read-write again";
    throw unavailableError(name, `the filesystem of ${root} is read-only; ${advice}`, error);
  }
}
