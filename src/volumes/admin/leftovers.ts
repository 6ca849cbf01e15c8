/** Finds what is left over on this node, and removes what the driver can recognize as its own. */
import { basename, join } from 'node:path';
import { VolumeError } from '../../errors.ts';
import { isPrivateMountName } from '../../host/filesystem/private-mount-name.ts';
import type { Host, ImageStatus, LoopDevice, Mount } from '../../host/host.ts';
import { isLabelled } from '../../host/loop/status.ts';
import { foundName, type SnapshotId } from '../../ids.ts';
import type { KnownPools } from '../../state/known-pools.ts';
import { KnownVolumes } from '../docker/known-volumes.ts';
import type { Domain } from '../domain.ts';
import { inLane } from '../engine/lanes.ts';
import { entryFiles, imageFile, recordAreas } from '../pool/layout.ts';
import type { Pool } from '../pool/pool.ts';
import { isUnavailable, makePoolQuery } from '../pool/pool-query.ts';
import type { Found, Leftover } from './leftover.ts';
import { detachUnused, leftDevices } from './leftover-devices.ts';

export interface LeftoverDeps {
  readonly knownPools: KnownPools;
  readonly stateDir: string;
}

/** Entries of `tmp/` are left over if they are older: a call that has just begun may have made a younger one. */
const minAgeMs = 10 * 60_000;

/** Finds all leftovers. Changes nothing. Pools that do not answer are left out. */
export async function listLeftovers(
  domain: Domain,
  deps: LeftoverDeps,
): Promise<readonly Leftover[]> {
  const found = await findLeftovers(domain, deps);
  return found.map(({ kind, path, pool, bytes, why, remedy }) => {
    return { kind, path, pool, bytes, why, remedy };
  });
}

/**
 * Removes the leftovers with these paths. They are searched for again first, and each is checked when it is removed: what is not left
 * over any more is not touched. Returns the problem of each path that was not removed; '' for the others.
 */
export async function removeLeftovers(
  domain: Domain,
  deps: LeftoverDeps,
  paths: readonly string[],
): Promise<readonly { readonly path: string; readonly problem: string }[]> {
  const found = await findLeftovers(domain, deps);
  const results: { path: string; problem: string }[] = [];
  for (const path of paths) {
    const leftover = found.find((one) => one.path === path);
    results.push({ path, problem: await remove(domain, leftover) });
  }
  return results;
}

async function remove(domain: Domain, leftover: Found | undefined): Promise<string> {
  if (leftover === undefined) return 'it is not left over any more';
  if (leftover.remove === undefined) return leftover.remedy;
  const { kind, path, bytes } = leftover;
  try {
    await leftover.remove();
    domain.log.info({ kind, path, bytes }, 'a leftover was removed at the request of an operator');
    return '';
  } catch (error) {
    const problem = error instanceof Error ? error.message : String(error);
    domain.log.warn({ kind, path, problem }, 'a leftover could not be removed');
    return problem;
  }
}

async function findLeftovers(domain: Domain, deps: LeftoverDeps): Promise<readonly Found[]> {
  const [devices, mounts] = await Promise.all([
    domain.host.loops.list(),
    domain.host.mounts.list(),
  ]);
  const tables = { devices, mounts };
  const query = makePoolQuery();
  const found: Found[] = [];
  for (const pool of domain.pools.served) {
    const inPool = inLane(domain, { kind: 'inspect', id: pool.name, pool: pool.name });
    const search = async (): Promise<readonly Found[]> => [
      ...(await leftDevices(inPool, pool, tables)),
      ...(await leftInTmp(inPool, pool, mounts)),
      ...(await leftInTrash(inPool, pool)),
      ...(await leftCopies(inPool, pool)),
      ...(await entriesWithoutRecord(inPool, pool)),
    ];
    try {
      found.push(...(await query(pool, search)));
    } catch (error) {
      if (!isUnavailable(error)) throw error;
    }
  }
  return [
    ...found,
    ...(await leftMountDirectories(domain, deps, mounts)),
    ...(await vanishedPools(domain, deps)),
    ...(await volumesOfUnknownPools(domain, deps)),
  ];
}

