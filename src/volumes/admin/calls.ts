/** The calls of the command line. The calls of CSI are in `api.ts`. */

import { join } from 'node:path';
import { hasLimits } from '../../host/loop/io-limits.ts';
import { snapshotIdFor, type VolumeId, volumeIdFor } from '../../ids.ts';
import type { KnownPools } from '../../state/known-pools.ts';
import type { GroupRecord } from '../../state/records.ts';
import type { Domain } from '../domain.ts';
import { inLane, type LaneSpec, poolCommandLane } from '../engine/lanes.ts';
import type { Call, OperationProgress } from '../engine/operations.ts';
import type { Page } from '../model.ts';
import type { Pool } from '../pool/pool.ts';
import { makePoolQuery } from '../pool/pool-query.ts';
import { listGroupRecords } from '../snapshot/group-get.ts';
import { creatingCalls } from '../volume/delete.ts';
import type { Finding } from './doctor.ts';
import { checkClock } from './doctor-clock.ts';
import { checkLeftovers } from './doctor-leftovers.ts';
import { checkMachine } from './doctor-machine.ts';
import { checkPools, checkUnconfiguredPools } from './doctor-pools.ts';
import {
  findVolumeUsers,
  getSnapshotFacts,
  getVolumeFacts,
  listSnapshotFacts,
  listVolumeFacts,
  type PoolPageInput,
  type SnapshotFacts,
  type VolumeFacts,
  type VolumeUsers,
} from './inspect.ts';
import type { Leftover } from './leftover.ts';
import { listLeftovers, removeLeftovers } from './leftovers.ts';
import { expandManually, mountManually, unmountManually } from './manual-mount.ts';
import { FilesystemUsage } from './metrics/filesystem-usage.ts';
import { adoptPool } from './pools/adopt.ts';
import { configuredPool, listPoolFacts, type PoolFacts, poolFactsOf } from './pools/facts.ts';
import { forgetPoolInDriver, type PoolIdentity, type RememberedPool } from './pools/forget.ts';
import { growPool } from './pools/grow.ts';
import { type InitInput, initPoolInDriver } from './pools/init.ts';
import { recoverPool } from './pools/recover-marker.ts';
import { type ExportInput, type ExportStep, exportImage } from './transfer/export.ts';
import { importStream, importVolume } from './transfer/import.ts';
import type { ImportResult, PathImportInput, StreamImportInput } from './transfer/import-draft.ts';
import type { ImageChunks } from './transfer/import-stream.ts';
import { type TrimReport, trimVolume } from './trim.ts';
import {
  type MeasuredVolume,
  makeUsageReport,
  type UsageReport,
  withFilesystems,
} from './usage.ts';

