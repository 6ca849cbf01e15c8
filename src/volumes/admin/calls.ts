/** What an operator asks of the driver and no orchestrator does. The command line's calls, as `api.ts` has CSI's. */
import { join } from 'node:path';
import { VolumeError } from '../../errors.ts';
import type { KnownPools } from '../../state/known-pools.ts';
import type { Domain } from '../domain.ts';
import type { Call, OperationProgress } from '../engine/operations.ts';
import { snapshotIdFor, volumeIdFor } from '../ids.ts';
import type { Page } from '../model.ts';
import { askingPools } from '../pool/ask-pools.ts';
import type { Pool } from '../pool/pool.ts';
import type { Finding } from './doctor.ts';
import { checkLeftovers } from './doctor-leftovers.ts';
import { checkMachine } from './doctor-machine.ts';
import { checkPools, checkUnconfiguredPools } from './doctor-pools.ts';
import {
  getSnapshotFacts,
  getVolumeFacts,
  listSnapshotFacts,
  listVolumeFacts,
  type PageOfPool,
  type SnapshotFacts,
  type VolumeFacts,
} from './inspect.ts';
import { expandAndGrow, mountManually, unmountManually } from './manual-mount.ts';
import { adoptPool } from './pools/adopt.ts';
import { configuredPool, listPoolFacts, type PoolFacts, poolFactsOf } from './pools/facts.ts';
import { forgetPool, inspectRememberedPool, type RememberedPool } from './pools/forget.ts';
import { growPool } from './pools/grow.ts';
import { type InitInput, initPoolInDriver, requireMatch } from './pools/init.ts';
import { recoverPool } from './pools/recover.ts';

export interface Administration {
  listPools(call: Call): Promise<readonly PoolFacts[]>;
  /** Throws `unavailable` for a directory that must not become a pool, `invalid` for a path that is not the configured one. */
  initPool(
    call: Call,
    input: InitInput,
  ): Promise<{ readonly pool: PoolFacts; readonly existed: boolean }>;
  /** Throws `not-found`, `wrong-state` while one of its images is attached. Served already is a success. */
  adoptPool(call: Call, name: string): Promise<PoolFacts>;
  /** With uuid '' it only tells what would be given up. Throws `not-found`, `wrong-state` while the pool is not lost. */
  forgetPool(
    call: Call,
    input: { readonly name: string; readonly path: string; readonly uuid: string },
  ): Promise<RememberedPool>;
  /** Writes the lost marker of a configured pool and serves it. Throws `not-found`, `wrong-state`, `busy`. */
  recoverPool(call: Call, name: string): Promise<PoolFacts>;
  /** Grows the image of a pool with an embedded filesystem. Throws `wrong-state` for a plain pool, `out-of-range`, `no-space`. */
  growPool(
    call: Call,
    input: { readonly name: string; readonly sizeBytes: bigint },
  ): Promise<PoolFacts>;
  listVolumes(call: Call, page: PageOfPool): Promise<Page<VolumeFacts>>;
  /** By id or name. Throws `not-found`. */
  getVolume(call: Call, idOrName: string): Promise<VolumeFacts>;
  mountVolume(
    call: Call,
    input: {
      readonly volumeId: string;
      readonly targetPath: string;
      readonly readOnly: boolean;
      readonly mountFlags: readonly string[];
    },
  ): Promise<void>;
  /** Answers where it was mounted; targetPath '' is everywhere. */
  unmountVolume(
    call: Call,
    input: { readonly volumeId: string; readonly targetPath: string },
  ): Promise<readonly string[]>;
  expandVolume(
    call: Call,
    input: { readonly volumeId: string; readonly sizeBytes: bigint },
  ): Promise<{ readonly facts: VolumeFacts; readonly atNextMount: boolean }>;
  listSnapshots(
    call: Call,
    page: PageOfPool & { readonly sourceVolumeId: string },
  ): Promise<Page<SnapshotFacts>>;
  /** By id or name. Throws `not-found`. */
  getSnapshot(call: Call, idOrName: string): Promise<SnapshotFacts>;
  /** How far the copy is for a volume or snapshot that is being made; undefined when nothing is copied for it. */
  progress(
    call: Call,
    made: { readonly kind: 'volume' | 'snapshot'; readonly name: string },
  ): Promise<OperationProgress | undefined>;
  /** Looks at everything; changes nothing. */
  diagnose(call: Call): Promise<readonly Finding[]>;
}