async function leftInTmp(
  domain: Domain,
  pool: Pool,
  mounts: readonly Mount[],
): Promise<readonly Found[]> {
  const { files } = domain.host;
  const entries = await files.list(pool.directoryOf('tmp'));
  // After the entries were listed: an operation that begins later makes others.
  if (domain.operations.runningCount > 0) return [];
  const found: Found[] = [];
  for (const entry of entries) {
    const path = join(pool.directoryOf('tmp'), entry);
    const status = await files.status(path).catch(() => undefined);
    if (isInUseByCall(domain, path) || status === undefined) continue;
    const ageMs = domain.now() - Number(status.modifiedNs / 1_000_000n);
    if (ageMs < minAgeMs) continue;
    const mount = mountBelow(path, mounts);
    found.push({
      kind: 'incomplete-entry',
      path,
      pool: pool.name,
      bytes: await allocatedIn(domain.host, path),
      why: 'a call that made it was interrupted',
      remedy: mount === undefined ? '' : `unmount ${mount.target} first`,
      ...(mount === undefined ? { remove: () => removeIncomplete(domain, path, entry) } : {}),
    });
  }
  return found;
}

/** Whether a running export, or a call that can be repeated, needs the entry of `tmp/`. */
function isInUseByCall(domain: Domain, path: string): boolean {
  return (
    domain.openCaptures.has(path) ||
    domain.interruptedRestores.isKept(path) ||
    domain.interruptedCreates.isKept(path)
  );
}

function mountBelow(path: string, mounts: readonly Mount[]): Mount | undefined {
  return mounts.find(({ target }) => target === path || target.startsWith(`${path}/`));
}

/** Detaches the devices of its images first: otherwise their blocks would stay allocated. Throws `busy`. */
async function removeIncomplete(domain: Domain, path: string, entry: string): Promise<void> {
  const { files, mounts } = domain.host;
  if (isInUseByCall(domain, path)) throw new VolumeError('busy', 'a call works on it again');
  const mount = mountBelow(path, await mounts.list());
  if (mount !== undefined) throw new VolumeError('busy', `it is mounted at ${mount.target}`);
  if (isPrivateMountName(entry)) {
    // Fails if something is mounted there.
    await files.removeDirectory(path);
    return;
  }
  await files.requireNoProgram(join(path, imageFile));
  for (const device of await devicesIn(domain.host, path)) {
    if (!isLabelled(device)) {
      const remedy = `run 'losetup --detach ${device.path}' first`;
      throw new VolumeError('busy', `another program has attached it to ${device.path}; ${remedy}`);
    }
    await detachUnused(domain, device);
  }
  await files.removeTree(path);
}

async function leftInTrash(domain: Domain, pool: Pool): Promise<readonly Found[]> {
  const found: Found[] = [];
  for (const entry of await domain.host.files.list(pool.directoryOf('trash'))) {
    if (!domain.trash.hasFailed(pool, entry)) continue;
    const path = join(pool.directoryOf('trash'), entry);
    found.push({
      kind: 'deleted-entry',
      path,
      pool: pool.name,
      bytes: await allocatedIn(domain.host, path),
      why: 'it was deleted, but its blocks could not be freed',
      remedy: '',
      remove: () => domain.trash.removeNow(pool, entry),
    });
  }
  return found;
}

/** The progress, and the unfinished image, of copies that are complete according to their records. */
async function leftCopies(domain: Domain, pool: Pool): Promise<readonly Found[]> {
  const { files } = domain.host;
  const found: Found[] = [];
  for (const { id, name, state } of [...pool.snapshots.values()]) {
    const lock = `snapshot:${id}`;
    if (state !== 'ready' || domain.operations.locks.lockedBy(lock) !== undefined) continue;
    for (const file of [entryFiles.copyProgress, entryFiles.partialImage]) {
      const path = pool.pathOf('snapshots', id, file);
      const status = await files.imageStatus(path).catch(() => undefined);
      if (status === undefined) continue;
      found.push({
        kind: 'copy-progress',
        path,
        pool: pool.name,
        bytes: status.allocatedBytes,
        why: `the copy of snapshot '${name}' is complete`,
        remedy: '',
        remove: () => removeCopyFile(domain, pool, id, path),
      });
    }
  }
  return found;
}

/** The snapshot may have been deleted, and made again, since the search. */
async function removeCopyFile(
  domain: Domain,
  pool: Pool,
  id: SnapshotId,
  path: string,
): Promise<void> {
  const { locks } = domain.operations;
  const release = locks.acquire({ exclusive: [`snapshot:${id}`] }, 'RemoveLeftovers');
  try {
    if (pool.snapshots.get(id)?.state !== 'ready') {
      throw new VolumeError('busy', `snapshot '${id}' is being copied`);
    }
    await domain.host.files.removeFile(path);
  } finally {
    release();
  }
}

