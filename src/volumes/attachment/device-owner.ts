import { join } from 'node:path';
import type { LoopDevice } from '../../host/host.ts';
import { isOnImage } from '../../host/loop/status.ts';
import { foundName } from '../../ids.ts';
import type { Domain } from '../domain.ts';
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

/** The volume of a served pool that the device is attached to. The path finds the candidate; the image's inode decides. */
export async function volumeAttachedTo(
  domain: Domain,
  device: LoopDevice,
): Promise<FoundVolume | undefined> {
  const path = await domain.host.loops.backingPath(device);
  const found = path === undefined ? undefined : poolEntryAt(domain.pools.all, path);
  const area = volumeAreas.find((one) => one === found?.area);
  if (found === undefined || area === undefined) return undefined;
  for (const pool of domain.pools.served) {
    const record = pool.indexOf(area).get(foundName(found.entry));
    if (record === undefined) continue;
    const volume = pool.volumeOf(area, record);
    if (await isAttachedTo(domain, device, volume)) return volume;
  }
  return undefined;
}

export async function isAttachedTo(
  domain: Domain,
  device: LoopDevice,
  { imagePath }: Pick<FoundVolume, 'imagePath'>,
): Promise<boolean> {
  const image = await domain.host.files.imageStatus(imagePath).catch(() => undefined);
  return isOnImage(device, image);
}
