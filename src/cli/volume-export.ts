import { createHash, type Hash } from 'node:crypto';
import { once } from 'node:events';
import { type FileHandle, open, rename, rm, stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { Option } from 'commander';
import type { ExportImageResponse, ExportImageStart } from '../csi/admin-types.ts';
import { zstd } from '../host/programs/zstd.ts';
import { FailedError, rephraseForCli, UsageError } from './errors.ts';
import {
  openPart,
  type PartProgress,
  partOf,
  progressOf,
  readProgress,
  recordProgress,
  syncDirectory,
  writeAll,
} from './export-part.ts';
import { encodeFacts, withZeros } from './image-stream.ts';
import { getSnapshot, getVolume, requireField } from './lookup.ts';
import { formatSize } from './output.ts';
import { type Progress, withProgress } from './progress.ts';
import type { Session } from './session.ts';

interface ExportOptions {
  readonly format?: 'raw' | 'zstd';
  readonly snapshot?: boolean;
  readonly resume?: boolean;
  readonly force?: boolean;
}

export function addExportCommand(volume: Command, session: Session): void {
  volume
    .command('export')
    .description('write the image of a volume or snapshot to a file or standard output')
    .argument('<volume>', 'id, name or claim')
    .argument('<file>', 'file to create, or - for standard output')
    .option('--snapshot', 'the argument is a snapshot')
    .addOption(
      new Option(
        '--format <FORMAT>',
        'raw: the image, with holes in a file; zstd: compressed; default: raw for a file, zstd for -',
      ).choices(['raw', 'zstd']),
    )
    .option('--resume', 'continue an interrupted export to this file')
    .option('--force', 'replace an existing file')
    .action(exportVolume.bind(null, session));
}

/** What is exported, as the driver is asked for it. */
interface Target {
  readonly kind: 'volume' | 'snapshot';
  readonly id: string;
  readonly name: string;
}

interface Exported {
  readonly start: ExportImageStart;
  readonly sha256: string;
}

async function exportVolume(
  session: Session,
  idOrName: string,
  file: string,
  options: ExportOptions,
): Promise<void> {
  const target = await findTarget(session, idOrName, options);
  const toStdout = file === '-';
  const format = options.format ?? (toStdout ? 'zstd' : 'raw');
  if (options.resume === true && (toStdout || format === 'zstd')) {
    throw new UsageError('--resume works only for a file with --format raw; start the export anew');
  }
  const work = (): Promise<Exported> => {
    if (toStdout) return exportToStdout(session, target, format);
    const path = resolve(file);
    return format === 'zstd'
      ? exportCompressed(session, target, { path, options })
      : exportToFile(session, target, { path, options });
  };
  const volume = { volume_id: target.id, name: target.name };
  const { start, sha256 } = await rephraseForCli(
    volume,
    work,
    `loopcsi snapshot create ${target.name} NAME --freeze; then export that snapshot with --snapshot`,
  );
  const where = toStdout ? 'standard output' : resolve(file);
  const frozen =
    start.frozen_ms > 0n ? ` Its filesystem was frozen for ${start.frozen_ms} ms.` : '';
  const text = [
    `The ${target.kind} '${target.name}' was exported to ${where}: ${formatSize(start.size_bytes)}, ${start.fs_type || 'block'}.${frozen}`,
    `sha256 of the image: ${sha256}`,
  ].join('\n');
  if (toStdout) session.terminal.printError(text);
  else await session.show(resultAsJson(target, start, { sha256, path: where, format }), () => text);
}

function resultAsJson(
  { kind, id, name }: Target,
  start: ExportImageStart,
  file: { readonly sha256: string; readonly path: string; readonly format: string },
) {
  return {
    kind,
    id,
    name,
    path: file.path,
    format: file.format,
    sizeBytes: start.size_bytes,
    fsType: start.fs_type === '' ? null : start.fs_type,
    frozenMs: start.frozen_ms,
    sha256: file.sha256,
  };
}

async function findTarget(
  session: Session,
  idOrName: string,
  options: ExportOptions,
): Promise<Target> {
  if (options.snapshot !== true) {
    const { volume_id: id, name } = await getVolume(session, idOrName);
    return { kind: 'volume', id, name };
  }
  const { snapshot_id: id, name } = await getSnapshot(session, idOrName);
  return { kind: 'snapshot', id, name };
}

type Report = (progress: Progress) => void;

/** An image that the driver sends: its facts, and its data from an offset on. */
async function openExport(
  session: Session,
  { kind, id }: Target,
  from: { readonly offset: bigint; readonly state: string } = { offset: 0n, state: '' },
): Promise<{
  readonly start: ExportImageStart;
  readonly pieces: (report: Report) => AsyncIterable<{ offset: bigint; data: Buffer }>;
}> {
  const { admin } = await session.driver();
  const responses = admin.ExportImage({
    ...(kind === 'volume' ? { volume_id: id } : { snapshot_id: id }),
    starting_offset: from.offset,
    expected_state: from.state,
  });
  const first = await responses.next();
  if (first.done === true) throw new FailedError('the driver sent no image; check its log');
  const start = requireField(first.value.start, 'start');
  return { start, pieces: (report) => readPieces(responses, start, report) };
}

async function* readPieces(
  responses: AsyncIterable<ExportImageResponse>,
  { allocated_bytes: totalBytes }: ExportImageStart,
  report: Report,
): AsyncGenerator<{ offset: bigint; data: Buffer }> {
  let doneBytes = 0n;
  for await (const { offset, data } of responses) {
    yield { offset, data };
    doneBytes += BigInt(data.length);
    report({ doneBytes, totalBytes });
  }
}

/** Writes to standard output, and waits while the reader is slower. */
async function exportToStdout(
  session: Session,
  target: Target,
  format: 'raw' | 'zstd',
): Promise<Exported> {
  const output = session.terminal.dataOutput();
  const write = async (bytes: Buffer): Promise<void> => {
    if (!output.write(bytes)) await once(output, 'drain');
  };
  return exportStream(session, target, { format, write });
}

async function exportStream(
  session: Session,
  target: Target,
  to: { readonly format: 'raw' | 'zstd'; readonly write: (bytes: Buffer) => Promise<void> },
): Promise<Exported> {
  const { start, pieces } = await openExport(session, target);
  const hash = createHash('sha256');
  const raw = async function* (report: Report): AsyncGenerator<Buffer> {
    for await (const bytes of withZeros(pieces(report), start.size_bytes)) {
      hash.update(bytes);
      yield bytes;
    }
  };
  await withProgress(session.terminal, `exporting '${target.name}'`, async (report) => {
    if (to.format === 'zstd') await to.write(encodeFacts(factsOf(start)));
    const bytes = to.format === 'zstd' ? zstd('compress', raw(report)) : raw(report);
    for await (const chunk of bytes) await to.write(chunk);
  });
  return { start, sha256: hash.digest('hex') };
}

function factsOf({ name, size_bytes: sizeBytes, fs_type, sector_size }: ExportImageStart) {
  return { name, sizeBytes, isBlock: fs_type === '', sectorSize: sector_size };
}

interface FileExport {
  readonly path: string;
  readonly options: ExportOptions;
}

async function requireNewFile({ path, options }: FileExport): Promise<void> {
  const found = await stat(path).catch(() => undefined);
  if (found === undefined) return;
  if (options.force === true && found.isFile()) return;
  throw new FailedError(
    found.isFile()
      ? `${path} already exists; choose another file, or replace it with --force`
      : `${path} exists and is not a regular file; choose another file`,
  );
}

/** Writes a compressed file under a temporary name, which becomes the file when it is complete. */
async function exportCompressed(
  session: Session,
  target: Target,
  file: FileExport,
): Promise<Exported> {
  await requireNewFile(file);
  const part = partOf(file.path);
  const handle = await open(part, 'w', 0o600);
  try {
    const exported = await exportStream(session, target, {
      format: 'zstd',
      write: async (bytes) => {
        await handle.writeFile(bytes);
      },
    });
    await handle.sync();
    await rename(part, file.path);
    await syncDirectory(file.path);
    return exported;
  } catch (error) {
    await rm(part, { force: true });
    throw error;
  } finally {
    await handle.close();
  }
}

/** Bytes of data between two syncs with a record of the progress. */
const recordEveryBytes = 64 * 1024 * 1024;

async function exportToFile(session: Session, target: Target, file: FileExport): Promise<Exported> {
  await requireNewFile(file);
  const { path } = file;
  const interrupted = await findInterrupted(session, target, file);
  const from = { offset: interrupted?.doneBytes ?? 0n, state: interrupted?.state ?? '' };
  const { start, pieces } = await openExport(session, target, from);
  const handle = await openPart(path, { isContinued: interrupted !== undefined });
  try {
    // Data behind the recorded progress may not be complete.
    await handle.truncate(Number(from.offset));
    await handle.truncate(Number(start.size_bytes));
    const sha256 = await withProgress(
      session.terminal,
      `exporting '${target.name}'`,
      async (report) => {
        const hash = createHash('sha256');
        await hashFile(handle, hash, from.offset);
        const part = { handle, path, target, start };
        await writePieces(part, { pieces: pieces(report), hash, from: from.offset });
        return hash.digest('hex');
      },
    );
    await handle.sync();
    await rename(partOf(path), path);
    await rm(progressOf(path), { force: true });
    await syncDirectory(path);
    return { start, sha256 };
  } finally {
    await handle.close();
  }
}

/** Returns the progress of an interrupted export to this file, if it is to be continued. Says what happens to an old one. */
async function findInterrupted(
  session: Session,
  target: Target,
  { path, options }: FileExport,
): Promise<PartProgress | undefined> {
  const progress = await readProgress(path);
  const hasPart = (await stat(partOf(path)).catch(() => undefined)) !== undefined;
  if (options.resume !== true) {
    if (hasPart) {
      session.terminal.printError(
        `${partOf(path)} is left from an interrupted export; it is replaced, since --resume was not given.`,
      );
    }
    return undefined;
  }
  if (progress === undefined || !hasPart) {
    throw new FailedError(
      `there is no interrupted export to continue: ${progressOf(path)} does not exist or cannot be read; start the export without --resume`,
    );
  }
  if (progress.id !== target.id || progress.kind !== target.kind) {
    throw new FailedError(
      `${partOf(path)} is an interrupted export of the ${progress.kind} '${progress.id}', not of the ${target.kind} '${target.id}'; choose another file, or start without --resume`,
    );
  }
  if (progress.state === '') {
    throw new FailedError(
      `the ${target.kind} '${target.name}' was in use when that export began, so it cannot be continued; start it without --resume, or export a snapshot, which can always be continued`,
    );
  }
  return progress;
}

interface Part {
  readonly handle: FileHandle;
  readonly path: string;
  readonly target: Target;
  readonly start: ExportImageStart;
}

async function writePieces(
  part: Part,
  image: {
    readonly pieces: AsyncIterable<{ offset: bigint; data: Buffer }>;
    readonly hash: Hash;
    readonly from: bigint;
  },
): Promise<void> {
  const { handle, path, start, target } = part;
  const { pieces, hash, from } = image;
  const { kind, id } = target;
  const { state } = start;
  let [reached, unsynced] = [from, 0];
  await recordProgress(path, { kind, id, state, doneBytes: reached });
  for await (const { offset, data } of pieces) {
    hashZeros(hash, offset - reached);
    hash.update(data);
    await writeAll(handle, data, offset);
    reached = offset + BigInt(data.length);
    unsynced += data.length;
    if (unsynced < recordEveryBytes) continue;
    await handle.datasync();
    await recordProgress(path, { kind, id, state, doneBytes: reached });
    unsynced = 0;
  }
  hashZeros(hash, start.size_bytes - reached);
}

const hashedBytes = 1024 * 1024;
const zeros = Buffer.alloc(hashedBytes);

function hashZeros(hash: Hash, count: bigint): void {
  for (let left = count; left > 0n; left -= BigInt(hashedBytes)) {
    hash.update(left < BigInt(hashedBytes) ? zeros.subarray(0, Number(left)) : zeros);
  }
}

async function hashFile(handle: FileHandle, hash: Hash, length: bigint): Promise<void> {
  const buffer = Buffer.alloc(hashedBytes);
  for (let at = 0n; at < length; ) {
    const wanted = length - at < BigInt(hashedBytes) ? Number(length - at) : hashedBytes;
    const { bytesRead } = await handle.read(buffer, 0, wanted, Number(at));
    if (bytesRead === 0) throw new FailedError('the interrupted export is truncated; start anew');
    hash.update(buffer.subarray(0, bytesRead));
    at += BigInt(bytesRead);
  }
}
