import { timedOut, withTimeout } from '../../../async.ts';
import type { Capacity, FileIdentity } from '../../../host/host.ts';
import type {
  Observed,
  ObservedFilesystem,
  ObservedPool,
  ObservedSnapshots,
  ObservedVolume,
} from '../../../observe/metrics/observed.ts';
import type { VolumeRecord } from '../../../state/records.ts';
import type { Domain } from '../../domain.ts';
import { ownerOf } from '../../owner.ts';
import type { Pool } from '../../pool/pool.ts';
import { makePoolQuery, type PoolQuery } from '../../pool/pool-query.ts';
import { type MeasuredFacts, promisableBytesOf, type SpaceFacts } from '../../pool/space.ts';
import { AttachedDevices } from './attached-volumes.ts';
import { FilesystemUsage, type MountedVolume } from './filesystem-usage.ts';
import { HealthSurvey, type HealthSurveyResult } from './health-survey.ts';
import { type MeasuredPool, snapshotsByVolume } from './snapshots.ts';

/** Limits the number of volumes of a pool with metrics of their own. The sums in `bytes` include all volumes. */
export const maxListedVolumes = 1_000;

export interface MeasureOptions {
  /** Time limit of the queries of each pool. */
  readonly timeoutMs: number;
  /** Minimum pause between two surveys of the health of all volumes. */
  readonly healthPauseMs?: number;
}

/** The values for the metrics that the domain measures. */
type DomainMeasurement = Pick<Observed, 'pools' | 'leftoverDevices' | 'healthCheckedAtMs'>;

/** Returns a function that measures the domain for a scrape. What does not answer within the time limit is left out. */
export function makeMeasure(
  domain: Domain,
  { timeoutMs, healthPauseMs }: MeasureOptions,
): () => Promise<DomainMeasurement> {
  const usage = new FilesystemUsage(domain);
  const survey = new HealthSurvey(
    domain,
    healthPauseMs === undefined ? {} : { minPauseMs: healthPauseMs },
  );
  return async () => {
    const query = makePoolQuery(timeoutMs);
    const [facts, devices] = await Promise.all([
      Promise.all(domain.pools.all.map((pool) => factsOf(pool, query))),
      // Other software's devices may hang; without devices, there is no I/O and no usage of filesystems.
      withTimeout(AttachedDevices.read(domain), timeoutMs).catch(() => undefined),
    ]);
    const attached = devices === timedOut ? undefined : devices;
    const health = survey.latest();
    const measured = domain.pools.all.map((pool, i) => ({ pool, facts: facts[i] }));
    const scrape: Scrape = {
      domain,
      attached,
      health,
      snapshots: snapshotsByVolume(measured),
      capacities: await usage.read(measured.flatMap((one) => mountedVolumes(one, attached))),
    };
    return {
      pools: measured.map((one) => measurePool(scrape, one)),
      leftoverDevices: await attached
        ?.countLeftovers(domain, imagesOf(measured))
        .catch(() => undefined),
      healthCheckedAtMs: health?.atMs,
    };
  };
}

interface Scrape {
  readonly domain: Domain;
  readonly attached: AttachedDevices | undefined;
  readonly health: HealthSurveyResult | undefined;
  /** By id of their source, which may be in another pool. */
  readonly snapshots: ReadonlyMap<string, ObservedSnapshots>;
  /** By volume id. */
  readonly capacities: ReadonlyMap<string, Capacity>;
}

async function factsOf(pool: Pool, query: PoolQuery): Promise<MeasuredFacts | undefined> {
  if (!pool.isServed) return undefined;
  return query(pool, () => pool.space.facts()).catch(() => undefined);
}

function listedVolumes({ pool, facts }: MeasuredPool): readonly VolumeRecord[] {
  return facts === undefined ? [] : [...pool.volumes.values()].slice(0, maxListedVolumes);
}

function imagesOf(measured: readonly MeasuredPool[]): ReadonlyMap<string, FileIdentity> {
  return new Map(measured.flatMap(({ facts }) => [...(facts?.identityById ?? [])]));
}

