import type { FsType, Host, Superblock } from '../../host/host.ts';
import { fsTypes } from '../../host/host.ts';
import { KiB } from '../../units.ts';

/**
 * The valid superblocks in an image of unknown content: none for a disk with partitions or a member of an md array, whose superblock may be
 * left from before and must not grow into what belongs to others; normally one. Never writes.
 */
export async function superblocksIn(
  { filesystems, files }: Pick<Host, 'filesystems' | 'files'>,
  imagePath: string,
): Promise<readonly Superblock[]> {
  const { sizeBytes } = await files.imageStatus(imagePath);
  const read = (offset: bigint, length: number): Promise<Buffer> =>
    files.readRange(imagePath, { offset, length });
  if ((await hasPartitions(read)) || (await isArrayMember(read, sizeBytes))) return [];
  const found: Superblock[] = [];
  for (const fsType of fsTypes) {
    const superblock = await filesystems[fsType].readSuperblock(imagePath);
    if (superblock !== undefined) found.push(superblock);
  }
  return found;
}

type Read = (offset: bigint, length: number) => Promise<Buffer>;

/** Whether the image has a partition table: GPT of either sector size, or an MBR with an entry. */
async function hasPartitions(read: Read): Promise<boolean> {
  const start = await read(0n, 4096 + 8);
  if ([512, 4096].some((at) => start.toString('latin1', at, at + 8) === 'EFI PART')) return true;
  if (start.length < 512 || start.readUInt16LE(510) !== 0xaa55) return false;
  return [446, 462, 478, 494].some(
    (at) => start[at + 4] !== 0 && start.readUInt32LE(at + 12) !== 0,
  );
}

/** The magic number of md(4), at the end of members with metadata 0.90 and 1.0. The other versions are at the start. */
const mdMagic = 0xa92b4efc;

async function isArrayMember(read: Read, sizeBytes: bigint): Promise<boolean> {
  const places = [
    (sizeBytes / (64n * KiB)) * 64n * KiB - 64n * KiB,
    (sizeBytes / (4n * KiB)) * 4n * KiB - 8n * KiB,
  ];
  for (const place of places) {
    if (place < 0n) continue;
    const bytes = await read(place, 4);
    if (bytes.length === 4 && bytes.readUInt32LE(0) === mdMagic) return true;
  }
  return false;
}

/**
 * The filesystem in the image of a raw block volume; null if there is none, and if there are superblocks of several, of which the
 * image does not tell which one is in use.
 */
export async function filesystemIn(
  host: Pick<Host, 'filesystems' | 'files'>,
  imagePath: string,
): Promise<FsType | null> {
  const [found, ...others] = await superblocksIn(host, imagePath);
  return found !== undefined && others.length === 0 ? found.fsType : null;
}
