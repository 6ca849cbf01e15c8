import type { BigIntStats } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { open, readFile, readlink } from 'node:fs/promises';
import { MiB } from '../../units.ts';
import { hasErrno } from '../errors.ts';
import { readAttributes } from '../kernel/attributes.ts';
import { closeHandle, closeQuietly, fsCall, openFlags } from '../kernel/descriptor.ts';
import type { Lane } from '../lane.ts';
import { nextData } from './extents.ts';
import { joinBytes, listNames, statusOf, walkTree } from './walk-tree.ts';

const bufferBytes = Number(MiB);

/**
 * Attributes that the kernel or its policy sets for each filesystem, so that a copy may have others. XFS also shows its ACLs as
 * trusted.SGI_ACL_*.
 */
const ownAttributes = /^(?:security\.selinux|btrfs\.|trusted\.SGI_ACL_|system\.(?!posix_acl_))/;

interface Pair {
  readonly from: Buffer;
  readonly to: Buffer;
  readonly stats: BigIntStats;
}

/**
 * Compares a directory with its copy: names, kinds, owners, modes, modification times, extended attributes, hard links, device
 * numbers, targets of symlinks, and contents. Returns the first difference, or undefined.
 */
export async function findTreeDifference(
  lane: Lane,
  from: string,
  to: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  const comparison = new TreeComparison(lane, { root: from, copyRoot: to, signal });
  const root = Buffer.from(from);
  const stats = await statusOf(lane, root);
  const ofRoot = await comparison.find({ from: root, to: Buffer.from(to), stats });
  if (ofRoot !== undefined) return ofRoot;
  for await (const entry of walkTree(lane, root, signal)) {
    const copy = Buffer.concat([Buffer.from(to), entry.path.subarray(root.length)]);
    const found = await comparison.find({ from: entry.path, to: copy, stats: entry.stats });
    if (found !== undefined) return found;
  }
  return undefined;
}

class TreeComparison {
  readonly #lane: Lane;
  readonly #root: string;
  readonly #copyRoot: string;
  readonly #signal: AbortSignal;
  /** The inode of the copy, by device and inode of the original, for files with several names. */
  readonly #links = new Map<string, bigint>();

  constructor(
    lane: Lane,
    { root, copyRoot, signal }: { root: string; copyRoot: string; signal: AbortSignal },
  ) {
    this.#lane = lane;
    this.#root = root;
    this.#copyRoot = copyRoot;
    this.#signal = signal;
  }

  async find(pair: Pair): Promise<string | undefined> {
    const text = await this.#difference(pair);
    return text === undefined ? undefined : `${pair.from.toString()}: ${text}`;
  }

