/** What a person wants to know of a volume or a pool: the record, and what the kernel says about it now. Changes nothing. */

import { join } from 'node:path';
import { VolumeError } from '../../errors.ts';
import type { ImageStatus, LoopDevice, Mount } from '../../host/host.ts';
import type { SnapshotRecord, VolumeRecord } from '../../state/records.ts';
import { attachmentOfDevices } from '../attachment/attachment.ts';
import { stagedNodeName } from '../attachment/device-binds.ts';
import { readNodeState } from '../attachment/node-state.ts';
import type { Domain } from '../domain.ts';
import type { Page, SnapshotProgress, VolumeCondition } from '../model.ts';
import { type AskPool, askingPools, isUnavailable } from '../pool/ask-pools.ts';
import { entryFiles, imageFile, volumeAreas } from '../pool/layout.ts';
import type { FoundVolume, Pool } from '../pool/pool.ts';
import { pageOf } from '../pool/record-index.ts';
import { conditionsOf, notAnswering } from '../volume/health.ts';

export interface VolumeFacts {
  readonly record: VolumeRecord;
  readonly pool: string;
  /** Inline ephemeral volumes go by the kubelet's id, which is their name. */
  readonly isEphemeral: boolean;
  readonly imagePath: string;
  /** What the image occupies; 0 when it is gone, which `conditions` then say. */
  readonly allocatedBytes: bigint;
  readonly stagedAt: readonly string[];
  readonly publishedAt: readonly string[];
  readonly device: LoopDevice | undefined;
  readonly conditions: readonly VolumeCondition[];
}

export interface SnapshotFacts {
  readonly record: SnapshotRecord;
  readonly pool: string;
  readonly allocatedBytes: bigint;
  readonly progress: SnapshotProgress;
}

export interface PageOfPool {
  readonly maxEntries: number;
  readonly startingToken: string;
  /** '' means all pools. */
  readonly pool: string;
}

/** For a whole page: the kernel's tables, read once, and how its pools are asked. */
interface Look {
  readonly devices: readonly LoopDevice[];
  readonly mounts: readonly Mount[];
  readonly ask: AskPool;
}

/** Volumes looked at together; each may wait for its disk. */
const looksAtOnce = 8;

/** Volumes of one pool or of all, inline ones too, ascending by id. Throws `invalid` for an unknown pool. */
export async function listVolumeFacts(
  domain: Domain,
  page: PageOfPool,
  ask: AskPool = askingPools(),
): Promise<Page<VolumeFacts>> {
  const volumes = poolsOf(domain, page.pool).flatMap((pool) => [...pool.images(rootOf(pool))]);
  volumes.sort((a, b) => (a.record.id < b.record.id ? -1 : 1));
  const { entries, nextToken } = pageOf(volumes, { ...page, idOf: ({ record }) => record.id });
  const look = await beginLook(domain, ask);
  const facts: VolumeFacts[] = [];
  for (let start = 0; start < entries.length; start += looksAtOnce) {
    const batch = entries.slice(start, start + looksAtOnce);
    facts.push(...(await Promise.all(batch.map((volume) => factsOf(domain, volume, look)))));
  }
  return { entries: facts, nextToken };
}

/** By id or by name. Throws `not-found`, or `unavailable` while a pool that may hold it is away. */
export async function getVolumeFacts(domain: Domain, idOrName: string): Promise<VolumeFacts> {
  const look = await beginLook(domain, askingPools());
  return factsOf(domain, findByIdOrName(domain, idOrName), look);
}

function findByIdOrName(domain: Domain, idOrName: string): FoundVolume {
  for (const pool of domain.pools.all) {
    for (const area of volumeAreas) {
      const index = pool.indexOf(area);
      const record =
        index.get(idOrName) ?? [...index.values()].find(({ name }) => name === idOrName);
      if (record !== undefined) return pool.volumeOf(area, record, rootOf(pool));
    }
  }
  // Says why: unknown, of another node, unreadable, or in a pool that is away.
  return domain.pools.getVolume(idOrName);
}

/** A pool that is not served is known by its configured path only. */
function rootOf(pool: Pool): string {
  return pool.isServed ? pool.root : pool.settings.path;
}

function poolsOf(domain: Domain, name: string): readonly Pool[] {
  if (name === '') return domain.pools.all;
  const pool = domain.pools.all.find((one) => one.name === name);
  if (pool !== undefined) return [pool];
  throw new VolumeError('invalid', `there is no pool '${name}' on this node`);
}

async function beginLook(domain: Domain, ask: AskPool): Promise<Look> {
  const [devices, mounts] = await Promise.all([
    domain.host.loops.list(),
    domain.host.mounts.list(),
  ]);
  return { devices, mounts, ask };
}

/** What the kernel says of one volume. */
type Seen = Pick<VolumeFacts, 'allocatedBytes' | 'stagedAt' | 'publishedAt' | 'device'>;

