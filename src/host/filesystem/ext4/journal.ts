import { fsCall, fsync, openFlags, withOpen } from '../../kernel/descriptor.ts';
import type { Lane } from '../../lane.ts';
import { lockImage } from '../../programs/image-lock.ts';
import { readImage } from '../read-image.ts';
import {
  type Ext4Superblock,
  ext4SuperblockBytes,
  ext4SuperblockOffset,
  journalHasData,
  parseExt4Superblock,
  withReplayFlag,
} from './superblock.ts';

/** Reads the start of the journal's superblock; empty if there is no internal journal. */
export async function readJournal(
  lane: Lane,
  imagePath: string,
  { journalBlock, blockBytes }: Ext4Superblock,
): Promise<Buffer> {
  if (journalBlock === undefined) return Buffer.alloc(0);
  return readImage(lane, imagePath, Number(journalBlock) * blockBytes, 36);
}

/**
 * Makes the next e2fsck replay a journal that has data although the superblock does not ask for a replay. Unmounting
 * while the underlying disk fails leaves that state (Linux 6.1, docs/operations.md). `e2fsck -p` leaves the decision to
 * an operator, and mounting would discard the journal along with synced data. The replay is correct, since nothing was
 * written after those transactions. Throws ImageInUseError. Returns a function that undoes the change; undefined if
 * nothing was changed.
 */
export async function requestReplay(
  lane: Lane,
  imagePath: string,
): Promise<(() => Promise<void>) | undefined> {
  const before = await readImage(lane, imagePath, ext4SuperblockOffset, ext4SuperblockBytes);
  const superblock = parseExt4Superblock(before);
  if (superblock === undefined) return undefined;
  if (!journalHasData(await readJournal(lane, imagePath, superblock))) return undefined;
  const after = withReplayFlag(before);
  if (after === undefined) return undefined;
  const write = async (bytes: Buffer): Promise<void> => {
    const lock = await lockImage(lane, imagePath);
    try {
      await withOpen(lane, imagePath, openFlags.readWrite, async (image) => {
        await fsCall(lane, 'write', imagePath, () =>
          image.write(bytes, 0, bytes.length, ext4SuperblockOffset),
        );
        await fsync(lane, image, imagePath);
      });
    } finally {
      await lock.release();
    }
  };
  await write(after);
  return () => write(before);
}
