/** Lists volumes and snapshots for the command line, with their records and their state in the kernel. Changes nothing. */

import { mapConcurrently } from '../../async.ts';
import { VolumeError } from '../../errors.ts';
import type { LoopDevice, Mount, MountUser } from '../../host/host.ts';
import { isLabelled, isOnImage } from '../../host/loop/status.ts';
import { exposesDevice } from '../../host/mount/loop-mounts.ts';
import { parseVolumeId } from '../../ids.ts';
import type { SnapshotRecord, VolumeRecord } from '../../state/records.ts';
import { type Attachment, attachmentOfDevices } from '../attachment/attachment.ts';
import { targetsOf } from '../attachment/mount-errors.ts';
import { readNodeState } from '../attachment/node-state.ts';
import { stagingMountPaths } from '../attachment/staging-path.ts';
import { isTemporaryMount } from '../attachment/temporary-mounts.ts';
import type { Domain } from '../domain.ts';
import { inLane } from '../engine/lanes.ts';
import type {
  Page,
  Pod,
  SnapshotOwner,
  SnapshotProgress,
  VolumeCondition,
  VolumeOwner,
} from '../model.ts';
import { ownerOf, snapshotOwnerOf } from '../owner.ts';
import { entryFiles, imageFile, volumeAreas } from '../pool/layout.ts';
import type { FoundVolume, Pool } from '../pool/pool.ts';
import { isUnavailable, makePoolQuery, type PoolQuery } from '../pool/pool-query.ts';
import { pageOf } from '../pool/record-index.ts';
import { maxConcurrentVolumes } from '../pool/thresholds.ts';
import { notAnsweringCondition } from '../volume/conditions.ts';
import { conditionsOf } from '../volume/health.ts';

export interface VolumeFacts {
  readonly record: VolumeRecord;
  readonly pool: string;
  /** Whether it is an inline volume, whose name is the id that the kubelet chose. */
  readonly isEphemeral: boolean;
  readonly imagePath: string;
  /** Bytes allocated to the image; 0 if the image is missing, which is then one of the `conditions`. */
  readonly allocatedBytes: bigint;
  readonly owner: VolumeOwner | undefined;
  readonly stagedAt: readonly string[];
  readonly publishedAt: readonly string[];
  /** The pods for which it is published here now. */
  readonly pods: readonly PublishedPod[];
  /** Docker's mount IDs that have it mounted. */
  readonly mountIds: readonly string[];
  readonly device: LoopDevice | undefined;
  /** Read-only devices that other software attached to the image, for example a backup. They do no harm. */
  readonly readers: readonly LoopDevice[];
  /** Those of the mounts in `publishedAt` that no call of the driver made. */
  readonly foreignMounts: readonly ForeignMount[];
  readonly conditions: readonly VolumeCondition[];
}

/** A mount that other software made: of a device of its own, or of the volume's device at a path of its choice. */
export interface ForeignMount {
  readonly target: string;
  /** undefined for a bind mount whose device was lost. */
  readonly device: LoopDevice | undefined;
}

/** Who uses a volume: at most five processes, and block devices that are stacked on its device, such as LVM. */
export interface VolumeUsers {
  readonly processes: readonly MountUser[];
  readonly devices: readonly string[];
}

interface PublishedPod extends Pod {
  readonly targetPath: string;
  /** undefined for a publication of an earlier version of the driver. */
  readonly publishedAtMs: number | undefined;
}

export interface SnapshotFacts {
  readonly record: SnapshotRecord;
  readonly owner: SnapshotOwner | undefined;
  /** undefined if the volume has been deleted. */
  readonly sourceVolumeName: string | undefined;
  readonly pool: string;
  readonly allocatedBytes: bigint;
  readonly progress: SnapshotProgress;
}

export interface PoolPageInput {
  readonly maxEntries: number;
  readonly startingToken: string;
  /** '' means all pools. */
  readonly pool: string;
}

/** Loop devices and mounts, which are read once for a whole page, and the function that queries pools. */
interface PageContext {
  readonly devices: readonly LoopDevice[];
  readonly mounts: readonly Mount[];
  readonly query: PoolQuery;
}

