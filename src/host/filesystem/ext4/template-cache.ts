import { randomUUID } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { CommandError } from '../../errors.ts';
import { makeExtents } from '../../files/extents.ts';
import { fsCall, openFlags, withOpen } from '../../kernel/descriptor.ts';
import type { Lane } from '../../lane.ts';
import { ext4SuperblockBytes, ext4SuperblockOffset, parseExt4Superblock } from './superblock.ts';
import { type ByteRun, type Ext4Template, instantiate, makeTemplate } from './template.ts';

/** Maximum size of a template. For images above about 500 GiB mkfs writes more than this, so it always runs. */
const maxTemplateBytes = 8 * 1024 * 1024;
const maxTotalBytes = 16 * 1024 * 1024;
/** Age after which a template is discarded, since another version of mkfs may have been installed. */
const maxAgeMs = 10 * 60_000;
/**
 * Two runs separated by at most this many blocks of zeroes are joined: writing the zeroes is cheaper than another call.
 */
const maxGapBlocks = 8;
const blockBytes = 4096;
const readBytes = 1024 * 1024;
/**
 * Maximum amount of data read from an image. If the pool's filesystem does not support SEEK_HOLE, the whole image
 * counts as data, and reading it would cost more than many runs of mkfs.
 */
const maxDataBytes = 64n * 1024n * 1024n;

/** Templates in memory, by template key. The least recently used is discarded first. */
export class Ext4Templates {
  readonly #templates = new Map<
    string,
    { readonly template: Ext4Template; readonly atMs: number }
  >();

  find(key: string): Ext4Template | undefined {
    const found = this.#templates.get(key);
    if (found === undefined) return undefined;
    this.#templates.delete(key);
    if (performance.now() - found.atMs > maxAgeMs) return undefined;
    this.#templates.set(key, found);
    return found.template;
  }

  /**
   * Stores the filesystem that mkfs has just created as a template, if it is small enough and its structure is known.
   * The image must not have been changed since.
   */
  async store(lane: Lane, key: string, imagePath: string, uuid: string): Promise<void> {
    const runs = await readByteRuns(lane, imagePath);
    const template = runs === undefined ? undefined : makeTemplate(runs, uuid);
    if (template === undefined) return;
    this.#templates.delete(key);
    this.#templates.set(key, { template, atMs: performance.now() });
    let bytes = 0;
    for (const [other, { template }] of [...this.#templates].reverse()) {
      bytes += bytesOf(template.runs);
      if (bytes > maxTotalBytes) this.#templates.delete(other);
    }
  }
}

function bytesOf(runs: readonly ByteRun[]): number {
  return runs.reduce((sum, { bytes }) => sum + bytes.length, 0);
}

/** Reads all blocks of the image that are not zero; undefined if there are too many. */
async function readByteRuns(
  lane: Lane,
  imagePath: string,
): Promise<readonly ByteRun[] | undefined> {
  const blocks: ByteRun[] = [];
  const chunk = Buffer.allocUnsafe(readBytes);
  const zeroes = Buffer.alloc(blockBytes);
  let sum = 0n;
  const isFilled = await withOpen(lane, imagePath, openFlags.read, async (handle) => {
    for await (const { offset, length } of makeExtents(lane).data(imagePath)) {
      sum += length;
      if (sum > maxDataBytes) return false;
      const end = Number(offset + length);
      for (let at = Number(offset) - (Number(offset) % blockBytes); at < end; at += readBytes) {
        const size = Math.min(readBytes, end - at);
        const read = await fsCall(lane, 'read', imagePath, () => handle.read(chunk, 0, size, at));
        for (let from = 0; from < read.bytesRead; from += blockBytes) {
          const bytes = chunk.subarray(from, Math.min(from + blockBytes, read.bytesRead));
          if (bytes.equals(zeroes.subarray(0, bytes.length))) continue;
          blocks.push({ at: at + from, bytes: Buffer.from(bytes) });
        }
        if (blocks.length * blockBytes > maxTemplateBytes) return false;
      }
    }
    return true;
  });
  return isFilled ? joinNearby(blocks) : undefined;
}

function joinNearby(blocks: readonly ByteRun[]): readonly ByteRun[] {
  const groups: ByteRun[][] = [];
  for (const block of blocks) {
    const group = groups.at(-1);
    const last = group?.at(-1);
    const gap = last === undefined ? Number.POSITIVE_INFINITY : block.at - last.at - blockBytes;
    if (group !== undefined && gap <= maxGapBlocks * blockBytes) group.push(block);
    else groups.push([block]);
  }
  return groups.map((group) => {
    const at = group[0]?.at ?? 0;
    const last = group.at(-1);
    const bytes = Buffer.alloc((last?.at ?? 0) + (last?.bytes.length ?? 0) - at);
    for (const block of group) block.bytes.copy(bytes, block.at - at);
    return { at, bytes };
  });
}

/**
 * Writes the filesystem into a new image that reads as zeroes, and reads its superblock back to verify it. Does not
 * fsync.
 */
export async function writeTemplate(
  lane: Lane,
  imagePath: string,
  template: Ext4Template,
  uuid: string,
): Promise<void> {
  const identity = { uuid, hashSeed: randomUUID(), atMs: Date.now() };
  await withOpen(lane, imagePath, openFlags.readWrite, async (handle) => {
    for (const { at, parts } of instantiate(template, identity)) {
      await writeAll(lane, handle, imagePath, { at, parts });
    }
    const bytes = Buffer.alloc(ext4SuperblockBytes);
    await fsCall(lane, 'read', imagePath, () =>
      handle.read(bytes, 0, bytes.length, ext4SuperblockOffset),
    );
    if (parseExt4Superblock(bytes)?.uuid === uuid) return;
    const message = `the ext4 written into ${imagePath} cannot be read back`;
    throw new CommandError('mkfs.ext4', { message });
  });
}

/** Writes all parts with pwritev(2). After a short write it writes the rest, and that call then returns the error. */
async function writeAll(
  lane: Lane,
  handle: FileHandle,
  path: string,
  { at, parts }: { at: number; parts: readonly Buffer[] },
): Promise<void> {
  const total = parts.reduce((sum, part) => sum + part.length, 0);
  const writev = (left: readonly Buffer[], from: number) =>
    fsCall(lane, 'write', path, () => handle.writev(left, from));
  const { bytesWritten } = await writev(parts, at);
  for (let done = bytesWritten; done < total; ) {
    const rest = Buffer.concat(parts).subarray(done);
    done += (await writev([rest], at + done)).bytesWritten;
  }
}