  async #difference({ from, to, stats }: Pair): Promise<string | undefined> {
    const lane = this.#lane;
    let copy: BigIntStats;
    try {
      copy = await statusOf(lane, to);
    } catch (error) {
      if (hasErrno(error, 'ENOENT')) return 'it is missing in the copy';
      throw error;
    }
    const ofStatus = statusDifference(stats, copy) ?? this.#linkDifference(stats, copy);
    if (ofStatus !== undefined) return ofStatus;
    const ofAttributes = await attributeDifference(lane, from, to);
    if (ofAttributes !== undefined) return ofAttributes;
    if (stats.isSymbolicLink()) return linkTargetDifference(lane, from, to);
    if (stats.isDirectory()) return this.#nameDifference(from, to);
    if (stats.isFile() && !(await isContentEqual(lane, { from, to, stats }, this.#signal)))
      return 'its content differs';
    return undefined;
  }

  #linkDifference(stats: BigIntStats, copy: BigIntStats): string | undefined {
    if (stats.nlink === 1n || stats.isDirectory()) return undefined;
    const inode = `${stats.dev}:${stats.ino}`;
    const known = this.#links.get(inode);
    this.#links.set(inode, copy.ino);
    return known === undefined || known === copy.ino ? undefined : 'its hard links differ';
  }

  async #nameDifference(from: Buffer, to: Buffer): Promise<string | undefined> {
    const names = new Set((await listNames(this.#lane, from)).map((name) => name.toString('hex')));
    const isRoot = from.toString() === this.#root && to.toString() === this.#copyRoot;
    for (const name of await listNames(this.#lane, to)) {
      if (names.has(name.toString('hex'))) continue;
      // mkfs.ext4 makes this directory.
      if (isRoot && name.toString() === 'lost+found') continue;
      return `the copy also has ${joinBytes(from, name).toString()}`;
    }
    return undefined;
  }
}

function statusDifference(stats: BigIntStats, copy: BigIntStats): string | undefined {
  const compared: readonly (readonly [string, bigint, bigint])[] = [
    ['its type and mode', stats.mode, copy.mode],
    ['its owner', stats.uid, copy.uid],
    ['its group', stats.gid, copy.gid],
    ['its modification time in nanoseconds', stats.mtimeNs, copy.mtimeNs],
    ...(stats.isFile() ? [['its size', stats.size, copy.size] as const] : []),
    ...(stats.isBlockDevice() || stats.isCharacterDevice()
      ? [['its device number', stats.rdev, copy.rdev] as const]
      : []),
  ];
  const found = compared.find(([, expected, actual]) => expected !== actual);
  if (found === undefined) return undefined;
  const [what, expected, actual] = found;
  const radix = what === 'its type and mode' ? 8 : 10;
  return `${what}: ${expected.toString(radix)}, in the copy ${actual.toString(radix)}`;
}

async function attributeDifference(
  lane: Lane,
  from: Buffer,
  to: Buffer,
): Promise<string | undefined> {
  const [expected, actual] = await readAttributes(lane, from, to);
  for (const name of new Set([...expected.keys(), ...actual.keys()])) {
    if (ownAttributes.test(name)) continue;
    const value = expected.get(name);
    if (value === undefined || actual.get(name)?.equals(value) !== true) {
      return `its extended attribute ${name} differs`;
    }
  }
  return undefined;
}

async function linkTargetDifference(
  lane: Lane,
  from: Buffer,
  to: Buffer,
): Promise<string | undefined> {
  const targets = await fsCall(lane, 'readlink', from.toString(), () =>
    Promise.all([from, to].map((path) => readlink(path, { encoding: 'buffer' }))),
  );
  const [expected, actual] = targets;
  return expected !== undefined && actual?.equals(expected) === true
    ? undefined
    : 'its symlink points elsewhere in the copy';
}

/** Compares two files of the same size. Reads only ranges in which one of them has data. */
async function isContentEqual(
  lane: Lane,
  { from, to, stats }: Pair,
  signal: AbortSignal,
): Promise<boolean> {
  signal.throwIfAborted();
  if (stats.size <= bufferBytes) return isSmallFileEqual(lane, from, to);
  const paths = [from.toString(), to.toString()] as const;
  const source = await openForRead(lane, from);
  try {
    const copy = await openForRead(lane, to);
    try {
      return await isSameData(lane, [source, copy], { paths, signal });
    } finally {
      await closeHandle(lane, copy, paths[1]);
    }
  } finally {
    await closeHandle(lane, source, paths[0]);
  }
}

/** One step, since a directory may have millions of small files. */
function isSmallFileEqual(lane: Lane, from: Buffer, to: Buffer): Promise<boolean> {
  return fsCall(lane, 'read', from.toString(), async () => {
    const [expected, actual] = [await readFile(from), await readFile(to)];
    return actual.equals(expected);
  });
}

function openForRead(lane: Lane, path: Buffer): Promise<FileHandle> {
  const subject = path.toString();
  return fsCall(lane, 'open', subject, () => open(path, openFlags.read), {
    onLate: (handle) => void closeQuietly(lane, handle, subject),
  });
}

async function isSameData(
  lane: Lane,
  [a, b]: readonly [FileHandle, FileHandle],
  { paths, signal }: { paths: readonly [string, string]; signal: AbortSignal },
): Promise<boolean> {
  const [ofA, ofB] = [Buffer.alloc(bufferBytes), Buffer.alloc(bufferBytes)];
  let offset = 0n;
  for (;;) {
    signal.throwIfAborted();
    const starts = [
      await nextData(lane, a.fd, offset, paths[0]),
      await nextData(lane, b.fd, offset, paths[1]),
    ].filter((start) => start !== undefined);
    const start = starts.reduce<bigint | undefined>(
      (least, one) => (least === undefined || one < least ? one : least),
      undefined,
    );
    if (start === undefined) return true;
    const position = Number(start);
    const lengths = await fsCall(lane, 'read', paths[0], () =>
      Promise.all([a.read(ofA, 0, bufferBytes, position), b.read(ofB, 0, bufferBytes, position)]),
    );
    const [inA, inB] = lengths.map(({ bytesRead }) => bytesRead);
    if (inA !== inB || inA === undefined) return false;
    if (inA === 0) return true;
    if (ofA.compare(ofB, 0, inA, 0, inA) !== 0) return false;
    offset = start + BigInt(inA);
  }
}
