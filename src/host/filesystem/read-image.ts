import { imageStatus } from '../files/image-status.ts';
import { fsCall, openFlags, withOpen } from '../kernel/descriptor.ts';

/** Up to `length` bytes of a file or device from `offset`; fewer where it ends before. Never writes. KernelError. */
export function readImage(path: string, offset: number, length: number): Promise<Buffer> {
  return withOpen(path, openFlags.read, async (handle) => {
    const buffer = Buffer.alloc(length);
    const { bytesRead } = await fsCall('read', path, () => handle.read(buffer, 0, length, offset));
    return buffer.subarray(0, bytesRead);
  });
}

/** The size of an image. KernelError ENOENT when it is not there. */
export async function imageBytes(path: string): Promise<bigint> {
  return (await imageStatus(path)).sizeBytes;
}