export interface Administration {
  listPools(): Promise<readonly PoolFacts[]>;
  /** Throws `unavailable` for a directory that must not become a pool, `invalid` if the path differs from the configured one. */
  initPool(input: InitInput): Promise<{ readonly pool: PoolFacts; readonly existed: boolean }>;
  /** Succeeds if the pool is already served. Throws `not-found`, and `wrong-state` while one of its images is in use. */
  adoptPool(name: string): Promise<PoolFacts>;
  /**
   * If the uuid is '', only returns the pool that would be forgotten. Throws `not-found`, and `wrong-state` unless the pool is
   * lost.
   */
  forgetPool(input: PoolIdentity): Promise<RememberedPool>;
  /** Writes the lost marker of a configured pool again and serves the pool. Throws `not-found`, `wrong-state`, `busy`. */
  recoverPool(name: string): Promise<PoolFacts>;
  /** Grows the image of an embedded pool. Throws `wrong-state` for a pool that is not embedded, `out-of-range`, `no-space`. */
  growPool(input: { readonly name: string; readonly sizeBytes: bigint }): Promise<PoolFacts>;
  listVolumes(page: PoolPageInput): Promise<Page<VolumeFacts>>;
  /** Finds a volume by its id or name. Throws `not-found`. */
  getVolume(idOrName: string): Promise<VolumeFacts>;
  /** Adds the usage of the filesystems that are mounted and answer soon. */
  withFilesystems(volumes: readonly VolumeFacts[]): Promise<readonly MeasuredVolume[]>;
  /** Finds the processes that use a volume. Searches all processes of the machine for at most a second. */
  usersOf(volume: VolumeFacts): Promise<VolumeUsers>;
  mountVolume(
    call: Call,
    input: {
      readonly volumeId: string;
      readonly targetPath: string;
      readonly readOnly: boolean;
      readonly mountFlags: readonly string[];
    },
  ): Promise<void>;
  /** Returns the paths that were unmounted; targetPath '' means all. */
  unmountVolume(
    call: Call,
    input: { readonly volumeId: string; readonly targetPath: string },
  ): Promise<readonly string[]>;
  expandVolume(
    call: Call,
    input: { readonly volumeId: string; readonly sizeBytes: bigint },
  ): Promise<{ readonly facts: VolumeFacts; readonly atNextMount: boolean }>;
  /** Returns freed blocks of a volume to its pool; finds the volume by its id or name. Throws `not-found`, `wrong-state`, `busy`. */
  trimVolume(call: Call, idOrName: string): Promise<TrimReport>;
  /** Creates a volume with the data of a directory or image. Throws as `transfer/import.ts` says. */
  importVolume(call: Call, input: PathImportInput): Promise<ImportAnswer>;
  /** Creates a volume with the image in a stream. */
  importStream(call: Call, input: StreamImportInput, chunks: ImageChunks): Promise<ImportAnswer>;
  /** Reads the image of a volume or snapshot: first its facts, then its data in ascending order. */
  exportImage(call: Call, input: ExportInput): AsyncIterable<ExportStep>;
  listSnapshots(
    page: PoolPageInput & { readonly sourceVolumeId: string },
  ): Promise<Page<SnapshotFacts>>;
  /** Finds a snapshot by its id or name. Throws `not-found`. */
  getSnapshot(idOrName: string): Promise<SnapshotFacts>;
  listGroupSnapshots(): Promise<readonly GroupRecord[]>;
  /** Measures the volumes of one pool, or of all for ''. Throws `invalid` for an unknown pool. */
  measureVolumes(pool: string): Promise<UsageReport>;
  /** Returns the progress of the copy for a volume or snapshot that is being created; undefined if no data is copied for it. */
  progress(target: CopyTarget): Promise<OperationProgress | undefined>;
  /** Returns the id of the volume that a call is creating; undefined if none is. */
  volumeBeingCreated(name: string): VolumeId | undefined;
  /** Lists what is left over on this node. Changes nothing. */
  listLeftovers(): Promise<readonly Leftover[]>;
  /** Removes the leftovers with these paths. Returns the problem of each; '' if it was removed. */
  removeLeftovers(
    paths: readonly string[],
  ): Promise<readonly { readonly path: string; readonly problem: string }[]>;
  /** Runs all checks. Changes nothing. */
  diagnose(): Promise<readonly Finding[]>;
}

/** The result of an import, with the facts of the volume unless it was a dry run. */
export interface ImportAnswer extends ImportResult {
  readonly facts: VolumeFacts | undefined;
}

/** The volume or snapshot that is created by a copy. */
interface CopyTarget {
  readonly kind: 'volume' | 'snapshot';
  readonly name: string;
}

interface AdministrationDeps {
  readonly knownPools: KnownPools;
  /** The driver's directory outside all pools; manually mounted volumes are staged in `mounts/` below it. */
  readonly stateDir: string;
  /** Opens a pool that is not served, and runs its recovery. */
  readonly openPool: (pool: Pool) => Promise<void>;
}