/**
 * Lists the volumes of one pool or of all pools, including inline volumes, in the order of their ids. Throws `invalid` for an
 * unknown pool.
 */
export async function listVolumeFacts(
  domain: Domain,
  page: PoolPageInput,
  query: PoolQuery = makePoolQuery(),
): Promise<Page<VolumeFacts>> {
  const volumes = poolsOf(domain, page.pool).flatMap((pool) => [...pool.images(rootOf(pool))]);
  volumes.sort((a, b) => (a.record.id < b.record.id ? -1 : 1));
  const { entries, nextToken } = pageOf(volumes, { ...page, idOf: ({ record }) => record.id });
  const context = await readPageContext(domain, query);
  const facts = await mapConcurrently(entries, maxConcurrentVolumes, (volume) =>
    factsOf(domain, volume, context),
  );
  return { entries: facts, nextToken };
}

/** Finds a volume as `findVolume` does. */
export async function getVolumeFacts(domain: Domain, name: string): Promise<VolumeFacts> {
  const context = await readPageContext(domain, makePoolQuery());
  return factsOf(domain, findVolume(domain, name), context);
}

/** Finds the processes and block devices that use a volume; none if they cannot be determined. */
export async function findVolumeUsers(
  domain: Domain,
  { record, pool, device, readers }: VolumeFacts,
): Promise<VolumeUsers> {
  const { users } = inLane(domain, { kind: 'inspect', id: record.id, pool }).host;
  const processes = new Map<number, MountUser>();
  const devices: string[] = [];
  for (const one of device === undefined ? readers : [device, ...readers]) {
    devices.push(...(await users.devicesAbove(one).catch(() => [])));
    for (const user of await users.ofDevice(one).catch(() => [])) processes.set(user.pid, user);
  }
  return { processes: [...processes.values()], devices };
}

/**
 * Finds a volume by its id, its name, or its claim as `namespace/name`. Throws `not-found`, `invalid` for a claim with several
 * volumes, or `unavailable` while a pool that may contain the volume is unavailable.
 */
export function findVolume(domain: Domain, name: string): FoundVolume {
  const found = findByIdOrName(domain, name) ?? findByClaim(domain, name);
  // Throws an error that says whether it is unknown, belongs to another node, is unreadable, or may be in an unavailable pool.
  return found ?? domain.pools.getVolume(name);
}

function findByIdOrName(domain: Domain, idOrName: string): FoundVolume | undefined {
  const id = parseVolumeId(idOrName);
  for (const pool of domain.pools.all) {
    for (const area of volumeAreas) {
      const index = pool.indexOf(area);
      const record =
        (id === undefined ? undefined : index.get(id)) ??
        [...index.values()].find(({ name }) => name === idOrName);
      if (record !== undefined) return pool.volumeOf(area, record, rootOf(pool));
    }
  }
  return undefined;
}

/** A claim has several volumes if an earlier claim of the same name left one, because its volume is retained. */
function findByClaim({ pools }: Domain, name: string): FoundVolume | undefined {
  const found = pools.all.flatMap((pool) =>
    [...pool.images(rootOf(pool))]
      .filter(({ record }) => isClaimOf(record, name))
      .map(({ area, record }) => pool.volumeOf(area, record, rootOf(pool))),
  );
  return onlyOneOf(found, `claim '${name}'`, 'volumes');
}

/** Throws `invalid` if a name of Kubernetes has several volumes or snapshots. */
function onlyOneOf<T extends { readonly record: VolumeRecord | SnapshotRecord }>(
  found: readonly T[],
  subject: string,
  noun: string,
): T | undefined {
  if (found.length <= 1) return found[0];
  const all = found.map(
    ({ record: { id, createdAtMs } }) => `${id} (created ${new Date(createdAtMs).toISOString()})`,
  );
  throw new VolumeError(
    'invalid',
    `${subject} has ${found.length} ${noun}: ${all.join(', ')}; specify one of these ids`,
  );
}

function isClaimOf(record: VolumeRecord, name: string): boolean {
  const owner = ownerOf(record);
  return owner !== undefined && owner.claim !== '' && `${owner.namespace}/${owner.claim}` === name;
}

