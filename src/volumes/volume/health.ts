import { hasErrno, isStorageFailure, KernelError, StuckError } from '../../host/errors.ts';
import type { ImageStatus } from '../../host/host.ts';
import { formatBytes } from '../../units.ts';
import { type Attachment, attachmentOf } from '../attachment/attachment.ts';
import { truncationOf } from '../attachment/prepare-image.ts';
import type { Domain } from '../domain.ts';
import { inLane } from '../engine/lanes.ts';
import { parseVolumeId } from '../ids.ts';
import type { StorageCondition, VolumeCondition } from '../model.ts';
import { type AskPool, isUnavailable, makeAskPool } from '../pool/ask-pools.ts';
import { recordAreas } from '../pool/layout.ts';
import type { FoundVolume, Pool } from '../pool/pool.ts';
import type { SetAside } from '../pool/set-aside.ts';
import { hasInodes, type MeasuredFacts } from '../pool/space.ts';
import { isFreeBelow, nearlyFullPercent } from '../pool/thresholds.ts';
import { condition, imageUnreadableCondition, notAnsweringCondition } from './conditions.ts';
import { deviceConditions } from './device-health.ts';
import { filesystemConditions } from './filesystem-health.ts';

/**
 * Conditions of one volume (CSI spec, ControllerGetVolumeHealth), each read from the kernel or the disk: a missing or truncated
 * image, a pool that is not served, a filesystem that the kernel made read-only, errors that ext4 counted, a mount without its device.
 */
export async function volumeHealth(
  domain: Domain,
  volumeId: string,
  ask: AskPool = makeAskPool(),
): Promise<readonly VolumeCondition[]> {
  const id = parseVolumeId(volumeId);
  const [aside] = id === undefined ? [] : domain.pools.findSetAside('volumes', id);
  if (aside !== undefined) {
    const { kind, message } = aside.why;
    return [condition('INACCESSIBLE', asideReasons[kind].volume, message)];
  }
  for (const pool of domain.pools.all) {
    const isKnown =
      (id !== undefined && pool.volumes.get(id) !== undefined) ||
      [...pool.ephemerals.values()].some(({ name }) => name === volumeId);
    if (isKnown && !pool.isServed) return [notServed(pool)];
  }
  const { pools } = domain;
  return conditionsOf(domain, pools.findEphemeral(volumeId) ?? pools.getVolume(volumeId), ask);
}

/** Conditions of a volume whose record was found. */
export async function conditionsOf(
  domain: Domain,
  volume: FoundVolume,
  ask: AskPool = makeAskPool(),
): Promise<readonly VolumeCondition[]> {
  const { pool, record } = volume;
  if (!pool.isServed) return [notServed(pool)];
  try {
    await ask(pool, () => waitForAnswer(pool));
    const deps = inLane(domain, { kind: 'health', id: record.id, pool: pool.name });
    return await pool.whileServed(() => collectConditions(deps, volume, ask));
  } catch (error) {
    if (error instanceof StuckError) {
      return [condition('INACCESSIBLE', 'Stuck', `${error.message}; check the pool's disk`)];
    }
    if (isStorageFailure(error)) {
      pool.requestWriteProbe();
      return [imageUnreadableCondition(error)];
    }
    if (!isUnavailable(error)) throw error;
    return [pool.isServed ? notAnsweringCondition(error) : notServed(pool)];
  }
}

