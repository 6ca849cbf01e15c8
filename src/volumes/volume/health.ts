import { hasErrno, isStorageFailure, KernelError, StuckError } from '../../host/errors.ts';
import type { ImageStatus } from '../../host/host.ts';
import { parseVolumeId } from '../../ids.ts';
import { formatBytes } from '../../units.ts';
import { type Attachment, attachmentOf } from '../attachment/attachment.ts';
import { truncationOf } from '../attachment/prepare-image.ts';
import type { Domain } from '../domain.ts';
import { inLane } from '../engine/lanes.ts';
import type { StorageCondition, VolumeCondition } from '../model.ts';
import { recordAreas } from '../pool/layout.ts';
import type { FoundVolume, Pool } from '../pool/pool.ts';
import { isUnavailable, makePoolQuery, type PoolQuery } from '../pool/pool-query.ts';
import type { SetAside } from '../pool/set-aside.ts';
import { hasInodes, type MeasuredFacts } from '../pool/space.ts';
import { isFreeBelow, nearlyFullPercent } from '../pool/thresholds.ts';
import { condition, imageUnreadableCondition, notAnsweringCondition } from './conditions.ts';
import { deviceConditions } from './device-health.ts';
import { filesystemConditions } from './filesystem-health.ts';

/**
 * Returns the conditions of one volume (CSI spec, ControllerGetVolumeHealth). Each is observed in the kernel or on the disk: for
 * example a missing or truncated image, a pool that is not served, a filesystem that the kernel made read-only, errors that ext4
 * counted, or a mount whose device was lost.
 */
export async function volumeHealth(
  domain: Domain,
  volumeId: string,
  query: PoolQuery = makePoolQuery(),
): Promise<readonly VolumeCondition[]> {
  const id = parseVolumeId(volumeId);
  const [aside] = id === undefined ? [] : domain.pools.findSetAside('volumes', id);
  if (aside !== undefined && isReported(aside.why)) {
    const { kind, message } = aside.why;
    return [condition('INACCESSIBLE', asideReasons[kind].volume, message)];
  }
  for (const pool of domain.pools.all) {
    const isKnown =
      (id !== undefined && pool.volumes.get(id) !== undefined) ||
      [...pool.ephemerals.values()].some(({ name }) => name === volumeId);
    if (isKnown && !pool.isServed) return [notServedCondition(pool)];
  }
  const { pools } = domain;
  return conditionsOf(domain, pools.findEphemeral(volumeId) ?? pools.getVolume(volumeId), query);
}

/** Returns the conditions of a volume whose record was found. */
export async function conditionsOf(
  domain: Domain,
  volume: FoundVolume,
  query: PoolQuery = makePoolQuery(),
): Promise<readonly VolumeCondition[]> {
  const { pool, record } = volume;
  if (!pool.isServed) return [notServedCondition(pool)];
  try {
    await query(pool, () => waitForAnswer(pool));
    const deps = inLane(domain, { kind: 'health', id: record.id, pool: pool.name });
    return await pool.whileServed(() => collectConditions(deps, volume, query));
  } catch (error) {
    if (error instanceof StuckError) {
      return [condition('INACCESSIBLE', 'Stuck', `${error.message}; check the pool's disk`)];
    }
    if (isStorageFailure(error)) {
      pool.requestWriteProbe();
      return [imageUnreadableCondition(error)];
    }
    if (!isUnavailable(error)) throw error;
    return [pool.isServed ? notAnsweringCondition(error) : notServedCondition(pool)];
  }
}

/** Resolves when the pool answers. Its errors are ignored, because the checks that follow report failures. */
async function waitForAnswer(pool: Pool): Promise<void> {
  try {
    await pool.space.capacity();
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
  }
}

async function collectConditions(
  domain: Domain,
  volume: FoundVolume,
  query: PoolQuery,
): Promise<readonly VolumeCondition[]> {
  const { pool, record } = volume;
  let image: ImageStatus;
  try {
    image = await domain.host.files.imageStatus(volume.imagePath);
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    if (!hasErrno(error, 'ENOENT')) return [imageUnreadableCondition(error)];
    return [
      condition(
        'DATA_LOSS',
        'ImageMissing',
        `the image ${volume.imagePath} is missing; restore a snapshot or a backup`,
      ),
    ];
  }
  const conditions: VolumeCondition[] = [];
  if ((await truncationOf(domain, volume, image)) !== undefined) {
    conditions.push(
      condition(
        'DATA_LOSS',
        'ImageShort',
        `the image was truncated to ${formatBytes(image.sizeBytes)}; restore a snapshot or a backup`,
      ),
    );
  }
  const attachment = await attachmentOf(domain, volume);
  conditions.push(...guardConditions(domain, volume, attachment));
  conditions.push(...(await filesystemConditions(domain, volume, { attachment, query })));
  conditions.push(...(await deviceConditions(domain, volume, attachment)));
  // The pool's disk may also have failed, although no call has noticed it yet.
  if (conditions.some(({ reason }) => reason.startsWith('Filesystem'))) pool.requestWriteProbe();
  if (pool.isServed && record.provisioning === 'thin')
    conditions.push(...(await spaceConditions(pool, query)));
  return conditions;
}

