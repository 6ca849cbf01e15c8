import { join } from 'node:path';
import { withTimeout } from '../async.ts';
import { VolumeError } from '../errors.ts';
import type { Host } from '../host/host.ts';
import type { Logger } from '../observe/log.ts';
import { KnownPools } from '../state/known-pools.ts';
import { type Administration, makeAdministration } from './admin/calls.ts';
import type { Volumes } from './api.ts';
import { lockMountDir } from './attachment/driver-mounts.ts';
import { reloadAllSetAside } from './attachment/duplicates.ts';
import { minBytesOf } from './attachment/new-volume-record.ts';
import { reloadLocked } from './attachment/reload-records.ts';
import { watchDevices } from './attachment/watch-devices.ts';
import { KnownVolumes } from './docker/known-volumes.ts';
import { type LocalVolumes, localVolumes } from './docker/volumes.ts';
import type { Domain, DomainSettings } from './domain.ts';
import type { Reached } from './engine/fault-points.ts';
import type { OwnedBy, OwnedOnGround } from './engine/lanes.ts';
import { Operations } from './engine/operations.ts';
import { InterruptedCreates } from './jobs/interrupted-creates.ts';
import { OpenDevices } from './jobs/open-devices.ts';
import { trimPeriodically } from './jobs/periodic-trim.ts';
import { RestoreCopies } from './jobs/restore-copies.ts';
import { SnapshotCopies } from './jobs/snapshot-copies.ts';
import { SpaceGuard } from './jobs/space-guard.ts';
import { Trash } from './jobs/trash.ts';
import { Trims } from './jobs/trims.ts';
import { nodeExpandVolume } from './node/expand.ts';
import { publishVolume } from './node/publish.ts';
import { reconcile } from './node/reconcile.ts';
import { stageVolume } from './node/stage.ts';
import { volumeStats } from './node/stats.ts';
import { unpublishVolume } from './node/unpublish.ts';
import { unstageVolume } from './node/unstage.ts';
import { askEach } from './pool/ask-pools.ts';
import { Pool } from './pool/pool.ts';
import { Pools } from './pool/pools.ts';
import type { PoolSettings } from './pool/settings.ts';
import { snapshotCalls } from './snapshot/calls.ts';
import { settleSnapshots } from './snapshot/recover.ts';
import { createVolume } from './volume/create.ts';
import { deleteVolume } from './volume/delete.ts';
import { expandVolume } from './volume/expand.ts';
import { storageSigns, volumeHealth } from './volume/health.ts';
import { findMismatch, listVolumeHealth, listVolumes } from './volume/list.ts';

export interface OpenDeps {
  readonly host: Host;
  readonly settings: DomainSettings;
  readonly pools: readonly PoolSettings[];
  /** Folder outside all pools for what this node remembers. */
  readonly stateDir: string;
  readonly log: Logger;
  readonly reached?: Reached;
  readonly now?: () => number;
  /** Marks kernel calls with their owner (host/kernel/gate.ts). */
  readonly ownedBy: OwnedOnGround;
  /** Resolves when the owner's calls that are stuck in the kernel have returned; undefined when there are none. */
  readonly whenReturned?: (owner: string) => Promise<void> | undefined;
  /** How long the oldest kernel call that waits for the disk of that pool has been running. */
  readonly longestWaitMs?: (pool: string) => number;
}

export interface OpenedVolumes {
  readonly volumes: Volumes;
  readonly administration: Administration;
  readonly local: LocalVolumes;
  readonly domain: Domain;
  /** Lets running operations end within the bound, aborts the rest, releases the pools. Mounts stay. */
  close(boundMs: number): Promise<void>;
}

/** How often pools are looked at again: a disk that went away or came back. */
const lookAgainMs = 5_000;
/** A disk that one call waits for so long may hang, although it answers what is cached. */
const longWaitMs = 60_000;
/** Opening a pool may hang with its disk; the others are served after this. */
const openBoundMs = 10_000;

