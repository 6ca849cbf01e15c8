import { withTimeout } from '../async.ts';
import { messageOf } from '../errors.ts';
import type { Host } from '../host/host.ts';
import type { Logger } from '../observe/log.ts';
import { type DomainObserver, noObserver } from '../observe/metrics/events.ts';
import { KnownPools } from '../state/known-pools.ts';
import { type Administration, makeAdministration } from './admin/calls.ts';
import type { Volumes } from './api.ts';
import { lockMountDir } from './attachment/mount-dir.ts';
import { reloadLocked } from './attachment/reload-records.ts';
import { watchDevices } from './attachment/watch-devices.ts';
import { KnownVolumes } from './docker/known-volumes.ts';
import { type DockerVolumes, dockerVolumes } from './docker/volumes.ts';
import type { Domain, DomainSettings } from './domain.ts';
import type { Reached } from './engine/fault-points.ts';
import { inLane } from './engine/lanes.ts';
import { Operations } from './engine/operations.ts';
import { GroupParts } from './jobs/group-parts.ts';
import { InterruptedCreates } from './jobs/interrupted-creates.ts';
import { InterruptedRestores } from './jobs/interrupted-restores.ts';
import { OpenDevices } from './jobs/open-devices.ts';
import { trimPeriodically } from './jobs/periodic-trim.ts';
import { SentVolumes } from './jobs/sent-volumes.ts';
import { SnapshotCopies } from './jobs/snapshot-copies.ts';
import { SpaceGuard } from './jobs/space-guard.ts';
import { Transfers } from './jobs/transfers.ts';
import { Trash } from './jobs/trash.ts';
import { TrimClock } from './jobs/trim-clock.ts';
import { Trims } from './jobs/trims.ts';
import type { VolumeOwner } from './model.ts';
import { nodeExpandVolume } from './node/expand.ts';
import { publishVolume } from './node/publish.ts';
import { findReadinessProblem } from './node/readiness.ts';
import { stageVolume } from './node/stage.ts';
import { volumeStats } from './node/stats.ts';
import { unpublishVolume } from './node/unpublish.ts';
import { unstageVolume } from './node/unstage.ts';
import { ownerFields, ownerOf, snapshotFields, snapshotOwnerOf } from './owner.ts';
import { inventoryOf } from './pool/inventory.ts';
import { Pool } from './pool/pool.ts';
import { Pools } from './pool/pools.ts';
import type { PoolSettings } from './pool/settings.ts';
import { poolOpenTimeoutMs } from './pool/thresholds.ts';
import { watchLimits } from './recovery/watch-limits.ts';
import { openPool, watchPools } from './recovery/watch-pools.ts';
import { allocatedRanges, changedRanges } from './snapshot/changed-blocks.ts';
import { createSnapshot } from './snapshot/create.ts';
import { deleteSnapshot } from './snapshot/delete.ts';
import { createGroupSnapshot } from './snapshot/group-create.ts';
import { deleteGroupSnapshot } from './snapshot/group-delete.ts';
import { getGroupSnapshot } from './snapshot/group-get.ts';
import { takeGroupPart } from './snapshot/group-part.ts';
import { findGroupState, removeGroupPart, settleGroupPart } from './snapshot/group-settle.ts';
import { getSnapshot, listSnapshots, watchSnapshot } from './snapshot/list.ts';
import { closeSource, describeSource, readSource } from './snapshot/read-source.ts';
import { createVolume } from './volume/create.ts';
import { deleteVolume } from './volume/delete.ts';
import { expandVolume } from './volume/expand.ts';
import { storageConditions, volumeHealth } from './volume/health.ts';
import { findMismatch, listVolumeHealth, listVolumes } from './volume/list.ts';
import { modifyVolume } from './volume/modify.ts';
import { poolCapacity } from './volume/pool-capacity.ts';

export interface OpenDeps {
  readonly host: Host;
  readonly settings: DomainSettings;
  /** `--kubelet-dir` and `--mount-dir` as configured. Only the resolved paths in the domain may be compared with other paths. */
  readonly kubeletDir: string | undefined;
  readonly mountDir?: string | undefined;
  readonly pools: readonly PoolSettings[];
  /** Directory outside all pools that contains the state of this node, such as the pools that it has seen. */
  readonly stateDir: string;
  readonly log: Logger;
  /** Counts events for the metrics; by default nothing does. */
  readonly observer?: DomainObserver;
  readonly reached?: Reached;
  readonly now?: () => number;
  /** Returns a promise that resolves when the lane's calls that are stuck in the kernel have returned; undefined if none is stuck. */
  readonly whenReturned?: (lane: string) => Promise<void> | undefined;
  /** For how many milliseconds the oldest kernel call that waits for the disk of that pool has been running. */
  readonly longestWaitMs?: (pool: string) => number;
}