function notServedCondition(pool: Pool): VolumeCondition {
  return condition(
    'INACCESSIBLE',
    'PoolNotServed',
    pool.problem ?? `pool '${pool.name}' is not served`,
  );
}

function guardConditions(
  domain: Domain,
  volume: FoundVolume,
  attachment: Attachment,
): VolumeCondition[] {
  const { id } = volume.record;
  const cause = `pool '${volume.pool.name}' is nearly full`;
  if (domain.guard.frozenSince(id) !== undefined) {
    const state =
      'its filesystem is frozen until space is free; delete volumes or snapshots, or enlarge the pool';
    return [condition('DEGRADED', 'FrozenForRoom', `${cause}: ${state}`)];
  }
  if (!domain.guard.isExpired(id) || attachment.mounts.length === 0) return [];
  const state =
    'its filesystem was frozen for the maximum time and thawed again; its writers can get ENOSPC';
  return [condition('DEGRADED', 'RoomGuardExpired', `${cause}: ${state}`)];
}

async function spaceConditions(pool: Pool, query: PoolQuery): Promise<VolumeCondition[]> {
  let facts: MeasuredFacts;
  try {
    facts = await query(pool, () => pool.space.facts());
  } catch (error) {
    if (!isUnavailable(error)) throw error;
    return [notAnsweringCondition(error)];
  }
  const conditions: VolumeCondition[] = [];
  const isBelowWatermark = facts.freeBytes < facts.watermarkBytes;
  if (isBelowWatermark || isFreeBelow(facts, nearlyFullPercent)) {
    const consequence = isBelowWatermark
      ? 'until more space is free, its volumes are trimmed, then frozen, and nothing new is created'
      : 'writes will fail when the pool is full';
    const message = `pool '${pool.name}' has ${formatBytes(facts.freeBytes)} of ${formatBytes(facts.totalBytes)} free; ${consequence}`;
    conditions.push(condition('DEGRADED', 'PoolNearlyFull', message));
  }
  if (!hasInodes(facts)) {
    const message = `pool '${pool.name}' has only ${facts.freeInodes} free inodes; remove files from its filesystem`;
    conditions.push(condition('DEGRADED', 'PoolInodesLow', message));
  }
  return conditions;
}

/** Returns the conditions of all pools (CSI spec, NodeGetStorageHealth). */
export async function storageConditions(domain: Domain): Promise<readonly StorageCondition[]> {
  const query = makePoolQuery();
  return (await Promise.all(domain.pools.all.map((pool) => poolConditions(pool, query)))).flat();
}

async function poolConditions(pool: Pool, query: PoolQuery): Promise<readonly StorageCondition[]> {
  if (!pool.isServed) {
    const message = pool.problem ?? `pool '${pool.name}' is not open`;
    return [{ pool: pool.name, status: 'STORAGE_UNREACHABLE', reason: 'PoolNotServed', message }];
  }
  const conditions = (await spaceConditions(pool, query)).map(
    ({ status, reason, message }): StorageCondition => ({
      pool: pool.name,
      status: status === 'INACCESSIBLE' ? 'STORAGE_UNREACHABLE' : 'STORAGE_DEGRADED',
      reason,
      message,
    }),
  );
  return [...conditions, ...asideConditions(pool)];
}

/** Reasons with which entries that are set aside are reported, for a volume and for its pool. */
const asideReasons = {
  unreadable: { volume: 'RecordUnreadable', pool: 'RecordsUnreadable', problem: 'cannot be read' },
  'later-version': {
    volume: 'RecordOfLaterVersion',
    pool: 'RecordsOfLaterVersion',
    problem: 'were written by a later version of the driver; upgrade it',
  },
  duplicate: {
    volume: 'TwinSetAside',
    pool: 'TwinsSetAside',
    problem: 'have the id of an entry of another pool and are not used',
  },
} as const satisfies Record<ReportedKind, unknown>;

/** The controller decides about members of groups by itself, so they are no condition of the pool. */
type ReportedKind = Exclude<SetAside['kind'], 'undecided'>;

function isReported(aside: SetAside): aside is SetAside & { readonly kind: ReportedKind } {
  return aside.kind !== 'undecided';
}

function asideConditions(pool: Pool): readonly StorageCondition[] {
  const all = recordAreas
    .flatMap((area) => [...pool.indexOf(area).aside.values()])
    .filter(isReported);
  const kinds = new Set(all.map(({ kind }) => kind));
  return [...kinds].map((kind) => {
    const { pool: reason, problem } = asideReasons[kind];
    const those = all.filter((one) => one.kind === kind);
    const message = `${those.length} ${those.length === 1 ? 'entry' : 'entries'} of pool '${pool.name}' ${problem}: ${those[0]?.message ?? ''}`;
    return { pool: pool.name, status: 'STORAGE_DEGRADED', reason, message };
  });
}