/** Opens every pool, settles what a crash left, and answers the domain's calls. Throws only for a broken state folder. */
export async function openVolumes(deps: OpenDeps): Promise<OpenedVolumes> {
  const { host, settings, log, reached = () => undefined, now = Date.now } = deps;
  const knownPools = await KnownPools.open(host.files, deps.stateDir);
  const ownedBy: OwnedBy = (owner, work) => deps.ownedBy(owner, work, pools.groundOf(owner));
  const poolDeps = { host, knownPools, nodeTag: settings.nodeTag, reached, log, now, ownedBy };
  const pools = new Pools(
    deps.pools.map((pool) => new Pool(pool, poolDeps)),
    settings.nodeTag,
  );
  const operations = new Operations(ownedBy, deps.whenReturned, (locks) =>
    reloadLocked(domain, locks),
  );
  const trash = new Trash({ host, log, reached, ownedBy });
  const copies = new SnapshotCopies({
    host,
    log,
    reached,
    trash,
    locks: operations.locks,
    ownedBy,
  });
  const restores = new RestoreCopies({ host, log });
  const interruptedCreates = new InterruptedCreates({ host, log });
  const openDevices = new OpenDevices({ host, log, ownedBy });
  const trims = new Trims({ host, log, locks: operations.locks, ownedBy });
  const guard = new SpaceGuard({
    host,
    log,
    locks: operations.locks,
    trims,
    ownedBy,
    freezeLimitMs: settings.guardFreezeLimitMs,
  });
  const mountDir =
    settings.mountDir === undefined ? undefined : await lockMountDir(host.files, settings.mountDir);
  const kubelet =
    settings.kubeletDir === undefined
      ? undefined
      : {
          path: settings.kubeletDir,
          realPath: await host.files
            .realDirectory(settings.kubeletDir)
            .catch(() => settings.kubeletDir ?? ''),
        };
  const domain: Domain = {
    host,
    pools,
    operations,
    trash,
    copies,
    restores,
    interruptedCreates,
    guard,
    trims,
    openDevices,
    settings,
    ownedBy,
    kubelet,
    mountDir: mountDir?.path,
    log,
    reached,
    now,
  };
  await withTimeout(Promise.all(pools.all.map((pool) => openPool(domain, pool))), openBoundMs);
  const known = new KnownVolumes(join(deps.stateDir, 'known-volumes'), { host, log });
  await known.forgetDeleted(pools);
  const endLooking = lookAgainAndAgain(domain, deps.longestWaitMs);
  const endTrimming = trimPeriodically(domain);
  const endWatching = watchDevices(domain);
  return {
    domain,
    volumes: callsOf(domain),
    administration: makeAdministration(domain, {
      knownPools,
      stateDir: deps.stateDir,
      openPool: (pool) => openPool(domain, pool),
    }),
    local: localVolumes(domain, known),
    close: async (boundMs) => {
      endLooking();
      endWatching();
      // Long copies do not hold up the end: they go on at the next start.
      await copies.stop();
      restores.stop();
      interruptedCreates.stop();
      endTrimming();
      await trims.stop();
      // First: what waits for room in a frozen filesystem would never end.
      await guard.stop();
      await operations.drain(boundMs);
      await trash.stop();
      await openDevices.closeAll();
      await Promise.all(pools.all.map((pool) => pool.close()));
      await mountDir?.lock.release();
    },
  };
}

async function openPool(domain: Domain, pool: Pool): Promise<void> {
  await domain.ownedBy(`pool ${pool.name}`, async () => {
    if (!(await pool.open(() => reconcile(domain, pool)))) return;
    await settleSnapshots(domain, pool);
    domain.guard.watch(pool);
  });
}

/** One look at a time for each pool: one that hangs must neither keep the others from theirs nor pile up threads. */
function lookAgainAndAgain(
  domain: Domain,
  longestWaitMs: (pool: string) => number = () => 0,
): () => void {
  const looking = new Set<Pool>();
  const timer = setInterval(() => {
    for (const pool of domain.pools.all) {
      if (looking.has(pool)) continue;
      looking.add(pool);
      if (longestWaitMs(pool.name) > longWaitMs) pool.suspect();
      lookAgain(domain, pool)
        .catch((error: unknown) => {
          domain.log.error({ pool: pool.name, err: error }, 'looking at a pool failed');
        })
        .finally(() => looking.delete(pool));
    }
  }, lookAgainMs);
  timer.unref();
  return () => {
    clearInterval(timer);
  };
}