export interface OpenedVolumes {
  readonly volumes: Volumes;
  readonly administration: Administration;
  readonly docker: DockerVolumes;
  readonly domain: Domain;
  /** Waits for running operations up to the time limit, aborts the others, and closes the pools. Volumes stay mounted. */
  close(timeoutMs: number): Promise<void>;
}

/**
 * Opens every pool, recovers the state that a crash left, and returns the calls of the domain. A pool that cannot be opened is
 * retried later. Throws if the state directory cannot be used, or if another driver uses the mount directory.
 */
export async function openVolumes(deps: OpenDeps): Promise<OpenedVolumes> {
  const { host, log } = deps;
  const { host: stateHost } = inLane(deps, { kind: 'state', id: deps.stateDir });
  const knownPools = await KnownPools.open(stateHost.files, deps.stateDir);
  const mountDir =
    deps.mountDir === undefined ? undefined : await lockMountDir(host.files, deps.mountDir);
  const domain = await makeDomain(deps, { knownPools, mountDir: mountDir?.path });
  const { pools } = domain;
  const opening = Promise.all(pools.all.map((pool) => openPool(domain, pool)));
  await withTimeout(opening, poolOpenTimeoutMs);
  const known = new KnownVolumes(deps.stateDir, { host: stateHost, log });
  await known.forgetDeleted(pools);
  const stopJobs = [
    watchPools(domain, deps.longestWaitMs),
    trimPeriodically(domain),
    watchDevices(domain),
    watchLimits(domain),
  ];
  return {
    domain,
    volumes: volumesOf(domain),
    administration: makeAdministration(domain, {
      knownPools,
      stateDir: deps.stateDir,
      openPool: (pool) => openPool(domain, pool),
    }),
    docker: dockerVolumes(domain, known),
    close: async (timeoutMs) => {
      for (const stop of stopJobs) stop();
      await closeDomain(domain, timeoutMs);
      await mountDir?.lock.release();
    },
  };
}

async function makeDomain(
  deps: OpenDeps,
  opened: { readonly knownPools: KnownPools; readonly mountDir: string | undefined },
): Promise<Domain> {
  const { host, settings, reached = () => undefined, now = Date.now } = deps;
  const { observer = noObserver } = deps;
  const { knownPools, mountDir } = opened;
  const log = logWithOwners(deps.log, (volumeId) => ownerIn(pools, volumeId));
  const poolDeps = { host, knownPools, nodeTag: settings.nodeTag, reached, log, now };
  const pools: Pools = new Pools(
    deps.pools.map((pool) => new Pool(pool, poolDeps)),
    settings.nodeTag,
  );
  const operations = new Operations(deps.whenReturned, (keys) => reloadLocked(domain, keys));
  const { locks } = operations;
  const trash = new Trash({ host, log, reached });
  const trims = new Trims({ host, log, locks, bytesPerSecond: settings.trimBytesPerSecond });
  trims.observe((trim) => observer.trimEnded(trim));
  const freezeLimitMs = settings.guardFreezeLimitMs;
  const domain: Domain = {
    host,
    pools,
    operations,
    trash,
    snapshotCopies: new SnapshotCopies({ host, log, reached, trash, locks }),
    interruptedRestores: new InterruptedRestores({ host, log }),
    interruptedCreates: new InterruptedCreates({ host, log }),
    openCaptures: new Set(),
    transfers: new Transfers(settings.transfers),
    sentVolumes: new SentVolumes((key, error) => {
      log.warn({ copy: key, problem: messageOf(error) }, 'a capture could not be removed');
    }),
    groupParts: new GroupParts(),
    guard: new SpaceGuard({ host, log, locks, trims, freezeLimitMs, observer }),
    trims,
    trimClock: new TrimClock(),
    openDevices: new OpenDevices({ host, log }),
    settings,
    kubelet: await kubeletOf(deps),
    mountDir,
    log,
    observer,
    reached,
    now,
  };
  return domain;
}

/** A logger that adds the claim to each line about a volume, so that one search finds all lines about a claim. */
function logWithOwners(
  log: Logger,
  findOwner: (volumeId: string) => VolumeOwner | undefined,
): Logger {
  const addOwner = (fields: object): object => {
    if (!('volumeId' in fields) || typeof fields.volumeId !== 'string') return fields;
    return { ...fields, ...ownerFields(findOwner(fields.volumeId)) };
  };
  return log.child({}, { formatters: { log: addOwner } });
}

function ownerIn(pools: Pools, volumeId: string): VolumeOwner | undefined {
  const record = pools.findRecord(volumeId);
  return record === undefined ? undefined : ownerOf(record);
}

async function kubeletOf({ host, kubeletDir: path }: OpenDeps): Promise<Domain['kubelet']> {
  if (path === undefined) return undefined;
  return { path, realPath: await host.files.resolveDirectory(path).catch(() => path) };
}

