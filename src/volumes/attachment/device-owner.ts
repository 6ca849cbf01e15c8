import type { LoopDevice } from '../../host/host.ts';
import type { Domain } from '../domain.ts';
import { volumeAreas } from '../pool/layout.ts';
import type { FoundVolume } from '../pool/pool.ts';

/** Which entry of our pools a loop device is attached to, by the path of its image as the kernel tells it. */
export interface EntryOfPool {
  readonly area: string;
  readonly entry: string;
}

export function entryOf(domain: Domain, path: string): EntryOfPool | undefined {
  for (const pool of domain.pools.all) {
    // A pool that is not served is known by its configured path; both are followed through symlinks by the kernel.
    for (const root of [pool.settings.path, ...(pool.isServed ? [pool.root] : [])]) {
      if (!path.startsWith(`${root}/`)) continue;
      const [area = '', entry = ''] = path.slice(root.length + 1).split('/');
      return { area, entry };
    }
  }
  return undefined;
}

/** Length of what the trash appends to an id: a dot and a UUID. */
const trashSuffixLength = 37;

/** Whether the entry is that volume's; undefined in an area whose entries have other names. */
export function isEntryOf({ area, entry }: EntryOfPool, id: string): boolean | undefined {
  if (area === 'volumes' || area === 'ephemeral') return entry === id;
  if (area === 'trash') return entry.slice(0, -trashSuffixLength) === id;
  return undefined;
}

/** The volume of a served pool that the device is attached to. Its path is only where to look: the image itself decides. */
export async function volumeAttachedTo(
  domain: Domain,
  device: LoopDevice,
): Promise<FoundVolume | undefined> {
  const path = await domain.host.loops.backingPath(device);
  const place = path === undefined ? undefined : entryOf(domain, path);
  const area = volumeAreas.find((one) => one === place?.area);
  if (place === undefined || area === undefined) return undefined;
  for (const pool of domain.pools.served) {
    const record = pool.indexOf(area).get(place.entry);
    if (record === undefined) continue;
    const volume = pool.volumeOf(area, record);
    if (await isAttachedTo(domain, device, volume)) return volume;
  }
  return undefined;
}

export async function isAttachedTo(
  domain: Domain,
  { backing }: LoopDevice,
  { imagePath }: Pick<FoundVolume, 'imagePath'>,
): Promise<boolean> {
  const image = await domain.host.files.imageStatus(imagePath).catch(() => undefined);
  return image?.device === backing.device && image.inode === backing.inode;
}
