/** Files of a snapshot that is being copied. */
import type { Files } from '../../host/host.ts';
import type { FoundVolume } from '../pools/pools.ts';

/** Its image; the rename to `disk.img` is the commit of the copy. */
export const partName = 'disk.img.part';
/** How much of the part is done and on the disk, for a copy that goes on after a restart. */
export const progressName = 'copy.json';

/** st_mtime of the source's image in nanoseconds: moves with every write, through a loop device too. */
export async function modifiedNs(files: Files, source: FoundVolume): Promise<string> {
  return (await files.status(source.imagePath)).modifiedNs.toString();
}