/** The order matters: a step must not wait for work that only a later step can end. */
async function closeDomain(domain: Domain, timeoutMs: number): Promise<void> {
  // Long copies are aborted, since the next start resumes them.
  await domain.snapshotCopies.stop();
  domain.interruptedRestores.stop();
  domain.interruptedCreates.stop();
  await domain.trims.stop();
  // Before the operations are drained: an operation that waits for a frozen filesystem would never end.
  await domain.guard.stop();
  await domain.operations.drain(timeoutMs);
  await domain.sentVolumes.closeAll();
  await domain.trash.stop();
  await domain.openDevices.closeAll();
  await Promise.all(domain.pools.all.map((pool) => pool.close()));
}

function volumesOf(domain: Domain): Volumes {
  const { pools, settings } = domain;
  return {
    createVolume: (call, input) => createVolume(domain, call, input),
    deleteVolume: (call, volumeId) => deleteVolume(domain, call, volumeId),
    getVolume: async (volumeId) => {
      const { record, pool } = pools.getVolume(volumeId);
      return { record, pool: pool.name };
    },
    listVolumes: async (page) => listVolumes(pools, page),
    findMismatch: async (volumeId, request) => findMismatch(pools, volumeId, request),
    capacity: (request) => poolCapacity(domain, request),
    expandVolume: (call, input) => expandVolume(domain, call, input),
    modifyVolume: (call, input) => modifyVolume(domain, call, input),
    stageVolume: (call, input) => stageVolume(domain, call, input),
    unstageVolume: (call, input) => unstageVolume(domain, call, input),
    publishVolume: (call, input) => publishVolume(domain, call, input),
    unpublishVolume: (call, input) => unpublishVolume(domain, call, input),
    volumeStats: (input) => volumeStats(domain, input),
    nodeExpandVolume: (call, input) => nodeExpandVolume(domain, call, input),
    ownerOf: (volumeId) => ownerIn(pools, volumeId),
    ownerFieldsOf: ({ volumeId, snapshotId }) => {
      const snapshot = snapshotId === undefined ? undefined : pools.findSnapshotRecord(snapshotId);
      const id = volumeId ?? snapshot?.sourceVolumeId;
      return {
        ...(id === undefined ? {} : ownerFields(ownerIn(pools, id))),
        ...(snapshot === undefined ? {} : snapshotFields(snapshotOwnerOf(snapshot))),
      };
    },
    volumeHealth: (volumeId) => volumeHealth(domain, volumeId),
    listVolumeHealth: (page) => listVolumeHealth(domain, page),
    storageHealth: () => storageConditions(domain),
    findReadinessProblem: () => findReadinessProblem(domain),
    inventory: () => inventoryOf(pools, settings.nodeTag),
    maxVolumesPerNode: settings.maxVolumesPerNode,
    createSnapshot: (call, input) => createSnapshot(domain, call, input),
    deleteSnapshot: (call, snapshotId) => deleteSnapshot(domain, call, snapshotId),
    getSnapshot: async (snapshotId) => getSnapshot(pools, snapshotId),
    listSnapshots: async (request) => listSnapshots(pools, request),
    watchSnapshot: (call, snapshotId) => watchSnapshot(domain, call, snapshotId),
    createGroupSnapshot: (call, input) => createGroupSnapshot(domain, call, input),
    deleteGroupSnapshot: (call, groupId, ids) => deleteGroupSnapshot(domain, call, groupId, ids),
    getGroupSnapshot: async (groupId, ids) => getGroupSnapshot(domain, groupId, ids),
    allocatedRanges: (call, request) => allocatedRanges(domain, call, request),
    changedRanges: (call, request) => changedRanges(domain, call, request),
    ...transfersOf(domain),
    ...groupPartsOf(domain),
  };
}

function groupPartsOf(
  domain: Domain,
): Pick<
  Volumes,
  'takeGroupPart' | 'advanceGroupPart' | 'findGroupState' | 'settleGroupPart' | 'removeGroupPart'
> {
  return {
    takeGroupPart: (call, input) => takeGroupPart(domain, call, input),
    advanceGroupPart: async (attempt, step) => domain.groupParts.get(attempt).advance(step),
    findGroupState: (groupId) => findGroupState(domain, groupId),
    settleGroupPart: (call, request) => settleGroupPart(domain, call, request),
    removeGroupPart: (call, request) => removeGroupPart(domain, call, request),
  };
}

function transfersOf(
  domain: Domain,
): Pick<
  Volumes,
  'describeSource' | 'readSource' | 'closeSource' | 'runningCopies' | 'allowsTransfers'
> {
  return {
    describeSource: (call, copy, options) => describeSource(domain, call, copy, options),
    readSource: (call, request) => readSource(domain, call, request),
    closeSource: (copy) => closeSource(domain, copy),
    runningCopies: () => domain.transfers.running,
    allowsTransfers: domain.settings.transfers.parallel > 0,
  };
}