export function makeAdministration(domain: Domain, deps: AdministrationDeps): Administration {
  const directory = join(deps.stateDir, 'mounts');
  // Remembers filesystems that have not answered yet, so that calls do not wait for them again.
  const filesystems = new FilesystemUsage(domain);
  return {
    listPools: () => listPoolFacts(domain.pools),
    initPool: (input) => initPoolInDriver(domain, deps, input),
    adoptPool: (name) => adoptAndServe(domain, deps, name),
    forgetPool: (input) => forgetPoolInDriver(domain, deps.stateDir, input),
    recoverPool: (name) => recoverAndServe(domain, deps, name),
    growPool: async ({ name, sizeBytes }) => {
      const pool = configuredPool(domain.pools, name);
      await growPool(domain, pool, sizeBytes);
      return poolFactsOf(pool);
    },
    listVolumes: (page) => listVolumeFacts(domain, page),
    getVolume: (idOrName) => getVolumeFacts(domain, idOrName),
    withFilesystems: (volumes) => withFilesystems(domain, filesystems, volumes),
    usersOf: (volume) => findVolumeUsers(domain, volume),
    mountVolume: (call, input) => mountManually(domain, call, { directory, ...input }),
    unmountVolume: (call, input) => unmountManually(domain, call, { directory, ...input }),
    expandVolume: (call, input) => expandManually(domain, call, input),
    trimVolume: (call, idOrName) => trimVolume(domain, call, idOrName),
    importVolume: async (call, input) => withFacts(domain, await importVolume(domain, call, input)),
    importStream: async (call, input, chunks) =>
      withFacts(domain, await importStream(domain, call, input, chunks)),
    exportImage: (call, input) => exportImage(domain, call, input),
    listSnapshots: (page) => listSnapshotFacts(domain, page),
    getSnapshot: (idOrName) => getSnapshotFacts(domain, idOrName),
    listGroupSnapshots: async () => listGroupRecords(domain.pools),
    measureVolumes: makeUsageReport(domain, filesystems),
    progress: async (target) => domain.operations.progressOf(laneOf(domain, target)),
    volumeBeingCreated: (name) => {
      const id = volumeIdFor(name, domain.settings.nodeTag);
      const running = domain.operations.nameOf({ kind: 'volume', id });
      return creatingCalls.includes(running ?? '') ? id : undefined;
    },
    listLeftovers: () => listLeftovers(domain, deps),
    removeLeftovers: (paths) => removeLeftovers(domain, deps, paths),
    diagnose: () => diagnose(domain, deps),
  };
}

async function withFacts(domain: Domain, result: ImportResult): Promise<ImportAnswer> {
  const { volumeId } = result;
  const facts = volumeId === undefined ? undefined : await getVolumeFacts(domain, volumeId);
  return { ...result, facts };
}

async function adoptAndServe(
  domain: Domain,
  { knownPools, openPool }: AdministrationDeps,
  name: string,
): Promise<PoolFacts> {
  const pool = configuredPool(domain.pools, name);
  await adoptPool(inLane(domain, poolCommandLane(name)), pool, knownPools);
  await openPool(pool);
  return poolFactsOf(pool);
}

async function recoverAndServe(
  domain: Domain,
  { knownPools, openPool }: AdministrationDeps,
  name: string,
): Promise<PoolFacts> {
  const pool = configuredPool(domain.pools, name);
  if (pool.isServed) return poolFactsOf(pool);
  const { host, reached } = inLane(domain, poolCommandLane(name));
  await recoverPool(pool.settings, { host, knownPools, reached, nowMs: domain.now() });
  await openPool(pool);
  return poolFactsOf(pool);
}

/** Returns the lane of the create operation, whose id is derived from the name. */
function laneOf({ settings: { nodeTag } }: Domain, { kind, name }: CopyTarget): LaneSpec {
  const id = kind === 'volume' ? volumeIdFor(name, nodeTag) : snapshotIdFor(name, nodeTag);
  return { kind, id };
}

function countLimited({ pools }: Domain): number {
  const records = pools.served.flatMap((pool) => [...pool.volumes.values()]);
  return records.filter(({ limits }) => hasLimits(limits)).length;
}

async function diagnose(
  domain: Domain,
  { knownPools }: AdministrationDeps,
): Promise<readonly Finding[]> {
  const query = makePoolQuery();
  const configured = domain.pools.all.map(({ settings }) => settings.path);
  return [
    ...(await checkMachine(
      domain.host,
      { kubeletDir: domain.kubelet?.path, mountDir: domain.mountDir },
      { podsCgroup: domain.settings.podsCgroup, limitedVolumes: countLimited(domain) },
    )),
    ...checkClock(domain),
    ...(await checkPools(domain, query)),
    ...(await checkUnconfiguredPools(domain, knownPools, configured)),
    ...(await checkLeftovers(domain, query)),
  ];
}
