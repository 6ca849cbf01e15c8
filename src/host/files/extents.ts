import { hasErrno } from '../errors.ts';
import type { ByteRange, Extent, Extents } from '../host.ts';
import { constants, layouts } from '../kernel/abi.ts';
import { ioctlWithBuffer, seek } from '../kernel/calls.ts';
import { closeHandle, openFlags, openHandle, withOpen } from '../kernel/descriptor.ts';
import { imageTimeoutMs } from '../kernel/time-limits.ts';
import type { Lane } from '../lane.ts';
import { compareFiles } from './compare-blocks.ts';

/** Number of extents requested per call. The kernel takes about 2 µs for each. */
const batchExtents = 4000;
const wholeFile = 0xffff_ffff_ffff_ffffn;

/** Reads extent maps with FIEMAP and lseek(2). */
export function makeExtents(lane: Lane): Extents {
  return {
    map: (path, options) => map(lane, path, options),
    data: (path, options) => data(lane, path, options),
    count: (path) => count(lane, path),
    compare: (a, b, range) => compareFiles(lane, a, b, range),
    exclusiveBytes: (path) => exclusiveBytes(lane, path),
  };
}

async function* map(
  lane: Lane,
  path: string,
  options?: { from?: bigint },
): AsyncIterable<readonly Extent[]> {
  const handle = await openHandle(lane, path, openFlags.read);
  try {
    const buffer = Buffer.alloc(layouts.fiemap.size + batchExtents * layouts.fiemap_extent.size);
    let start = options?.from ?? 0n;
    for (;;) {
      await fiemap(lane, handle.fd, path, buffer, start, batchExtents);
      const extents = decodeExtents(buffer);
      if (extents.length > 0) yield extents;
      const last = extents.at(-1);
      if (last === undefined || (last.flags & constants.FIEMAP_EXTENT_LAST) !== 0) return;
      start = last.logical + last.length;
    }
  } finally {
    await closeHandle(lane, handle, path);
  }
}

/** FS_IOC_FIEMAP with FIEMAP_FLAG_SYNC. If `extentCount` is 0, the kernel only counts extents. */
async function fiemap(
  lane: Lane,
  fd: number,
  path: string,
  buffer: Buffer,
  start: bigint,
  extentCount: number,
): Promise<void> {
  const fields = layouts.fiemap.fields;
  buffer.fill(0, 0, layouts.fiemap.size);
  buffer.writeBigUInt64LE(start, fields.fm_start);
  buffer.writeBigUInt64LE(wholeFile - start, fields.fm_length);
  // Without SYNC, new data has no address yet, and rewritten shared blocks still have their old, shared address.
  buffer.writeUInt32LE(constants.FIEMAP_FLAG_SYNC, fields.fm_flags);
  buffer.writeUInt32LE(extentCount, fields.fm_extent_count);
  await ioctlWithBuffer(lane, fd, 'FS_IOC_FIEMAP', buffer, {
    subject: path,
    timeoutMs: imageTimeoutMs,
  });
}

function decodeExtents(buffer: Buffer): readonly Extent[] {
  const fields = layouts.fiemap_extent.fields;
  const mapped = buffer.readUInt32LE(layouts.fiemap.fields.fm_mapped_extents);
  return Array.from({ length: mapped }, (_, index) => {
    const base = layouts.fiemap.size + index * layouts.fiemap_extent.size;
    return {
      logical: buffer.readBigUInt64LE(base + fields.fe_logical),
      physical: buffer.readBigUInt64LE(base + fields.fe_physical),
      length: buffer.readBigUInt64LE(base + fields.fe_length),
      flags: buffer.readUInt32LE(base + fields.fe_flags),
    };
  });
}

async function* data(
  lane: Lane,
  path: string,
  options?: { from?: bigint },
): AsyncIterable<ByteRange> {
  const handle = await openHandle(lane, path, openFlags.read);
  try {
    let offset = await nextData(lane, handle.fd, options?.from ?? 0n, path);
    while (offset !== undefined) {
      const end = await seek(lane, handle.fd, offset, 'hole', path);
      yield { offset, length: end - offset };
      offset = await nextData(lane, handle.fd, end, path);
    }
  } finally {
    await closeHandle(lane, handle, path);
  }
}

/** The start of the first data at or after `offset`; undefined if only a hole follows. */
export async function nextData(
  lane: Lane,
  fd: number,
  offset: bigint,
  path: string,
): Promise<bigint | undefined> {
  try {
    return await seek(lane, fd, offset, 'data', path);
  } catch (error) {
    if (hasErrno(error, 'ENXIO')) return undefined;
    throw error;
  }
}

function count(lane: Lane, path: string): Promise<number> {
  return withOpen(lane, path, openFlags.read, async ({ fd }) => {
    const head = Buffer.alloc(layouts.fiemap.size);
    await fiemap(lane, fd, path, head, 0n, 0);
    return head.readUInt32LE(layouts.fiemap.fields.fm_mapped_extents);
  });
}

async function exclusiveBytes(lane: Lane, path: string): Promise<bigint> {
  let bytes = 0n;
  for await (const extents of map(lane, path)) {
    for (const { length, flags } of extents) {
      if ((flags & constants.FIEMAP_EXTENT_SHARED) === 0) bytes += length;
    }
  }
  return bytes;
}
