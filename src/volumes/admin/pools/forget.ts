import { VolumeError } from '../../../errors.ts';
import { hasErrno } from '../../../host/errors.ts';
import type { Host } from '../../../host/host.ts';
import type { Logger } from '../../../observe/log.ts';
import { KnownPools } from '../../../state/known-pools.ts';
import { KnownVolumes } from '../../docker/known-volumes.ts';
import type { Domain } from '../../domain.ts';
import { inLane, poolCommandLane } from '../../engine/lanes.ts';
import { isEmbedded, poolRootIn } from '../../pool/embedded.ts';
import { findMarker } from '../../pool/open-directory.ts';
import { type PoolSettings, poolDefaults } from '../../pool/settings.ts';
import { requireMatchingPath } from './init.ts';

/** A pool that this node has seen at a directory. */
export interface RememberedPool {
  readonly name: string;
  readonly path: string;
  readonly uuid: string;
  /** Ids of the pool's volumes that are known without access to the pool. */
  readonly volumeIds: readonly string[];
}

export interface ForgetDeps {
  readonly host: Host;
  readonly log: Logger;
  readonly stateDir: string;
}

/** The name and directory of a pool, and the uuid that the operator confirmed. */
export interface PoolIdentity {
  readonly name: string;
  readonly path: string;
  readonly uuid: string;
}

/** Forgets a pool in the running driver. If the uuid is '', only returns the pool that would be forgotten. */
export async function forgetPoolInDriver(
  domain: Domain,
  stateDir: string,
  { name, path, uuid }: PoolIdentity,
): Promise<RememberedPool> {
  const { host, log, pools } = inLane(domain, poolCommandLane(name));
  const pool = pools.find(name);
  requireMatchingPath(pool, { name, path });
  if (pool?.isServed === true) {
    throw new VolumeError('wrong-state', `pool '${name}' is served, so it is not lost`);
  }
  const deps = { host, log, stateDir };
  const recordedIds = [...(pool?.volumes.values() ?? [])].map(({ id }) => id);
  const found = await inspectRememberedPool(
    deps,
    { name, path: pool?.settings.path ?? path },
    recordedIds,
  );
  if (uuid === '') return found;
  if (uuid !== found.uuid) {
    throw new VolumeError(
      'conflict',
      `pool '${name}': ${found.uuid} was seen at ${found.path}, not ${uuid}; run 'loopcsi pool forget' again and check the uuid`,
    );
  }
  await forgetPool(deps, found);
  return found;
}

/**
 * Returns the pool that would be forgotten. Throws `not-found` if no pool was seen at that directory, and `wrong-state` if the
 * pool is not lost: it is still there, or one of its images is attached.
 */
export async function inspectRememberedPool(
  deps: ForgetDeps,
  { name, path }: { readonly name: string; readonly path: string },
  recordedIds: readonly string[] = [],
): Promise<RememberedPool> {
  const { host, log, stateDir } = deps;
  const uuid = await (await KnownPools.open(host.files, stateDir)).seenAt(path);
  if (uuid === undefined) {
    throw new VolumeError(
      'not-found',
      `pool '${name}': this node has seen no pool at ${path}, so there is nothing to forget`,
    );
  }
  await requireLost(host, { name, path, uuid });
  const known = await new KnownVolumes(stateDir, { host, log }).ofPool(uuid);
  return { name, path, uuid, volumeIds: [...new Set([...known, ...recordedIds])].sort() };
}

/** Removes all traces of the pool from the state directory, so that a new pool may be created in its directory. */
export async function forgetPool(deps: ForgetDeps, pool: RememberedPool): Promise<void> {
  const { host, log, stateDir } = deps;
  const known = new KnownVolumes(stateDir, { host, log });
  for (const id of await known.ofPool(pool.uuid)) await known.forget(id);
  await (await KnownPools.open(host.files, stateDir)).forget(pool.path, pool.uuid);
  log.warn({ pool: pool.name, path: pool.path, uuid: pool.uuid }, 'a pool was forgotten');
}

async function requireLost(
  host: Host,
  { name, path, uuid }: { readonly name: string; readonly path: string; readonly uuid: string },
): Promise<void> {
  const settings: PoolSettings = { ...poolDefaults, name, path };
  const { files, loops } = host;
  const root = await poolRootIn(files, path);
  const marker = await findMarker(files, root, name).catch((error: unknown) => {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw error;
  });
  if (marker?.uuid === uuid || (marker === undefined && (await isEmbedded(files, settings)))) {
    throw new VolumeError(
      'wrong-state',
      `pool '${name}': pool ${uuid} is still at ${root}; only a lost pool can be forgotten`,
    );
  }
  for (const device of await loops.list()) {
    const image = await loops.backingPath(device);
    if (image === undefined || !image.startsWith(`${path}/`)) continue;
    throw new VolumeError(
      'wrong-state',
      `pool '${name}': ${device.path} is attached to ${image}, so its volumes are in use; unmount them and detach it first (losetup -d ${device.path})`,
    );
  }
}