/** Resolves when the pool answers. Its errors are ignored: the checks that follow report what has failed. */
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
  ask: AskPool,
): Promise<readonly VolumeCondition[]> {
  const { pool, record } = volume;
  let image: ImageStatus;
  try {
    image = await domain.host.files.imageStatus(volume.imagePath);
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    if (!hasErrno(error, 'ENOENT')) return [imageUnreadableCondition(error)];
    return [condition('DATA_LOSS', 'ImageMissing', `the image ${volume.imagePath} is missing`)];
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
  conditions.push(...(await filesystemConditions(domain, volume, { attachment, ask })));
  conditions.push(...(await deviceConditions(domain, volume, attachment)));
  // The pool's disk may have failed, too, without any call having noticed.
  if (conditions.some(({ reason }) => reason.startsWith('Filesystem'))) pool.requestWriteProbe();
  if (pool.isServed && record.provisioning === 'thin')
    conditions.push(...(await spaceConditions(pool, ask)));
  return conditions;
}

function notServed(pool: Pool): VolumeCondition {
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
  const where = `pool '${volume.pool.name}' is nearly full`;
  if (domain.guard.frozenSince(id) !== undefined) {
    const what =
      'its filesystem is frozen until space is free; delete volumes or snapshots, or enlarge the pool';
    return [condition('DEGRADED', 'FrozenForRoom', `${where}: ${what}`)];
  }
  if (!domain.guard.isExpired(id) || attachment.mounts.length === 0) return [];
  const what =
    'its filesystem was frozen for the maximum time and thawed again; its writers can get ENOSPC';
  return [condition('DEGRADED', 'RoomGuardExpired', `${where}: ${what}`)];
}

async function spaceConditions(pool: Pool, ask: AskPool): Promise<VolumeCondition[]> {
  let facts: MeasuredFacts;
  try {
    facts = await ask(pool, () => pool.space.facts());
  } catch (error) {
    if (!isUnavailable(error)) throw error;
    return [notAnsweringCondition(error)];
  }
  const conditions: VolumeCondition[] = [];
  const isBelowWatermark = facts.freeBytes < facts.watermarkBytes;
  if (isBelowWatermark || isFreeBelow(facts, nearlyFullPercent)) {
    const what = isBelowWatermark
      ? 'until more is free, its volumes are trimmed, then frozen, and nothing new is created'
      : 'writes will fail when it is full';
    const message = `pool '${pool.name}' has ${formatBytes(facts.freeBytes)} of ${formatBytes(facts.totalBytes)} free; ${what}`;
    conditions.push(condition('DEGRADED', 'PoolNearlyFull', message));
  }
  if (!hasInodes(facts)) {
    const message = `pool '${pool.name}' has only ${facts.freeInodes} free inodes; remove files from its filesystem`;
    conditions.push(condition('DEGRADED', 'PoolInodesLow', message));
  }
  return conditions;
}

/** Conditions of all pools (CSI spec, NodeGetStorageHealth). */
export async function storageConditions(domain: Domain): Promise<readonly StorageCondition[]> {
  const ask = makeAskPool();
  return (await Promise.all(domain.pools.all.map((pool) => poolConditions(pool, ask)))).flat();
}

async function poolConditions(pool: Pool, ask: AskPool): Promise<readonly StorageCondition[]> {
  if (!pool.isServed) {
    const message = pool.problem ?? `pool '${pool.name}' is not open`;
    return [{ pool: pool.name, status: 'STORAGE_UNREACHABLE', reason: 'PoolNotServed', message }];
  }
  const conditions = (await spaceConditions(pool, ask)).map(
    ({ status, reason, message }): StorageCondition => ({
      pool: pool.name,
      status: status === 'INACCESSIBLE' ? 'STORAGE_UNREACHABLE' : 'STORAGE_DEGRADED',
      reason,
      message,
    }),
  );
  return [...conditions, ...asideConditions(pool)];
}

/** Reasons for entries that are set aside, in the health of a volume and of its pool. */
const asideReasons = {
  unreadable: { volume: 'RecordUnreadable', pool: 'RecordsUnreadable', what: 'cannot be read' },
  'later-version': {
    volume: 'RecordOfLaterVersion',
    pool: 'RecordsOfLaterVersion',
    what: 'were written by a later version of the driver; upgrade it',
  },
  duplicate: {
    volume: 'TwinSetAside',
    pool: 'TwinsSetAside',
    what: 'have the id of an entry of another pool and are not used',
  },
} as const satisfies Record<SetAside['kind'], unknown>;

function asideConditions(pool: Pool): readonly StorageCondition[] {
  const all = recordAreas.flatMap((area) => [...pool.indexOf(area).aside.values()]);
  const kinds = new Set(all.map(({ kind }) => kind));
  return [...kinds].map((kind) => {
    const { pool: reason, what } = asideReasons[kind];
    const those = all.filter((one) => one.kind === kind);
    const message = `${those.length} ${those.length === 1 ? 'entry' : 'entries'} of pool '${pool.name}' ${what}: ${those[0]?.message ?? ''}`;
    return { pool: pool.name, status: 'STORAGE_DEGRADED', reason, message };
  });
}
