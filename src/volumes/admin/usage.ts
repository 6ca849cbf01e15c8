/** The space and I/O of volumes, for `loopcsi top` and lists. */
import { timedOut, withTimeout } from '../../async.ts';
import type { Capacity, IoCounters } from '../../host/host.ts';
import type { VolumeRecord } from '../../state/records.ts';
import type { Domain } from '../domain.ts';
import type { VolumeOwner } from '../model.ts';
import { ownerOf } from '../owner.ts';
import type { Pool } from '../pool/pool.ts';
import { isUnavailable, makePoolQuery } from '../pool/pool-query.ts';
import type { MeasuredFacts } from '../pool/space.ts';
import { poolsOf, type VolumeFacts } from './inspect.ts';
import { AttachedDevices } from './metrics/attached-volumes.ts';
import type { FilesystemUsage, MountedVolume } from './metrics/filesystem-usage.ts';

export interface VolumeUsage {
  readonly record: VolumeRecord;
  readonly isEphemeral: boolean;
  readonly pool: string;
  readonly owner: VolumeOwner | undefined;
  readonly allocatedBytes: bigint;
  /** undefined unless its filesystem is mounted and answers. */
  readonly filesystem: Capacity | undefined;
  /** undefined unless it is attached. */
  readonly io: IoCounters | undefined;
}

/** A volume whose filesystem was asked for its usage. */
export interface MeasuredVolume extends VolumeFacts {
  /** undefined unless its filesystem is mounted and answers. */
  readonly filesystem: Capacity | undefined;
}

export interface UsageReport {
  readonly volumes: readonly VolumeUsage[];
  /** When the I/O counters were read, in milliseconds of performance.now(). */
  readonly measuredMs: number;
}

const timeoutMs = 2_000;

/**
 * Returns a function that measures the volumes of one pool, or of all pools for ''. What does not answer within two seconds
 * is left out. Throws `invalid` for an unknown pool.
 */
export function makeUsageReport(
  domain: Domain,
  filesystems: FilesystemUsage,
): (pool: string) => Promise<UsageReport> {
  return async (poolName) => {
    const query = makePoolQuery(timeoutMs);
    const served = poolsOf(domain, poolName).filter(({ isServed }) => isServed);
    const measured = await Promise.all(
      served.map(async (pool) => ({
        pool,
        facts: await query(pool, () => pool.space.facts()).catch(undefinedIfUnavailable),
      })),
    );
    const attached = await readAttachedDevices(domain);
    const measuredMs = performance.now();
    const volumes = measured
      .flatMap(({ pool, facts }) => usagesIn(pool, facts, attached))
      .sort((a, b) => (a.record.id < b.record.id ? -1 : 1));
    const capacities = await filesystems.read(volumes.flatMap(mountedVolume));
    return {
      volumes: volumes.map((one) => ({ ...one, filesystem: capacities.get(one.record.id) })),
      measuredMs,
    };
  };
}

/** Returns undefined if the devices do not answer in time: those of other software may hang. */
async function readAttachedDevices(domain: Domain): Promise<AttachedDevices | undefined> {
  const devices = await withTimeout(AttachedDevices.read(domain), timeoutMs);
  return devices === timedOut ? undefined : devices;
}

/** Adds the usage of the filesystems that are mounted and answer. Takes at most about four seconds, whatever hangs. */
export async function withFilesystems(
  domain: Domain,
  filesystems: FilesystemUsage,
  volumes: readonly VolumeFacts[],
): Promise<readonly MeasuredVolume[]> {
  const attached = await readAttachedDevices(domain);
  const capacities = await filesystems.read(
    volumes.flatMap(({ record, pool, device }) => {
      const found = attached?.of(device?.backing);
      const target = found === undefined ? undefined : attached?.targetOf(found.device);
      return mountedVolume({ record, pool, target, io: found?.io });
    }),
  );
  return volumes.map((facts) => ({ ...facts, filesystem: capacities.get(facts.record.id) }));
}

function undefinedIfUnavailable(error: unknown): undefined {
  if (!isUnavailable(error)) throw error;
}

/** A volume whose filesystem has not been queried yet. */
type AttachedUsage = Omit<VolumeUsage, 'filesystem'> & {
  /** Where its filesystem is mounted. */
  readonly target: string | undefined;
};

function usagesIn(
  pool: Pool,
  facts: MeasuredFacts | undefined,
  attached: AttachedDevices | undefined,
): readonly AttachedUsage[] {
  if (facts === undefined) return [];
  return [...pool.images()].map(({ record, area }) => {
    const found = attached?.of(facts.identityById.get(record.id));
    return {
      record,
      isEphemeral: area === 'ephemeral',
      pool: pool.name,
      owner: ownerOf(record),
      allocatedBytes: facts.allocatedById.get(record.id) ?? 0n,
      io: found?.io,
      target: found === undefined ? undefined : attached?.targetOf(found.device),
    };
  });
}

function mountedVolume({
  record,
  pool,
  target,
  io,
}: Pick<AttachedUsage, 'record' | 'pool' | 'target' | 'io'>): readonly MountedVolume[] {
  if (target === undefined || io === undefined || record.fsType === null) return [];
  return [{ volumeId: record.id, pool, target, writes: io.writes }];
}
