import { VolumeError } from '../../../errors.ts';
import type { Files, Host } from '../../../host/host.ts';
import { KnownPools } from '../../../state/known-pools.ts';
import type { Domain } from '../../domain.ts';
import { nodeTagOf } from '../../ids.ts';
import { closeEmbedded, poolRootIn } from '../../pool/embedded.ts';
import { findMarker, openPoolDirectory } from '../../pool/open-directory.ts';
import type { Pool } from '../../pool/pool.ts';
import { type PoolSettings, poolDefaults } from '../../pool/settings.ts';
import { type PoolFacts, poolFactsOf } from './facts.ts';

export interface InitInput {
  readonly name: string;
  /** '' only for a configured pool. */
  readonly path: string;
  /** Size of an embedded XFS image; undefined: the directory itself is the pool. */
  readonly embeddedBytes: bigint | undefined;
  /** Also on overlayfs and tmpfs. */
  readonly force: boolean;
}

export interface InitDeps {
  readonly host: Host;
  readonly knownPools: KnownPools;
  readonly nodeTag: string;
  readonly nowMs: number;
}

/**
 * Makes the directory a pool of this node, or finds that it is one. Throws `unavailable` for what must not become a pool: a
 * directory with something in it, one where this node has seen a pool that is not there now, one that another process serves.
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
  // Whoever serves it mounts it again.
  await closeEmbedded(opened.embeddedIn, deps.host);
  return { root: opened.embeddedIn, existed };
}

async function isPool(files: Files, { path, name }: PoolSettings): Promise<boolean> {
  return (await findMarker(files, await poolRootIn(files, path), name)) !== undefined;
}

/** `initPool` where no driver runs: with the state folder and the node id that the driver will be started with. */
export async function initPoolOffline(
  settings: PoolSettings,
  deps: { readonly host: Host; readonly stateDir: string; readonly nodeId: string },
): Promise<{ readonly root: string; readonly existed: boolean }> {
  if (process.geteuid?.() !== 0) {
    throw new VolumeError('unavailable', `pool '${settings.name}': making a pool needs root`);
  }
  return initPool(settings, {
    host: deps.host,
    knownPools: await KnownPools.open(deps.host.files, deps.stateDir),
    nodeTag: nodeTagOf(deps.nodeId),
    nowMs: Date.now(),
  });
}

/**
 * `initPool` in the running driver: a configured pool is served at once; another directory becomes this node's pool and is
 * served once it is configured.
 */
export async function initPoolInDriver(
  domain: Domain,
  deps: { readonly knownPools: KnownPools; readonly openPool: (pool: Pool) => Promise<void> },
  input: InitInput,
): Promise<{ readonly pool: PoolFacts; readonly existed: boolean }> {
  const pool = domain.pools.all.find((one) => one.name === input.name);
  requireMatch(pool, input);
  if (pool?.isServed === true) return { pool: await poolFactsOf(pool), existed: true };
  const settings: PoolSettings = {
    ...(pool?.settings ?? { ...poolDefaults, name: input.name, path: input.path }),
    force: input.force || (pool?.settings.force ?? false),
    reflinkBytes: input.embeddedBytes ?? pool?.settings.reflinkBytes,
  };
  const { existed } = await initPool(settings, {
    host: domain.host,
    knownPools: deps.knownPools,
    nodeTag: domain.settings.nodeTag,
    nowMs: domain.now(),
  });
  if (pool === undefined) return { pool: notConfigured(settings, domain.pools.all), existed };
  await deps.openPool(pool);
  return { pool: await poolFactsOf(pool), existed };
}

/** Throws `invalid` unless the request means the configured pool, or says where another one is. */
export function requireMatch(
  pool: Pool | undefined,
  input: Pick<InitInput, 'name' | 'path'>,
): void {
  if (pool === undefined) {
    if (input.path !== '') return;
    throw new VolumeError(
      'invalid',
      `the driver serves no pool '${input.name}'; write '${input.name}=DIR' for one that it does not serve`,
    );
  }
  if (input.path === '' || input.path === pool.settings.path) return;
  throw new VolumeError(
    'invalid',
    `pool '${input.name}' is configured at ${pool.settings.path}, not at ${input.path}; choose another name, or change the driver's --pool`,
  );
}

function notConfigured(settings: PoolSettings, served: readonly Pool[]): PoolFacts {
  // Pools that a driver has by default are gone once one is named, so all of them are.
  const all = [...served.map((pool) => pool.settings), settings];
  const flags = all.map(({ name, path }) => `--pool ${name}=${path}`).join(' ');
  return {
    settings,
    isEmbedded: settings.reflinkBytes !== undefined,
    problem: `this driver does not serve it yet; restart it with all of its pools: ${flags}`,
    marker: undefined,
    abilities: undefined,
    space: undefined,
    roomBytes: 0n,
    volumeCount: 0,
    snapshotCount: 0,
  };
}