function mountedVolumes(
  measured: MeasuredPool,
  attached: AttachedDevices | undefined,
): readonly MountedVolume[] {
  const { pool, facts } = measured;
  return listedVolumes(measured).flatMap(({ id, fsType }) => {
    const found = attached?.of(facts?.identityById.get(id));
    const target = found === undefined ? undefined : attached?.targetOf(found.device);
    if (found === undefined || target === undefined || fsType === null) return [];
    return [{ volumeId: id, pool: pool.name, target, writes: found.io.writes }];
  });
}

function measurePool(scrape: Scrape, measured: MeasuredPool): ObservedPool {
  const { domain, health } = scrape;
  const { pool, facts } = measured;
  const listed = listedVolumes(measured);
  return {
    name: pool.name,
    isServed: pool.isServed,
    frozenVolumes: domain.guard.frozenIn(pool),
    trims: domain.trims.countsOf(pool),
    bytes: facts === undefined ? {} : bytesOf(facts),
    freeInodes: facts?.freeInodes,
    volumes: pool.isServed ? volumesOf(pool) : {},
    conditions: health?.ofPools.get(pool.name) ?? [],
    unhealthy: unhealthyVolumes(pool, health),
    images: listed.map((record) => measureVolume(scrape, record, facts)),
    volumesNotListed: facts === undefined ? 0 : pool.volumes.size - listed.length,
  };
}

function measureVolume(
  { attached, health, snapshots, capacities, domain }: Scrape,
  record: VolumeRecord,
  facts: MeasuredFacts | undefined,
): ObservedVolume {
  const { id, sizeBytes } = record;
  const capacity = capacities.get(id);
  return {
    volumeId: id,
    fsType: record.fsType ?? 'block',
    claim: ownerOf(record),
    sizeBytes,
    allocatedBytes: facts?.allocatedById.get(id) ?? 0n,
    filesystem: capacity === undefined ? undefined : filesystemOf(capacity),
    io: attached?.of(facts?.identityById.get(id))?.io,
    snapshots: snapshots.get(id),
    lastTrimAtMs: domain.trimClock.lastSeenMs(id),
    conditions: health?.ofVolumes.get(id) ?? [],
  };
}

function filesystemOf(capacity: Capacity): ObservedFilesystem {
  return {
    sizeBytes: capacity.totalBytes,
    usedBytes: capacity.totalBytes - capacity.freeBytes,
    availableBytes: capacity.availableBytes,
    inodes: capacity.totalInodes,
    usedInodes: capacity.totalInodes - capacity.freeInodes,
  };
}

function bytesOf(facts: SpaceFacts): Readonly<Record<string, bigint>> {
  const bytes = promisableBytesOf(facts);
  return {
    total: facts.totalBytes,
    free: facts.freeBytes,
    reserve: facts.reserveBytes,
    promised: facts.promisedBytes,
    allocated: facts.allocatedBytes,
    snapshots: facts.snapshotBytes,
    trash: facts.trashBytes,
    watermark: facts.watermarkBytes,
    room: bytes < 0n ? 0n : bytes,
  };
}

function volumesOf(pool: Pool): Readonly<Record<string, number>> {
  const counts = { ext4: 0, xfs: 0, btrfs: 0, block: 0 };
  for (const { fsType } of pool.volumes.values()) counts[fsType ?? 'block'] += 1;
  return { ...counts, ephemeral: pool.ephemerals.size, snapshots: pool.snapshots.size };
}

/** Counts the volumes of the pool by reason, including those that are set aside or not listed. */
function unhealthyVolumes(
  pool: Pool,
  health: HealthSurveyResult | undefined,
): Readonly<Record<string, number>> {
  const counts: Record<string, number> = {};
  const listed = [...pool.volumes.values()].map(({ id }) => id);
  for (const id of [...listed, ...pool.volumes.aside.keys()]) {
    for (const reason of health?.ofVolumes.get(id) ?? []) {
      counts[reason] = (counts[reason] ?? 0) + 1;
    }
  }
  return counts;
}