export interface AdministrationDeps {
  readonly knownPools: KnownPools;
  /** The driver's folder outside all pools; volumes mounted by hand are staged in `mounts/` below it. */
  readonly stateDir: string;
  /** Opens a pool that is not served and settles what it finds. */
  readonly openPool: (pool: Pool) => Promise<void>;
}

export function makeAdministration(domain: Domain, deps: AdministrationDeps): Administration {
  const directory = join(deps.stateDir, 'mounts');
  return {
    listPools: (_call) => listPoolFacts(domain),
    initPool: (_call, input) => initPoolInDriver(domain, deps, input),
    adoptPool: async (_call, name) => {
      const pool = configuredPool(domain, name);
      await adoptPool(domain, pool, deps.knownPools);
      await deps.openPool(pool);
      return poolFactsOf(pool);
    },
    forgetPool: (_call, input) => forgetPoolInDriver(domain, deps, input),
    recoverPool: async (_call, name) => {
      const pool = configuredPool(domain, name);
      if (pool.isServed) return poolFactsOf(pool);
      const { host, reached } = domain;
      const { knownPools } = deps;
      await recoverPool(pool.settings, { host, knownPools, reached, nowMs: domain.now() });
      await deps.openPool(pool);
      return poolFactsOf(pool);
    },
    growPool: async (_call, { name, sizeBytes }) => {
      const pool = configuredPool(domain, name);
      await growPool(domain, pool, sizeBytes);
      return poolFactsOf(pool);
    },
    listVolumes: (_call, page) => listVolumeFacts(domain, page),
    getVolume: (_call, idOrName) => getVolumeFacts(domain, idOrName),
    mountVolume: (call, input) => mountManually(domain, call, { directory, ...input }),
    unmountVolume: (call, input) => unmountManually(domain, call, { directory, ...input }),
    expandVolume: (call, input) => expandAndGrow(domain, call, input),
    listSnapshots: (_call, page) => listSnapshotFacts(domain, page),
    getSnapshot: (_call, idOrName) => getSnapshotFacts(domain, idOrName),
    progress: async (_call, { kind, name }) => {
      const { nodeTag } = domain.settings;
      const owner =
        kind === 'volume' ? volumeIdFor(name, nodeTag) : `snapshot ${snapshotIdFor(name, nodeTag)}`;
      return domain.operations.progressOf(owner);
    },
    diagnose: async (_call) => {
      const ask = askingPools();
      return [
        ...(await checkMachine(domain.host)),
        ...(await checkPools(domain, ask)),
        ...(await checkUnconfiguredPools(
          domain.host.files,
          deps.knownPools,
          domain.pools.all.map(({ settings }) => settings.path),
        )),
        ...(await checkLeftovers(domain, ask)),
      ];
    },
  };
}

async function forgetPoolInDriver(
  domain: Domain,
  { stateDir }: AdministrationDeps,
  { name, path, uuid }: { readonly name: string; readonly path: string; readonly uuid: string },
): Promise<RememberedPool> {
  const pool = domain.pools.all.find((one) => one.name === name);
  requireMatch(pool, { name, path });
  if (pool?.isServed === true) {
    throw new VolumeError('wrong-state', `pool '${name}' is served, so it is not lost`);
  }
  const deps = { host: domain.host, log: domain.log, stateDir };
  const at = { name, path: pool?.settings.path ?? path };
  const found = await inspectRememberedPool(
    deps,
    at,
    [...(pool?.volumes.values() ?? [])].map(({ id }) => id),
  );
  if (uuid === '') return found;
  if (uuid !== found.uuid) {
    throw new VolumeError(
      'conflict',
      `pool '${name}': ${found.uuid} was seen at ${found.path}, not ${uuid}; look again`,
    );
  }
  await forgetPool(deps, found);
  return found;
}
