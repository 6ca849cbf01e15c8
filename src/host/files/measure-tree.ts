import { createHash } from 'node:crypto';
import type { BigIntStats } from 'node:fs';
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
  const ofRoot = await statusOf(lane, root);
  const { dev } = ofRoot;
  const hash = createHash('sha256').update(changeText(ofRoot));
  const linked = new Set<string>();
  let dataBytes = 0n;
  let entries = 1n;
  for await (const { path: found, stats } of walkTree(lane, root, signal)) {
    // On an overlay only directories have its device number; other files have that of their layer.
    if (stats.isDirectory() && stats.dev !== dev)
      throw new KernelError('copy', 'EXDEV', found.toString());
    hash.update(found.subarray(root.length)).update(changeText(stats));
    if (stats.nlink > 1n && !stats.isDirectory()) {
      const inode = `${stats.dev}:${stats.ino}`;
      if (linked.has(inode)) continue;
      linked.add(inode);
    }
    entries += 1n;
    dataBytes += roundUp(storedBytes(stats), blockBytes);
  }
  return { dataBytes, entries, fingerprint: hash.digest('hex') };
}

/** What changes with an entry. The kernel sets ctime at every change, but clocks may go back. */
function changeText({ mode, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return `\0${mode}:${size}:${mtimeNs}:${ctimeNs}\n`;
}

/** A file with far fewer blocks than bytes has holes, which the copy keeps. With slightly fewer, it may be compressed. */
function storedBytes({ size, blocks }: { readonly size: bigint; readonly blocks: bigint }): bigint {
  const allocated = blocks * statBlockBytes;
  return allocated < size / 8n || allocated > size ? allocated : size;
}
