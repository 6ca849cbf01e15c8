import type { FsType, Host, Superblock } from '../../host/host.ts';
import { fsTypes } from '../../host/host.ts';

/** The valid superblocks in an image of unknown content: none for a disk with partitions, normally one. Never writes. */
export async function superblocksIn(
  { filesystems }: Pick<Host, 'filesystems'>,
  imagePath: string,
): Promise<readonly Superblock[]> {
  const found: Superblock[] = [];
  for (const fsType of fsTypes) {
    const superblock = await filesystems[fsType].readSuperblock(imagePath);
    if (superblock !== undefined) found.push(superblock);
  }
  return found;
}

/**
 * The filesystem in the image of a raw block volume; null if there is none, and if there are superblocks of several, of which the
 * image does not tell which one is in use.
 */
export async function filesystemIn(
  host: Pick<Host, 'filesystems'>,
  imagePath: string,
): Promise<FsType | null> {
  const [found, ...others] = await superblocksIn(host, imagePath);
  return found !== undefined && others.length === 0 ? found.fsType : null;
}