/** Returns the root of the pool. While the pool is not served, its root is unknown, and the configured path is used. */
function rootOf(pool: Pool): string {
  return pool.isServed ? pool.root : pool.settings.path;
}

export function poolsOf(domain: Domain, name: string): readonly Pool[] {
  return name === '' ? domain.pools.all : [domain.pools.named(name)];
}

async function readPageContext(domain: Domain, query: PoolQuery): Promise<PageContext> {
  const [devices, mounts] = await Promise.all([
    domain.host.loops.list(),
    domain.host.mounts.list(),
  ]);
  return { devices, mounts, query };
}

/** The part of the facts that comes from the kernel. */
type KernelFacts = Pick<VolumeFacts, 'allocatedBytes' | 'device' | 'readers'> & MountFacts;

/** The mounts of a volume, and what the node state knows about them. */
type MountFacts = Pick<
  VolumeFacts,
  'stagedAt' | 'publishedAt' | 'foreignMounts' | 'pods' | 'mountIds'
>;

const noMountFacts: MountFacts = {
  stagedAt: [],
  publishedAt: [],
  foreignMounts: [],
  pods: [],
  mountIds: [],
};

const noKernelFacts: KernelFacts = {
  allocatedBytes: 0n,
  device: undefined,
  readers: [],
  ...noMountFacts,
};

/** Reasons of conditions that exclude further queries of the volume's disk. */
const silentReasons = ['Stuck', 'PoolNotAnswering', 'ImageUnreadable'];

async function factsOf(
  domain: Domain,
  volume: FoundVolume,
  context: PageContext,
): Promise<VolumeFacts> {
  const { record, pool, area, imagePath } = volume;
  const owner = ownerOf(record);
  const known = { record, pool: pool.name, owner, isEphemeral: area === 'ephemeral', imagePath };
  const conditions = await conditionsOf(domain, volume, context.query);
  // A disk that hangs or cannot be read must not delay the list, so only the condition is reported and the disk is not queried.
  const isSilent = conditions.some(({ reason }) => silentReasons.includes(reason));
  if (!pool.isServed || isSilent) return { ...known, conditions, ...noKernelFacts };
  try {
    const deps = inLane(domain, { kind: 'inspect', id: record.id, pool: pool.name });
    const kernelFacts = await context.query(pool, () => kernelFactsOf(deps, volume, context));
    return { ...known, conditions, ...kernelFacts };
  } catch (error) {
    if (!isUnavailable(error)) throw error;
    return {
      ...known,
      conditions: [...conditions, notAnsweringCondition(error)],
      ...noKernelFacts,
    };
  }
}

async function kernelFactsOf(
  domain: Domain,
  volume: FoundVolume,
  context: PageContext,
): Promise<KernelFacts> {
  const { imagePath } = volume;
  const image = await domain.host.files.imageStatus(imagePath).catch(() => undefined);
  if (image === undefined) return noKernelFacts;
  const devices = context.devices.filter((device) => isOnImage(device, image));
  const attachment = await attachmentOfDevices(domain, devices, {
    image,
    volume,
    table: context.mounts,
  });
  return {
    allocatedBytes: image.allocatedBytes,
    device: attachment.readWrite,
    readers: attachment.devices.filter((device) => device.readOnly && !isLabelled(device)),
    ...(await mountFactsOf(domain, volume, attachment)),
  };
}

/**
 * Splits the mount targets into the staging path and published paths. The node state says which of them is the staging path, and
 * for which pod or mount ID the others are.
 */
