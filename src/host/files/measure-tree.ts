import { KiB, roundUp } from '../../units.ts';
import { KernelError } from '../errors.ts';
import type { TreeSize } from '../host.ts';
import type { Lane } from '../lane.ts';
import { statusOf, walkTree } from './walk-tree.ts';

const statBlockBytes = 512n;
/** The block size of new filesystems. */
const blockBytes = 4n * KiB;

/** Implements `Trees.measure`. */
export async function measureTree(
  lane: Lane,
  path: string,
  signal: AbortSignal,
): Promise<TreeSize> {
  const root = Buffer.from(path);
  const { dev } = await statusOf(lane, root);
  const linked = new Set<bigint>();
  let dataBytes = 0n;
  let entries = 1n;
  for await (const { path: found, stats } of walkTree(lane, root, signal)) {
    if (stats.dev !== dev) throw new KernelError('copy', 'EXDEV', found.toString());
    if (stats.nlink > 1n && !stats.isDirectory()) {
      if (linked.has(stats.ino)) continue;
      linked.add(stats.ino);
    }
    entries += 1n;
    dataBytes += roundUp(storedBytes(stats), blockBytes);
  }
  return { dataBytes, entries };
}

/** A file with far fewer blocks than bytes has holes, which the copy keeps. With slightly fewer, it may be compressed. */
function storedBytes({ size, blocks }: { readonly size: bigint; readonly blocks: bigint }): bigint {
  const allocated = blocks * statBlockBytes;
  return allocated < size / 8n || allocated > size ? allocated : size;
}
