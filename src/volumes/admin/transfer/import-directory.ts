import { join } from 'node:path';
import { VolumeError } from '../../../errors.ts';
import { CommandError, hasErrno, KernelError } from '../../../host/errors.ts';
import type { TreeSize } from '../../../host/host.ts';
import { type VolumeRecord, volumeRecord } from '../../../state/records.ts';
import { formatBytes, KiB, MiB } from '../../../units.ts';
import { chooseCapacity } from '../../capacity.ts';
import type { Domain } from '../../domain.ts';
import type { Operation } from '../../engine/operations.ts';
import { commitNew } from '../../pool/commit.ts';
import { imageFile } from '../../pool/layout.ts';
import { newVolumeRecord } from '../../pool/new-volume-record.ts';
import { buildImage } from '../../volume/create.ts';
import { asCreateInput, type ImportDraft, type ImportResult } from './import-draft.ts';
import type { SourceStatus } from './source.ts';

/** Imports a directory: a new filesystem, a copy of all files into it, and a comparison of the two. */
export async function importDirectory(
  domain: Domain,
  operation: Operation,
  draft: ImportDraft,
  { path }: SourceStatus,
): Promise<ImportResult> {
  const { id, input, subject } = draft;
  if (input.block || input.keepsUuid) {
    throw new VolumeError(
      'invalid',
      `${subject}: ${path} is a directory, which needs a new filesystem; omit --block and --keep-uuid`,
    );
  }
  await requireNoMount(domain, subject, path);
  const tree = await measureSource(domain, operation.signal, { subject, path });
  const fsType = input.fsType ?? domain.settings.defaultFsType;
  const sizeBytes = chooseTreeSize(domain, draft, { tree, path });
  const record = {
    ...newVolumeRecord({
      id,
      input: asCreateInput(input, fsType),
      sizeBytes,
      mountOptions: [],
      createdAtMs: domain.now(),
    }),
    importedFrom: { kind: 'directory', path, state: tree.fingerprint } as const,
  };
  const { dataBytes, entries } = tree;
  const result = { existed: false, isDirectory: true, fsType, sizeBytes, dataBytes, entries };
  if (draft.isDryRun) return { ...result, volumeId: undefined };
  operation.beginEffects();
  await makeVolume(domain, operation, { draft, path, record, tree });
  return { ...result, volumeId: id };
}

/** Throws `invalid` if something is mounted in the directory: a copy would lack it. */
async function requireNoMount(domain: Domain, subject: string, path: string): Promise<void> {
  const mounts = await domain.host.mounts.list();
  const found = mounts.find(({ target }) => target.startsWith(`${path}/`));
  if (found !== undefined) throw mountedError(subject, found.target);
}

function mountedError(subject: string, target: string): VolumeError {
  return new VolumeError(
    'invalid',
    `${subject}: another filesystem is mounted at ${target}, and would be missing in the copy; unmount it, or import it as a volume of its own`,
  );
}

/** Throws `invalid` if a filesystem is mounted in the directory, `wrong-state` if it changes meanwhile. */
export async function measureSource(
  domain: Domain,
  signal: AbortSignal,
  { subject, path }: { subject: string; path: string },
): Promise<TreeSize> {
  try {
    return await domain.host.trees.measure(path, signal);
  } catch (error) {
    if (error instanceof KernelError && hasErrno(error, 'EXDEV'))
      throw mountedError(subject, error.subject);
    if (hasErrno(error, 'ENOENT')) throw changedError(subject, path, 'a file was removed');
    throw error;
  }
}

/** ext4 has one inode for 16 KiB, of which a fifth stays free. */
const bytesPerEntry = 20n * KiB;

/**
 * The requested size, or that of a small filesystem and the data with a quarter more, for metadata and some growth. Throws
 * `out-of-range` for a size smaller than the data.
 */
