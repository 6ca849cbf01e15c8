import { join } from 'node:path';
import type { LoopDevice } from '../../host/host.ts';
import { isOnImage } from '../../host/loop/status.ts';
import { foundName } from '../../ids.ts';
import type { Domain } from '../domain.ts';
import type { LaneSpec } from '../engine/lanes.ts';
import { callIdOf } from '../pool/contents.ts';
import { parseTrashName, poolFiles, volumeAreas } from '../pool/layout.ts';
import type { FoundVolume, Pool } from '../pool/pool.ts';

/** The entry of one of our pools to which a loop device is attached, according to the image path that the kernel reports. */
interface EntryOfPool {
  readonly area: string;
  readonly entry: string;
}

type PoolPaths = Pick<Pool, 'settings' | 'isServed' | 'root'>;

export function poolEntryAt(pools: readonly PoolPaths[], path: string): EntryOfPool | undefined {
  for (const pool of pools) {
    for (const root of rootsOf(pool)) {
      if (!path.startsWith(`${root}/`)) continue;
      const [area = '', entry = ''] = path.slice(root.length + 1).split('/');
      return { area, entry };
    }
  }
  return undefined;
}

/**
 * The real path of a pool that is not served is unknown, so its configured path is compared. An embedded pool is below that path,
 * in its mounted image.
 */
function rootsOf(pool: PoolPaths): readonly string[] {
  const { path } = pool.settings;
  return [...(pool.isServed ? [pool.root] : []), join(path, poolFiles.embeddedMount), path];
}

/** Whether the entry belongs to that volume; undefined in an area whose entries have other names. */
export function isEntryOf({ area, entry }: EntryOfPool, id: string): boolean | undefined {
  if (area === 'volumes' || area === 'ephemeral') return entry === id;
  if (area === 'trash') return parseTrashName(entry) === id;
  return undefined;
}

/**
 * The volumes of served pools whose image is where the kernel reports that of the device. Waits for no disk; `isAttachedTo` decides
 * whether it is the same image.
 */
export async function volumesAtPathOf(
  domain: Domain,
  device: LoopDevice,
): Promise<readonly FoundVolume[]> {
  const path = await domain.host.loops.backingPath(device);
  const found = path === undefined ? undefined : poolEntryAt(domain.pools.all, path);
  const area = volumeAreas.find((one) => one === found?.area);
  if (found === undefined || area === undefined) return [];
  const volumes: FoundVolume[] = [];
  for (const pool of domain.pools.served) {
    const record = pool.indexOf(area).get(foundName(found.entry));
    if (record === undefined) continue;
    volumes.push(pool.volumeOf(area, record));
  }
  return volumes;
}

/**
 * The volume of a served pool that the device is attached to. `domainOf` chooses the lane for the image of a volume; by default it
 * is that of `domain`.
 */
export async function volumeAttachedTo(
  domain: Domain,
  device: LoopDevice,
  domainOf: (volume: FoundVolume) => Domain = () => domain,
): Promise<FoundVolume | undefined> {
  for (const volume of await volumesAtPathOf(domain, device)) {
    if (await isAttachedTo(domainOf(volume), device, volume)) return volume;
  }
  return undefined;
}

/** The lane of a periodic check for the device of a volume: a pool that does not answer delays no check of another one. */
export function deviceLaneOf(volume: FoundVolume): LaneSpec {
  return { kind: 'device', id: callIdOf(volume), pool: volume.pool.name };
}

export async function isAttachedTo(
  domain: Domain,
  device: LoopDevice,
  { imagePath }: Pick<FoundVolume, 'imagePath'>,
): Promise<boolean> {
  const image = await domain.host.files.imageStatus(imagePath).catch(() => undefined);
  return isOnImage(device, image);
}