async function lookAgain(domain: Domain, pool: Pool): Promise<void> {
  if (!pool.isOpen) {
    await openPool(domain, pool);
    return;
  }
  await domain.ownedBy(`pool ${pool.name}`, async () => {
    await pool.check();
    if (pool.isServed) domain.trash.retryFailed(pool);
    await reloadAllSetAside(domain, pool);
  });
}

function callsOf(domain: Domain): Volumes {
  const { pools } = domain;
  return {
    createVolume: (call, input) => createVolume(domain, call, input),
    deleteVolume: (call, volumeId) => deleteVolume(domain, call, volumeId),
    getVolume: async (_call, volumeId) => {
      const { record, pool } = pools.getVolume(volumeId);
      return { record, pool: pool.name };
    },
    listVolumes: async (_call, page) => listVolumes(domain, page),
    findMismatch: async (_call, volumeId, asked) => findMismatch(domain, volumeId, asked),
    capacity: (_call, asked) => capacityOf(domain, asked),
    expandVolume: (call, input) => expandVolume(domain, call, input),
    stageVolume: (call, input) => stageVolume(domain, call, input),
    unstageVolume: (call, input) => unstageVolume(domain, call, input),
    publishVolume: (call, input) => publishVolume(domain, call, input),
    unpublishVolume: (call, input) => unpublishVolume(domain, call, input),
    volumeStats: (_call, input) => volumeStats(domain, input),
    nodeExpandVolume: (call, input) => nodeExpandVolume(domain, call, input),
    volumeHealth: (_call, volumeId) => volumeHealth(domain, volumeId),
    listVolumeHealth: (_call, page) => listVolumeHealth(domain, page),
    storageHealth: (_call) => storageSigns(domain),
    findUnready: (_call) => findUnready(domain),
    maxVolumesPerNode: domain.settings.maxVolumesPerNode,
    ...snapshotCalls(domain),
  };
}

/** What GetCapacity answers: the room for promises of the pools that answer, the largest single volume, never below 0. */
async function capacityOf(
  domain: Domain,
  asked: Parameters<Volumes['capacity']>[1],
): ReturnType<Volumes['capacity']> {
  const minimumVolumeBytes = minBytesOf(domain, asked.fsType);
  const { pool: name } = asked;
  // Nodes may differ in their pools, and a scheduler asks each: one that this node lacks has no room here.
  if (name !== undefined && domain.pools.all.every((pool) => pool.name !== name)) {
    return { availableBytes: 0n, maximumVolumeBytes: 0n, minimumVolumeBytes };
  }
  const pools = asked.pool === undefined ? domain.pools.served : [domain.pools.named(asked.pool)];
  if (pools.length === 0) domain.pools.requireAllServed();
  let availableBytes = 0n;
  let maximumVolumeBytes = 0n;
  const allocate = asked.provisioning === 'thick';
  const answers = await askEach(pools, (pool) =>
    pool.space.bounds(minimumVolumeBytes, { allocate }),
  );
  for (const { answer: bounds } of answers) {
    availableBytes += bounds.availableBytes;
    if (bounds.maximumBytes > maximumVolumeBytes) maximumVolumeBytes = bounds.maximumBytes;
  }
  return { availableBytes, maximumVolumeBytes, minimumVolumeBytes };
}

async function findUnready(domain: Domain): Promise<string | undefined> {
  const missing = await domain.host.missingPrograms();
  if (missing.length > 0) {
    return `programs are missing: ${missing.join(', ')}; install their packages`;
  }
  if (domain.pools.served.length > 0) return undefined;
  try {
    domain.pools.requireAllServed();
  } catch (error) {
    if (error instanceof VolumeError) return error.message;
    throw error;
  }
  return 'no pool is configured; start the driver with --pool NAME=DIR';
}
