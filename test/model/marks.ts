import { open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hasErrno } from '../../src/host/errors.ts';
import { driverLane } from '../../src/host/lane.ts';
import { resolveParents } from '../../src/host/mount/mountinfo.ts';
import type { FakeKernel } from '../helpers/fake-kernel.ts';

/** Each volume's content has a unique mark, so that a path that shows another volume is recognized. */
export interface Marks {
  /** Writes a mark through a staged or published path and syncs it. */
  write(path: string, shows: 'filesystem' | 'node', mark: string): Promise<void>;
  /** The mark that a path shows; empty if none was written or if a device node has no device any more. */
  read(path: string, shows: 'filesystem' | 'node'): Promise<string>;
  /** Writes a mark into an image of other software. */
  writeForeign(imagePath: string, mark: string): Promise<void>;
}

const markBytes = 64;
/** After every superblock, including the fake's. */
const markOffset = 1024 * 1024;

async function writeAt(path: string, mark: string): Promise<void> {
  const handle = await open(path, 'r+');
  try {
    const bytes = Buffer.alloc(markBytes);
    bytes.write(mark);
    await handle.write(bytes, 0, markBytes, markOffset);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function readAt(path: string): Promise<string> {
  const handle = await open(path, 'r');
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(markBytes), {
      position: markOffset,
    });
    return buffer.subarray(0, bytesRead).toString().replace(/\0+$/, '');
  } finally {
    await handle.close();
  }
}

/** Marks on real mounts and devices. */
export const realMarks: Marks = {
  write: async (path, shows, mark) => {
    if (shows === 'node') await writeAt(path, mark);
    else await writeFile(join(path, 'mark'), mark, { flush: true });
  },
  read: async (path, shows) => {
    try {
      return shows === 'node' ? await readAt(path) : await readFile(join(path, 'mark'), 'utf8');
    } catch (error) {
      const isNothing = shows === 'node' ? hasErrno(error, 'ENXIO') : hasErrno(error, 'ENOENT');
      if (isNothing) return '';
      throw error;
    }
  },
  writeForeign: writeAt,
};

/** Marks on a node in memory, written to the image behind the path. */
export function fakeMarks(kernel: FakeKernel): Marks {
  const imageAt = async (path: string): Promise<string | undefined> => {
    const device = kernel.deviceShownAt((await resolveParents(driverLane, path)) ?? path);
    return device === undefined ? undefined : `/proc/self/fd/${device.imageFd}`;
  };
  return {
    write: async (path, _shows, mark) => {
      const image = await imageAt(path);
      if (image === undefined) throw new Error(`${path} shows no device`);
      await writeAt(image, mark);
    },
    read: async (path) => {
      const image = await imageAt(path);
      return image === undefined ? '' : readAt(image);
    },
    writeForeign: writeAt,
  };
}