async function mountFactsOf(
  domain: Domain,
  volume: FoundVolume,
  { devices, mounts, lost }: Attachment,
): Promise<MountFacts> {
  // A bind-mounted device node whose device was lost stays mounted until it is unpublished.
  const all = [...mounts, ...lost].filter(({ target }) => !isTemporaryMount(volume.pool, target));
  const targets = targetsOf(all);
  if (targets.length === 0) return noMountFacts;
  const { staged, published, dockerMountIds } = await readNodeState(domain, volume);
  const path = staged?.stagingTargetPath;
  const isStaging = (target: string): boolean =>
    path !== undefined && stagingMountPaths(path).includes(target);
  const ownTargets = published.map(({ targetPath }) => targetPath);
  const foreignMounts = all.flatMap((mount) => {
    const { target } = mount;
    const device = devices.find((one) => exposesDevice(mount, one));
    const isOurs = device === undefined || isLabelled(device);
    return isOurs && (isStaging(target) || ownTargets.includes(target)) ? [] : [{ target, device }];
  });
  return {
    stagedAt: path !== undefined && targets.some(isStaging) ? [path] : [],
    publishedAt: targets.filter((target) => !isStaging(target)).sort(),
    foreignMounts,
    pods: published.flatMap(({ pod, targetPath, publishedAtMs }) =>
      pod !== undefined && targets.includes(targetPath)
        ? [{ ...pod, targetPath, publishedAtMs }]
        : [],
    ),
    mountIds: dockerMountIds,
  };
}

/** Lists the snapshots of one volume, of one pool or of all pools, in the order of their ids. */
export async function listSnapshotFacts(
  domain: Domain,
  page: PoolPageInput & { readonly sourceVolumeId: string },
): Promise<Page<SnapshotFacts>> {
  const all = poolsOf(domain, page.pool)
    .flatMap((pool) => [...pool.snapshots.values()].map((record) => ({ pool, record })))
    .filter(
      ({ record }) => page.sourceVolumeId === '' || record.sourceVolumeId === page.sourceVolumeId,
    );
  all.sort((a, b) => (a.record.id < b.record.id ? -1 : 1));
  const { entries, nextToken } = pageOf(all, { ...page, idOf: ({ record }) => record.id });
  const query = makePoolQuery();
  return {
    entries: await Promise.all(entries.map((one) => snapshotFactsOf(domain, one, query))),
    nextToken,
  };
}

/** Finds a snapshot as `findSnapshot` does. */
export async function getSnapshotFacts(domain: Domain, name: string): Promise<SnapshotFacts> {
  return snapshotFactsOf(domain, findSnapshot(domain, name));
}

/**
 * Finds a snapshot by its id, its name, or its VolumeSnapshot as `namespace/name`. Throws `not-found`, `invalid` for a
 * VolumeSnapshot with several snapshots, or `unavailable` while a pool that may contain the snapshot is unavailable.
 */
export function findSnapshot(
  domain: Domain,
  name: string,
): { readonly pool: Pool; readonly record: SnapshotRecord } {
  const all = domain.pools.all.flatMap((pool) =>
    [...pool.snapshots.values()].map((record) => ({ pool, record })),
  );
  const found =
    all.find(({ record }) => record.id === name || record.name === name) ??
    onlyOneOf(
      all.filter(({ record }) => isSnapshotOf(record, name)),
      `VolumeSnapshot '${name}'`,
      'snapshots',
    );
  return found ?? domain.pools.getSnapshot(name);
}

function isSnapshotOf(record: SnapshotRecord, name: string): boolean {
  const owner = snapshotOwnerOf(record);
  return (
    owner !== undefined &&
    owner.volumeSnapshot !== '' &&
    `${owner.namespace}/${owner.volumeSnapshot}` === name
  );
}

async function snapshotFactsOf(
  domain: Domain,
  { pool, record }: { pool: Pool; record: SnapshotRecord },
  query: PoolQuery = makePoolQuery(),
): Promise<SnapshotFacts> {
  const known = {
    record,
    pool: pool.name,
    owner: snapshotOwnerOf(record),
    sourceVolumeName: domain.pools.findVolume(record.sourceVolumeId)?.record.name,
    progress: domain.snapshotCopies.progressOf(record),
  };
  if (!pool.isServed) return { ...known, allocatedBytes: 0n };
  const file = record.state === 'ready' ? imageFile : entryFiles.partialImage;
  const { host } = inLane(domain, { kind: 'inspect', id: record.id, pool: pool.name });
  const status = await query(pool, () =>
    host.files.imageStatus(pool.pathOf('snapshots', record.id, file)),
  ).catch(() => undefined);
  return { ...known, allocatedBytes: status?.allocatedBytes ?? 0n };
}