const nothingSeen: Seen = { allocatedBytes: 0n, stagedAt: [], publishedAt: [], device: undefined };

const silentReasons = ['Stuck', 'PoolNotAnswering', 'ImageUnreadable'];

async function factsOf(domain: Domain, volume: FoundVolume, look: Look): Promise<VolumeFacts> {
  const { record, pool, area, imagePath } = volume;
  const known = { record, pool: pool.name, isEphemeral: area === 'ephemeral', imagePath };
  const conditions = await conditionsOf(domain, volume, look.ask);
  // A hung volume must not hang the list: its condition says so, and nothing else is asked of it, nor of one that cannot be read.
  const isSilent = conditions.some(({ reason }) => silentReasons.includes(reason));
  if (!pool.isServed || isSilent) return { ...known, conditions, ...nothingSeen };
  try {
    const seen = await look.ask(pool, () =>
      domain.ownedBy(`look ${record.id}`, () => see(domain, volume, look)),
    );
    return { ...known, conditions, ...seen };
  } catch (error) {
    if (!isUnavailable(error)) throw error;
    return { ...known, conditions: [...conditions, notAnswering(error)], ...nothingSeen };
  }
}

async function see(domain: Domain, volume: FoundVolume, look: Look): Promise<Seen> {
  const { pool, imagePath } = volume;
  const image = await domain.host.files.imageStatus(imagePath).catch(() => undefined);
  if (image === undefined) return nothingSeen;
  const devices = look.devices.filter(
    ({ backing }) => backing.device === image.device && backing.inode === image.inode,
  );
  const present = await attachmentOfDevices(domain, devices, { image, volume, table: look.mounts });
  // A node whose device was lost is there until somebody unpublishes it.
  const targets = [...present.mounts, ...present.lost]
    .map(({ target }) => target)
    .filter((target) => !target.startsWith(`${pool.pathOf('tmp')}/`));
  return {
    allocatedBytes: image.allocatedBytes,
    device: present.readWrite,
    ...(await placesOf(domain, volume, [...new Set(targets)])),
  };
}

/** Which of the mounts is the staging path is what was asked; that they are there is the kernel's word. */
async function placesOf(
  domain: Domain,
  volume: FoundVolume,
  targets: readonly string[],
): Promise<Pick<VolumeFacts, 'stagedAt' | 'publishedAt'>> {
  if (targets.length === 0) return { stagedAt: [], publishedAt: [] };
  const path = (await readNodeState(domain, volume)).staged?.stagingTargetPath;
  const isStaging = (target: string): boolean =>
    path !== undefined && (target === path || target === join(path, stagedNodeName));
  return {
    stagedAt: path !== undefined && targets.some(isStaging) ? [path] : [],
    publishedAt: targets.filter((target) => !isStaging(target)).sort(),
  };
}

/** Snapshots of one volume, one pool or all, ascending by id. */
export async function listSnapshotFacts(
  domain: Domain,
  page: PageOfPool & { readonly sourceVolumeId: string },
): Promise<Page<SnapshotFacts>> {
  const all = poolsOf(domain, page.pool)
    .flatMap((pool) => [...pool.snapshots.values()].map((record) => ({ pool, record })))
    .filter(
      ({ record }) => page.sourceVolumeId === '' || record.sourceVolumeId === page.sourceVolumeId,
    );
  all.sort((a, b) => (a.record.id < b.record.id ? -1 : 1));
  const { entries, nextToken } = pageOf(all, { ...page, idOf: ({ record }) => record.id });
  const ask = askingPools();
  return {
    entries: await Promise.all(entries.map((one) => snapshotFactsOf(domain, one, ask))),
    nextToken,
  };
}

/** By id or by name. Throws `not-found`, or `unavailable` while a pool that may hold it is away. */
export async function getSnapshotFacts(domain: Domain, idOrName: string): Promise<SnapshotFacts> {
  for (const pool of domain.pools.all) {
    for (const record of pool.snapshots.values()) {
      if (record.id === idOrName || record.name === idOrName) {
        return snapshotFactsOf(domain, { pool, record });
      }
    }
  }
  return snapshotFactsOf(domain, domain.pools.getSnapshot(idOrName));
}

async function snapshotFactsOf(
  domain: Domain,
  { pool, record }: { pool: Pool; record: SnapshotRecord },
  ask: AskPool = askingPools(),
): Promise<SnapshotFacts> {
  const progress = domain.copies.progressOf(record);
  if (!pool.isServed) return { record, pool: pool.name, allocatedBytes: 0n, progress };
  const file = record.state === 'ready' ? imageFile : entryFiles.partialImage;
  const look = (): Promise<ImageStatus> =>
    domain.host.files.imageStatus(pool.pathOf('snapshots', record.id, file));
  const status = await ask(pool, () => domain.ownedBy(`look ${record.id}`, look)).catch(
    () => undefined,
  );
  return { record, pool: pool.name, allocatedBytes: status?.allocatedBytes ?? 0n, progress };
}
