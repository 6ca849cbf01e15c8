/** Finds what is left over on this node, and removes what the driver can recognize as its own. */
import { join } from 'node:path';
import { VolumeError } from '../../errors.ts';
import { isPrivateMountName } from '../../host/filesystem/private-mount-name.ts';
import type { FileIdentity, Host, LoopDevice, Mount } from '../../host/host.ts';
import { isLabelled } from '../../host/loop/status.ts';
import { exposesDevice } from '../../host/mount/loop-mounts.ts';
import type { KnownPools } from '../../state/known-pools.ts';
import { describeDeviceUsers } from '../attachment/unmount.ts';
import type { Domain } from '../domain.ts';
import { inLane } from '../engine/lanes.ts';
import { volumeLock } from '../engine/locks.ts';
import { foundName } from '../ids.ts';
import { callIdOf } from '../pool/contents.ts';
import { entryFiles, imageFile, recordAreas } from '../pool/layout.ts';
import type { Pool } from '../pool/pool.ts';
import { isUnavailable, makePoolQuery } from '../pool/pool-query.ts';

type LeftoverKind =
  /** A loop device of the driver whose image is no volume, or whose volume is not in use. */
  | 'loop-device'
  /** An entry of `tmp/` that no call works on. */
  | 'incomplete-entry'
  /** A deleted entry whose removal failed. */
  | 'deleted-entry'
  /** An empty directory in which the driver mounted a volume. */
  | 'mount-directory'
  /** Files of a copy that is complete. */
  | 'copy-progress'
  /** A file or directory of a pool that has no record. */
  | 'entry-without-record'
  /** A pool that was seen at a directory and is not there any more. */
  | 'vanished-pool';

export interface Leftover {
  readonly kind: LeftoverKind;
  /** The path of the file, directory or device. */
  readonly path: string;
  /** The name of the pool; '' for a leftover outside all pools. */
  readonly pool: string;
  /** Space that it occupies. */
  readonly bytes: bigint;
  readonly why: string;
  /** What an operator may do; '' if the driver removes it. */
  readonly remedy: string;
}

/** A leftover with the action that removes it; absent if only an operator can decide. */
interface Found extends Leftover {
  readonly remove?: () => Promise<void>;
}

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
 * Removes the leftovers with these paths. Each is looked up again first: what is not left over any more is not touched. Returns the
 * problem of each path that was not removed; '' for the others.
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
  const query = makePoolQuery();
  const found: Found[] = [...(await leftDevices(domain, devices, mounts))];
  for (const pool of domain.pools.served) {
    const inPool = inLane(domain, { kind: 'inspect', id: pool.name, pool: pool.name });
    const search = async (): Promise<readonly Found[]> => [
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
  ];
}

/** Loop devices with the driver's label whose image is in a served pool, and which nothing uses. */
async function leftDevices(
  domain: Domain,
  devices: readonly LoopDevice[],
  mounts: readonly Mount[],
): Promise<readonly Found[]> {
  const found: Found[] = [];
  const owners = new Map<Pool, ReadonlyMap<string, Owner>>();
  for (const device of devices.filter(isLabelled)) {
    const file = (await domain.host.loops.backingPath(device)) ?? '';
    const pool = domain.pools.served.find(({ root }) => file.startsWith(`${root}/`));
    // A device on an entry of `tmp/` belongs to a call, or is removed with the entry.
    if (pool === undefined || file.startsWith(`${pool.directoryOf('tmp')}/`)) continue;
    const inPool = inLane(domain, { kind: 'devices', id: pool.name, pool: pool.name });
    const known = owners.get(pool) ?? (await ownersByImage(inPool.host, pool));
    owners.set(pool, known);
    const owner = known.get(identityOf(device.backing));
    const isMounted = mounts.some((mount) => exposesDevice(mount, device));
    const isInUse = isMounted || (await inPool.host.loops.isInUse(device));
    if (owner !== undefined && (isInUse || isLocked(domain, owner))) continue;
    found.push(await leftDevice(inPool, { device, file, pool, owner, isInUse }));
  }
  return found;
}

interface DeviceFacts {
  readonly device: LoopDevice;
  /** The path of its image, according to the kernel. */
  readonly file: string;
  readonly pool: Pool;
  readonly owner: Owner | undefined;
  readonly isInUse: boolean;
}

