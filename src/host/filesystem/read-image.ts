import { imageStatus } from '../files/image-status.ts';
import { fsCall, openFlags, withOpen } from '../kernel/descriptor.ts';
import type { Lane } from '../lane.ts';

/**
 * Reads `length` bytes of a file or device at `offset`, or fewer at its end. Never writes. A failure is a KernelError.
 */
export function readImage(
  lane: Lane,
  path: string,
  offset: number,
  length: number,
): Promise<Buffer> {
  return withOpen(lane, path, openFlags.read, async (handle) => {
    const buffer = Buffer.alloc(length);
    const { bytesRead } = await fsCall(lane, 'read', path, () =>
      handle.read(buffer, 0, length, offset),
    );
    return buffer.subarray(0, bytesRead);
  });
}

/** The size of an image in bytes. Throws KernelError ENOENT. */
export async function readImageSize(lane: Lane, path: string): Promise<bigint> {
  return (await imageStatus(lane, path)).sizeBytes;
}