/** What is in the directories of records, but has no record that can be used. Only an operator can decide about it. */
async function entriesWithoutRecord(domain: Domain, pool: Pool): Promise<readonly Found[]> {
  const found: Found[] = [];
  for (const area of recordAreas) {
    const index = pool.indexOf(area);
    for (const entry of await domain.host.files.list(pool.directoryOf(area))) {
      const name = foundName(entry);
      const path = pool.pathOf(area, name);
      if (index.get(name) !== undefined || !(await domain.host.files.exists(path))) continue;
      const aside = index.aside.get(name);
      // The controller decides about a member of a group.
      if (aside?.kind === 'undecided') continue;
      found.push({
        kind: 'entry-without-record',
        path,
        pool: pool.name,
        bytes: await allocatedIn(domain.host, path),
        why: aside?.message ?? 'no record names it, and the driver did not make it',
        remedy:
          'inspect it, and move it out of the pool if it is not needed; the driver never removes it',
      });
    }
  }
  return found;
}

/** Empty directories for mounts of volumes that are not mounted there. */
async function leftMountDirectories(
  domain: Domain,
  { stateDir }: LeftoverDeps,
  mounts: readonly Mount[],
): Promise<readonly Found[]> {
  const { files } = inLane(domain, { kind: 'state', id: stateDir }).host;
  const found: Found[] = [];
  for (const configured of [join(stateDir, 'mounts'), domain.mountDir]) {
    if (configured === undefined || !(await files.exists(configured))) continue;
    // As in the mount table.
    const directory = await files.resolveDirectory(configured);
    for (const { name, kind } of await files.listWithKinds(directory)) {
      const path = join(directory, name);
      const isMounted = mounts.some(({ target }) => target === path);
      if (kind !== 'directory' || isMounted || domain.operations.runningCount > 0) continue;
      if (!(await files.isEmptyDirectory(path).catch(() => false))) continue;
      found.push({
        kind: 'mount-directory',
        path,
        pool: '',
        bytes: 0n,
        why: 'it is empty, and no volume is mounted there',
        remedy: '',
        // rmdir(2) fails if something has been mounted or written there.
        remove: () => files.removeDirectory(path),
      });
    }
  }
  return found;
}

/** Directories at which the driver has seen pools that no option names and that are gone. */
async function vanishedPools(
  domain: Domain,
  { knownPools }: LeftoverDeps,
): Promise<readonly Found[]> {
  const configured = domain.pools.all.map(({ settings }) => settings.path);
  const found: Found[] = [];
  for (const path of await knownPools.directories()) {
    if (configured.includes(path)) continue;
    const { files } = inLane(domain, { kind: 'inspect', id: path }).host;
    if (await files.exists(path).catch(() => true)) continue;
    found.push({
      kind: 'vanished-pool',
      path,
      pool: '',
      bytes: 0n,
      why: 'a pool was seen there; the directory does not exist, and no --pool names it',
      remedy: `if its disk is lost: loopcsi pool forget NAME=${path}`,
    });
  }
  return found;
}

/**
 * Volumes that Docker knows, of pools that are not known any more, because another pool was adopted at their directory. Docker would start a
 * container with an empty volume if the file was removed while the pool can come back, so an operator decides.
 */
async function volumesOfUnknownPools(
  domain: Domain,
  { knownPools, stateDir }: LeftoverDeps,
): Promise<readonly Found[]> {
  const { host, log } = inLane(domain, { kind: 'state', id: stateDir });
  const known = new KnownVolumes(stateDir, { host, log });
  const found = await known.ofOtherPools(() => knownPools.uuids());
  return found.map((path) => ({
    kind: 'known-volume',
    path,
    pool: '',
    bytes: 0n,
    why: `Docker knows volume '${basename(path)}', whose pool this node does not know any more`,
    remedy: `if its pool is lost for good: rm ${path}`,
  }));
}

/** Space that the images directly in a directory occupy, or a file. */
async function allocatedIn(host: Host, path: string): Promise<bigint> {
  const images = await imagesIn(host, path);
  return images.reduce((bytes, { allocatedBytes }) => bytes + allocatedBytes, 0n);
}

/** The loop devices of the images directly in a directory, or of a file. */
async function devicesIn(host: Host, path: string): Promise<readonly LoopDevice[]> {
  const images = await imagesIn(host, path);
  return (await Promise.all(images.map((image) => host.loops.findByImage(image)))).flat();
}

async function imagesIn({ files }: Host, path: string): Promise<readonly ImageStatus[]> {
  const names = await files.list(path).catch(() => undefined);
  const paths = names === undefined ? [path] : names.map((name) => join(path, name));
  const images: ImageStatus[] = [];
  for (const one of paths) {
    const image = await files.imageStatus(one).catch(() => undefined);
    if (image !== undefined) images.push(image);
  }
  return images;
}
