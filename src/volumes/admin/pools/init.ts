import { VolumeError } from '../../../errors.ts';
import type { Files, Host } from '../../../host/host.ts';
import { nodeTagOf } from '../../../ids.ts';
import { KnownPools } from '../../../state/known-pools.ts';
import type { Domain } from '../../domain.ts';
import { inLane, poolCommandLane } from '../../engine/lanes.ts';
import { closeEmbedded, poolRootIn } from '../../pool/embedded.ts';
import { findMarker, openPoolDirectory } from '../../pool/open-directory.ts';
import type { Pool } from '../../pool/pool.ts';
import { type PoolSettings, poolDefaults } from '../../pool/settings.ts';
import { type PoolFacts, poolFactsOf } from './facts.ts';

export interface InitInput {
  readonly name: string;
  /** May be '' for a configured pool only. */
  readonly path: string;
  /** Size of the embedded XFS image; undefined if the directory itself is the pool. */
  readonly embeddedBytes: bigint | undefined;
  /** Allow overlayfs and tmpfs. */
  readonly force: boolean;
}

export interface InitDeps {
  readonly host: Host;
  readonly knownPools: KnownPools;
  readonly nodeTag: string;
  readonly nowMs: number;
}

/**
 * Initializes the directory as a pool of this node. Idempotent. Throws `unavailable` for a directory that must not become a pool:
 * it is not empty, it contained a pool that is now missing, or another process serves it.
 */
export async function initPool(
  settings: PoolSettings,
  deps: InitDeps,
): Promise<{ readonly root: string; readonly existed: boolean }> {
  const existed = await isPool(deps.host.files, settings);
  const reached = (): undefined => undefined;
  const opened = await openPoolDirectory({ ...settings, create: true }, { ...deps, reached });
  await opened.lock.release();
  if (opened.embeddedIn === undefined) return { root: opened.root, existed };
  // The driver that will serve the pool mounts it again.
  await closeEmbedded(opened.embeddedIn, deps.host);
  return { root: opened.embeddedIn, existed };
}

async function isPool(files: Files, { path, name }: PoolSettings): Promise<boolean> {
  return (await findMarker(files, await poolRootIn(files, path), name)) !== undefined;
}

/** Initializes a pool while no driver is running, for a driver with this state directory and node id. */
export async function initPoolOffline(
  settings: PoolSettings,
  deps: { readonly host: Host; readonly stateDir: string; readonly nodeId: string },
): Promise<{ readonly root: string; readonly existed: boolean }> {
  if (process.geteuid?.() !== 0) {
    throw new VolumeError(
      'unavailable',
      `pool '${settings.name}': only root can create a pool; run the command as root`,
    );
  }
  return initPool(settings, {
    host: deps.host,
    knownPools: await KnownPools.open(deps.host.files, deps.stateDir),
    nodeTag: nodeTagOf(deps.nodeId),
    nowMs: Date.now(),
  });
}

/**
 * Initializes a pool in the running driver. A configured pool is served immediately. Any other directory also becomes a pool of
 * this node, but is only served after it is configured.
 */
export async function initPoolInDriver(
  domain: Domain,
  deps: { readonly knownPools: KnownPools; readonly openPool: (pool: Pool) => Promise<void> },
  input: InitInput,
): Promise<{ readonly pool: PoolFacts; readonly existed: boolean }> {
  const pool = domain.pools.find(input.name);
  requireMatchingPath(pool, input);
  if (pool?.isServed === true) return { pool: await poolFactsOf(pool), existed: true };
  const settings: PoolSettings = {
    ...(pool?.settings ?? { ...poolDefaults, name: input.name, path: input.path }),
    force: input.force || (pool?.settings.force ?? false),
    reflinkBytes: input.embeddedBytes ?? pool?.settings.reflinkBytes,
  };
  const { existed } = await initPool(settings, {
    host: inLane(domain, poolCommandLane(input.name)).host,
    knownPools: deps.knownPools,
    nodeTag: domain.settings.nodeTag,
    nowMs: domain.now(),
  });
  if (pool === undefined)
    return { pool: unconfiguredPoolFacts(settings, domain.pools.all), existed };
  await deps.openPool(pool);
  return { pool: await poolFactsOf(pool), existed };
}

/**
 * Throws `invalid` if the path differs from that of the configured pool, or if it is missing for a pool that is not configured.
 */
export function requireMatchingPath(
  pool: Pool | undefined,
  input: Pick<InitInput, 'name' | 'path'>,
): void {
  if (pool === undefined) {
    if (input.path !== '') return;
    throw new VolumeError(
      'invalid',
      `the driver has no pool '${input.name}'; to specify a pool that is not configured, add its directory: '${input.name}=DIR'`,
    );
  }
  if (input.path === '' || input.path === pool.settings.path) return;
  throw new VolumeError(
    'invalid',
    `pool '${input.name}' is configured at ${pool.settings.path}, not at ${input.path}; choose another name, or change the driver's --pool`,
  );
}

function unconfiguredPoolFacts(settings: PoolSettings, served: readonly Pool[]): PoolFacts {
  // The first --pool replaces the default pool, so all pools must be listed.
  const all = [...served.map((pool) => pool.settings), settings];
  const flags = all.map(({ name, path }) => `--pool ${name}=${path}`).join(' ');
  return {
    settings,
    isEmbedded: settings.reflinkBytes !== undefined,
    problem: `the running driver does not serve this pool yet; restart the driver with all of its pools: ${flags}`,
    wasRead: false,
    marker: undefined,
    abilities: undefined,
    space: undefined,
    capacityBytes: 0n,
    volumeCount: 0,
    snapshotCount: 0,
  };
}
