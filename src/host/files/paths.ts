import { constants as fsConstants } from 'node:fs';
import {
  access,
  chmod,
  mkdir,
  open,
  opendir,
  readdir,
  readFile,
  rmdir,
  statfs,
  unlink,
  writeFile,
} from 'node:fs/promises';
import { hasErrno } from '../errors.ts';
import type { PathKind, PathStatus, Paths } from '../host.ts';
import { layouts } from '../kernel/abi.ts';
import { fsCall, fsCallForEach, makeDeviceNumber, toKernelError } from '../kernel/descriptor.ts';
import { statPath } from '../kernel/statx.ts';
import { imageTimeoutMs } from '../kernel/time-limits.ts';
import type { Lane } from '../lane.ts';
import { isMountRoot, removeTree } from './remove-tree.ts';
import { replaceFile } from './replace-file.ts';

/** Operates on paths with node:fs. Each operation passes the gate once, however many calls it makes. */
export function makePaths(lane: Lane): Paths {
  return {
    exists: (path) => exists(lane, path),
    status: (path) => status(lane, path),
    list: (path) => fsCall(lane, 'readdir', path, () => readdir(path)),
    listWithKinds: (path) => fsCall(lane, 'readdir', path, () => listWithKinds(path)),
    isEmptyDirectory: (path) => fsCall(lane, 'readdir', path, () => isEmptyDirectory(path)),
    readText: (path) => fsCall(lane, 'read', path, () => readFile(path, 'utf8')),
    readTexts: (files) => readTexts(lane, files),
    writeNew: (path, text) =>
      fsCall(lane, 'write', path, () => writeFile(path, text, { flag: 'wx', mode: 0o600 })),
    replaceFile: (path, text, options = {}) =>
      fsCall(lane, 'replace', path, () => replaceFile(path, text, options), {
        timeoutMs: options.durable === false ? undefined : imageTimeoutMs,
      }),
    overwrite: (path, text) => fsCall(lane, 'write', path, () => overwrite(path, text)),
    makeDirectory: async (path) => {
      await fsCall(lane, 'mkdir', path, () => mkdir(path, { recursive: true, mode: 0o700 }));
    },
    makeNewDirectory: (path) => fsCall(lane, 'mkdir', path, () => mkdir(path, { mode: 0o700 })),
    makeReadOnly: (path) => fsCall(lane, 'chmod', path, () => chmod(path, 0o400)),
    removeFile: (...files) => removeFile(lane, ...files),
    removeDirectory: (path) => fsCall(lane, 'rmdir', path, () => rmdir(path)),
    removeTree: (path) => removeTree(lane, path),
    filesystemMagic: async (path) =>
      (await fsCall(lane, 'statfs', path, () => statfs(path, { bigint: true }))).type,
    requireReadWrite: (path) =>
      fsCall(lane, 'access', path, () => access(path, fsConstants.R_OK | fsConstants.W_OK)),
  };
}

async function exists(lane: Lane, path: string): Promise<boolean> {
  try {
    await statPath(lane, path);
    return true;
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return false;
    throw error;
  }
}

async function status(lane: Lane, path: string): Promise<PathStatus> {
  const found = await statPath(lane, path);
  const fields = layouts.statx.fields;
  const seconds = found.readBigInt64LE(fields.stx_mtime);
  return {
    kind: kindOf(found.readUInt16LE(fields.stx_mode)),
    device: makeDeviceNumber(
      found.readUInt32LE(fields.stx_dev_major),
      found.readUInt32LE(fields.stx_dev_minor),
    ),
    inode: found.readBigUInt64LE(fields.stx_ino),
    sizeBytes: found.readBigUInt64LE(fields.stx_size),
    modifiedNs: seconds * 1_000_000_000n + BigInt(found.readUInt32LE(fields.stx_mtime + 8)),
    isMountPoint: isMountRoot(found),
  };
}

function kindOf(mode: number): PathKind {
  const { S_IFMT, S_IFREG, S_IFDIR, S_IFLNK, S_IFCHR } = fsConstants;
  const kinds = new Map<number, PathKind>([
    [S_IFREG, 'file'],
    [S_IFDIR, 'directory'],
    [S_IFLNK, 'symlink'],
    [S_IFCHR, 'character-device'],
  ]);
  return kinds.get(mode & S_IFMT) ?? 'other';
}

async function listWithKinds(
  path: string,
): Promise<readonly { readonly name: string; readonly kind: PathKind }[]> {
  const entries = await readdir(path, { withFileTypes: true });
  return entries.map((entry) => {
    let kind: PathKind = 'other';
    if (entry.isFile()) kind = 'file';
    else if (entry.isDirectory()) kind = 'directory';
    else if (entry.isSymbolicLink()) kind = 'symlink';
    else if (entry.isCharacterDevice()) kind = 'character-device';
    return { name: entry.name, kind };
  });
}

async function isEmptyDirectory(path: string): Promise<boolean> {
  const directory = await opendir(path, { bufferSize: 1 });
  try {
    return (await directory.read()) === null;
  } finally {
    await directory.close();
  }
}

async function readTexts(
  lane: Lane,
  files: readonly string[],
): Promise<readonly PromiseSettledResult<string>[]> {
  const read = async (path: string): Promise<string> => {
    try {
      return await readFile(path, 'utf8');
    } catch (error) {
      throw toKernelError(error, 'read', path);
    }
  };
  return fsCallForEach(lane, 'read', files, read);
}

async function removeFile(lane: Lane, ...files: readonly string[]): Promise<void> {
  const remove = async (path: string): Promise<void> => {
    try {
      await unlink(path);
    } catch (error) {
      if (!hasErrno(error, 'ENOENT')) throw toKernelError(error, 'unlink', path);
    }
  };
  for (const end of await fsCallForEach(lane, 'unlink', files, remove)) {
    if (end.status === 'rejected') throw end.reason;
  }
}

/** Overwrites in place, which needs no new block. After a crash the file may contain a mix of both texts. */
async function overwrite(path: string, text: string): Promise<void> {
  const file = await open(path, 'r+');
  try {
    await file.writeFile(text);
    await file.truncate(Buffer.byteLength(text));
  } finally {
    await file.close();
  }
}
