import { messageOf, VolumeError } from '../../errors.ts';
import { parseVolumeId, type VolumeId } from '../../ids.ts';
import type { VolumeRecord } from '../../state/records.ts';
import { requireMatchingCapability } from '../attachment/capability-fit.ts';
import { requireAllowedMountFlags } from '../attachment/mount-flags.ts';
import type { Domain } from '../domain.ts';
import type { Capability, Page, Volume, VolumeCondition, VolumeHealth } from '../model.ts';
import { isPresentValue } from '../parameters/present-values.ts';
import { isMutable } from '../parameters/storage-class.ts';
import { makePoolQuery, type PoolQuery } from '../pool/pool-query.ts';
import type { Pools } from '../pool/pools.ts';
import { candidatesFor, pageOf } from '../pool/record-index.ts';
import { maxConcurrentVolumes } from '../pool/thresholds.ts';
import { volumeHealth } from './health.ts';

interface PageInput {
  readonly maxEntries: number;
  readonly startingToken: string;
}

/**
 * Lists the volumes of all pools, in the order of their ids. Inline volumes belong to the kubelet and are not listed. Throws
 * `unavailable` if a pool was never read since the driver started: CSI cannot mark a list as incomplete (CSI spec, ListVolumes), and
 * callers take a volume that is missing for deleted.
 */
export function listVolumes(pools: Pools, page: PageInput): Page<Volume> {
  pools.requireAllRead();
  return listKnownVolumes(pools, page);
}

/** As `listVolumes`, but without the volumes of pools that were never read since the driver started. For people, never for CSI. */
export function listKnownVolumes(pools: Pools, page: PageInput): Page<Volume> {
  return pageOf(volumesFor(pools, page), { ...page, idOf: ({ record }) => record.id });
}

/**
 * Returns the candidates for a page, in the order of their ids. The volumes of each pool are sorted, so one page of each pool is
 * enough.
 */
function volumesFor(pools: Pools, page: PageInput): readonly Volume[] {
  const idOf = ({ id }: VolumeRecord): string => id;
  return pools.all
    .flatMap((pool) =>
      candidatesFor(pool.volumes.sorted(), { ...page, idOf }).map((record) => ({
        record,
        pool: pool.name,
      })),
    )
    .sort((a, b) => (a.record.id < b.record.id ? -1 : 1));
}

/**
 * Lists the volumes that have conditions, including those that are set aside (CSI spec, ControllerListVolumeHealth). Throws as
 * `listVolumes` does: a volume that is missing counts as healthy.
 */
export async function listVolumeHealth(
  domain: Domain,
  page: PageInput,
): Promise<Page<VolumeHealth>> {
  domain.pools.requireAllRead();
  return listKnownVolumeHealth(domain, page);
}

/** As `listVolumeHealth`, but without the volumes of pools that were never read since the driver started. */
export async function listKnownVolumeHealth(
  domain: Domain,
  page: PageInput,
): Promise<Page<VolumeHealth>> {
  const all = { ...page, maxEntries: 0 };
  const ids = new Set([
    ...volumesFor(domain.pools, all).map(({ record }) => record.id),
    ...candidatesFor(idsSetAside(domain.pools), { ...all, idOf: (id) => id }),
  ]);
  const entries = [...ids].sort();
  const found: VolumeHealth[] = [];
  const query = makePoolQuery();
  const wanted = page.maxEntries === 0 ? Number.POSITIVE_INFINITY : page.maxEntries + 1;
  for (
    let start = 0;
    start < entries.length && found.length < wanted;
    start += maxConcurrentVolumes
  ) {
    const batch = entries.slice(start, start + maxConcurrentVolumes);
    const conditions = await Promise.all(batch.map((id) => healthOf(domain, id, query)));
    batch.forEach((volumeId, i) => {
      const ofVolume = conditions[i] ?? [];
      if (ofVolume.length > 0) found.push({ volumeId, conditions: ofVolume });
    });
  }
  return pageOf(found, {
    maxEntries: page.maxEntries,
    startingToken: '',
    idOf: ({ volumeId }) => volumeId,
  });
}

/**
 * Returns the ids of volumes that are set aside, in ascending order. Names in `volumes/` that are not volume ids are only
 * reported by `loopcsi doctor`.
 */
function idsSetAside(pools: Pools): readonly VolumeId[] {
  return pools.all
    .flatMap(({ volumes }) => [...volumes.aside.keys()])
    .flatMap((name) => parseVolumeId(name) ?? [])
    .sort();
}

async function healthOf(
  domain: Domain,
  volumeId: VolumeId,
  query: PoolQuery,
): Promise<readonly VolumeCondition[]> {
  try {
    return await volumeHealth(domain, volumeId, query);
  } catch (error) {
    if (error instanceof VolumeError && error.reason === 'not-found') return [];
    return [{ status: 'DEGRADED', reason: 'HealthUnknown', message: messageOf(error) }];
  }
}

/**
 * Returns why the volume does not match the request; undefined if it does (CSI spec, ValidateVolumeCapabilities). Keys that
 * Kubernetes and its provisioner add do not describe the volume and are ignored.
 */
export function findMismatch(
  pools: Pools,
  volumeId: string,
  request: {
    capabilities: readonly Capability[];
    parameters: Readonly<Record<string, string>>;
    context: Readonly<Record<string, string>>;
  },
): string | undefined {
  const volume = pools.getVolume(volumeId);
  try {
    for (const capability of request.capabilities) {
      requireMatchingCapability(volume, capability);
      requireAllowedMountFlags(volume.record, capability.mountFlags);
    }
  } catch (error) {
    if (error instanceof VolumeError) return error.message;
    throw error;
  }
  return (
    findDifference(
      'parameter',
      withoutPresentValues(volume.record, request.parameters),
      volume.record.parameters,
    ) ?? findDifference('volume_context', request.context, { pool: volume.pool.name })
  );
}

/** Leaves out parameters that can be changed and have the requested value at present. */
function withoutPresentValues(
  record: VolumeRecord,
  parameters: Readonly<Record<string, string>>,
): Readonly<Record<string, string>> {
  const others = Object.entries(parameters).filter(
    ([key, value]) => !(isMutable(key) && isPresentValue(record, key, value)),
  );
  return Object.fromEntries(others);
}

function findDifference(
  field: string,
  requested: Readonly<Record<string, string>>,
  actual: Readonly<Record<string, string>>,
): string | undefined {
  for (const [key, value] of Object.entries(requested)) {
    if (key.startsWith('csi.storage.k8s.io/') || key.startsWith('storage.kubernetes.io/')) continue;
    if (actual[key] !== value) {
      return `${field} '${key}' is '${actual[key] ?? ''}' for this volume, not '${value}'`;
    }
  }
  return undefined;
}