async function leftDevice(domain: Domain, facts: DeviceFacts): Promise<Found> {
  const { device, file, pool, owner, isInUse } = facts;
  const users = isInUse ? await describeDeviceUsers(domain.host, device) : '';
  const left = {
    kind: 'loop-device',
    path: device.path,
    pool: pool.name,
    // The blocks of a file that was deleted are freed when the device is detached.
    bytes: file.endsWith(' (deleted)') ? device.sizeBytes : 0n,
    why:
      owner === undefined
        ? `it is attached to ${file}, which is no volume any more`
        : `it is attached to '${owner.name}', which nothing uses`,
  } as const;
  if (isInUse) {
    return { ...left, remedy: `it is in use${users}; end that, then run the command again` };
  }
  return { ...left, remedy: '', remove: () => detachUnused(domain, device, owner) };
}

/** The volume or snapshot of an image. */
interface Owner {
  readonly name: string;
  /** Keys of the locks that a call on it has. */
  readonly lock: string;
}

function isLocked({ operations }: Domain, { lock }: Owner): boolean {
  return operations.locks.lockedBy(lock) !== undefined;
}

function identityOf({ device, inode }: FileIdentity): string {
  return `${device}:${inode}`;
}

async function ownersByImage(host: Host, pool: Pool): Promise<ReadonlyMap<string, Owner>> {
  const images = [
    ...[...pool.images()].map((image) => ({
      path: image.imagePath,
      owner: { name: image.record.name, lock: volumeLock(callIdOf(image)) },
    })),
    ...[...pool.snapshots.values()].map(({ id, name }) => ({
      path: pool.pathOf('snapshots', id, imageFile),
      owner: { name, lock: `snapshot:${id}` },
    })),
  ];
  const owners = new Map<string, Owner>();
  for (const { path, owner } of images) {
    const image = await host.files.imageStatus(path).catch(() => undefined);
    if (image !== undefined) owners.set(identityOf(image), owner);
  }
  return owners;
}

async function detachUnused(
  domain: Domain,
  device: LoopDevice,
  owner: Owner | undefined,
): Promise<void> {
  const { locks } = domain.operations;
  const exclusive = owner === undefined ? [] : [owner.lock];
  const release = locks.acquire({ exclusive }, 'RemoveLeftovers');
  try {
    if (await domain.host.loops.isInUse(device)) {
      throw new VolumeError('busy', `${device.path} has come into use`);
    }
    domain.openDevices.forget(device);
    if ((await domain.host.loops.detach(device)) === 'detached') return;
    const users = await describeDeviceUsers(domain.host, device);
    throw new VolumeError('busy', `${device.path} is in use${users}`);
  } finally {
    release();
  }
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
    const isKept =
      domain.interruptedRestores.isKept(path) || domain.interruptedCreates.isKept(path);
    const status = await files.status(path).catch(() => undefined);
    if (isKept || status === undefined) continue;
    const ageMs = domain.now() - Number(status.modifiedNs / 1_000_000n);
    if (ageMs < minAgeMs) continue;
    const mount = mounts.find(({ target }) => target === path || target.startsWith(`${path}/`));
    found.push({
      kind: 'incomplete-entry',
      path,
      pool: pool.name,
      bytes: await allocatedIn(domain.host, path),
      why: 'a call that made it was interrupted',
      remedy: mount === undefined ? '' : `unmount ${mount.target} first`,
      ...(mount === undefined ? { remove: () => removeIncomplete(domain.host, path, entry) } : {}),
    });
  }
  return found;
}

/** Mount points are removed with rmdir(2) first, which fails if something is mounted there. */
async function removeIncomplete({ files }: Host, path: string, entry: string): Promise<void> {
  if (isPrivateMountName(entry)) {
    await files.removeDirectory(path);
    return;
  }
  await files.requireNoProgram(join(path, imageFile));
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
        remove: () => files.removeFile(path),
      });
    }
  }
  return found;
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

/** Space that the images directly in a directory occupy, or a file. */
async function allocatedIn({ files }: Host, path: string): Promise<bigint> {
  let bytes = 0n;
  const names = await files.list(path).catch(() => undefined);
  const paths = names === undefined ? [path] : names.map((name) => join(path, name));
  for (const one of paths) {
    const status = await files.imageStatus(one).catch(() => undefined);
    bytes += status?.allocatedBytes ?? 0n;
  }
  return bytes;
}