function chooseTreeSize(
  domain: Domain,
  { input, subject }: ImportDraft,
  { tree, path }: { tree: TreeSize; path: string },
): bigint {
  const fsType = input.fsType ?? domain.settings.defaultFsType;
  const { minBytes, minGrownBytes } = domain.host.filesystems[fsType];
  const withHeadroom = minGrownBytes + tree.dataBytes + tree.dataBytes / 4n + 64n * MiB;
  const forEntries = tree.entries * bytesPerEntry;
  const defaultBytes = withHeadroom > forEntries ? withHeadroom : forEntries;
  if (input.sizeBytes > 0n && input.sizeBytes < tree.dataBytes) {
    throw new VolumeError(
      'out-of-range',
      `${subject}: ${formatBytes(input.sizeBytes)} is too small for ${path}, which contains ${formatBytes(tree.dataBytes)} in ${tree.entries} files and directories; request ${formatBytes(defaultBytes)}, or omit the size`,
    );
  }
  const range = { requiredBytes: input.sizeBytes, limitBytes: 0n };
  return chooseCapacity(range, { minBytes, defaultBytes, subject });
}

interface TreeImport {
  readonly draft: ImportDraft;
  readonly path: string;
  readonly record: VolumeRecord;
  readonly tree: TreeSize;
}

async function makeVolume(
  domain: Domain,
  operation: Operation,
  { draft, path, record, tree }: TreeImport,
): Promise<void> {
  const { id, pool, subject } = draft;
  const allocate = record.provisioning === 'thick';
  const reservation = await pool.space.reserve(record.sizeBytes, subject, { allocate });
  try {
    await commitNew(domain, {
      pool,
      area: 'volumes',
      id,
      schema: volumeRecord,
      images: [imageFile],
      build: async (directory) => {
        await buildImage(domain, join(directory, imageFile), record);
        await copyAndCompare(domain, operation, { draft, path, record, tree, directory });
        return record;
      },
    });
  } finally {
    reservation.release();
  }
}

async function copyAndCompare(
  domain: Domain,
  operation: Operation,
  { draft, path, record, tree, directory }: TreeImport & { readonly directory: string },
): Promise<void> {
  const { subject } = draft;
  const { fsType, sectorSize } = record;
  if (fsType === null) return;
  const { signal } = operation;
  const image = join(directory, imageFile);
  const { mountOptions } = domain.host.filesystems[fsType];
  const copy = { from: path, fsType, sectorSize, mountOptions, workDir: directory, signal };
  try {
    await domain.host.trees.copyIntoImage(image, {
      ...copy,
      onProgress: (usedBytes) => {
        operation.reportProgress(
          usedBytes > tree.dataBytes ? tree.dataBytes : usedBytes,
          tree.dataBytes,
        );
      },
    });
    await domain.reached('import:tree-copied');
    const difference = await domain.host.trees.findDifference(image, copy);
    if (difference !== undefined) throw changedError(subject, path, difference);
  } catch (error) {
    signal.throwIfAborted();
    throw await describeCopyFailure(error, { draft, path, record });
  }
  // The copy may have freed blocks of a thick volume.
  if (record.provisioning === 'thick')
    await domain.host.files.growImage(image, { sizeBytes: record.sizeBytes, allocate: true });
  await domain.reached('import:tree-compared');
}

async function describeCopyFailure(
  error: unknown,
  { draft, path, record }: Pick<TreeImport, 'draft' | 'path' | 'record'>,
): Promise<unknown> {
  const { subject, pool } = draft;
  if (hasErrno(error, 'ENOSPC') && !(await pool.isFull())) {
    return new VolumeError(
      'out-of-range',
      `${subject}: the files of ${path} do not fit into ${formatBytes(record.sizeBytes)}; request a larger size`,
      { cause: error },
    );
  }
  if (hasErrno(error, 'ENOENT')) return changedError(subject, path, 'a file was removed');
  if (!(error instanceof CommandError)) return error;
  return new VolumeError(
    'wrong-state',
    `${subject}: ${path} could not be copied completely: ${error.message}; if an application uses it, stop the application, then import it again`,
    { cause: error },
  );
}

function changedError(subject: string, path: string, difference: string): VolumeError {
  return new VolumeError(
    'wrong-state',
    `${subject}: ${path} and its copy differ, so nothing was imported: ${difference}; stop the application that uses the directory, then import it again`,
  );
}
