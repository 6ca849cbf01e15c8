import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { Option } from 'commander';
import type {
  ImportStreamRequest,
  ImportVolumeRequest,
  ImportVolumeResponse,
} from '../csi/admin-types.ts';
import { messageOf } from '../errors.ts';
import { fsTypes } from '../host/host.ts';
import { zstd } from '../host/programs/zstd.ts';
import { claimParameters } from '../volumes/owner.ts';
import { FailedError, failureOf, UsageError } from './errors.ts';
import { dataPieces, type OpenedStream, openStream } from './image-stream.ts';
import { showList } from './list.ts';
import { findCopyProgress } from './lookup.ts';
import { requireNewName } from './new-name.ts';
import { type Column, count, formatSize } from './output.ts';
import { parseSize } from './parse-size.ts';
import { withProgress } from './progress.ts';
import type { Session } from './session.ts';
import { addNewVolumeOptions, type NewVolumeOptions } from './volume-create.ts';
import { volumeAsJson } from './volume-format.ts';
import { addClassOption, manifestOf, parseClaim } from './volume-manifest.ts';

interface ImportOptions extends NewVolumeOptions {
  readonly printPv?: string;
  readonly storageClass?: string;
  readonly fstype?: string;
  readonly block?: boolean;
  readonly sectorSize?: string;
  readonly keepUuid?: boolean;
  readonly dryRun?: boolean;
}

interface RawfileOptions extends NewVolumeOptions {
  readonly metadata?: string;
  readonly dryRun?: boolean;
}

export function addImportCommands(volume: Command, session: Session): void {
  const command = addNewVolumeOptions(
    volume
      .command('import')
      .description('create a volume with the data of a directory, an image, or a stream')
      .argument('<name>', 'name of the new volume')
      .argument('<source>', "directory or image of the driver's machine, or - for standard input"),
  )
    .addOption(
      new Option(
        '--fstype <TYPE>',
        "filesystem for a directory; default: the driver's --default-fstype",
      ).choices([...fsTypes]),
    )
    .option('--block', 'import an image as a raw block device, whatever it contains')
    .addOption(
      new Option('--sector-size <BYTES>', 'sector size of the loop device').choices([
        '4096',
        '512',
      ]),
    )
    .option('--keep-uuid', 'keep the UUID of the filesystem in an image')
    .option('--dry-run', 'check the source and show the size, but create nothing')
    .option(
      '--print-pv <NAMESPACE/CLAIM>',
      'print a PersistentVolume and a claim for the volume, for kubectl',
    );
  addClassOption(command).action(importVolume.bind(null, session));
  addNewVolumeOptions(
    volume
      .command('import-rawfile')
      .description('import the volumes of a data directory of rawfile-localpv')
      .argument('<dir>', 'directory with <volume id>/disk.img'),
  )
    .option('--metadata <DIR>', 'directory with <volume id>/disk.meta; default: the same one')
    .option('--dry-run', 'check the volumes and show their sizes, but create nothing')
    .action(importRawfile.bind(null, session));
}

async function importVolume(
  session: Session,
  name: string,
  source: string,
  options: ImportOptions,
): Promise<void> {
  if (options.block === true && (options.fstype !== undefined || options.keepUuid === true)) {
    throw new UsageError('--block cannot be combined with --fstype and --keep-uuid');
  }
  requireNewName(name);
  const request = requestFor(name, options);
  if (source === '-') {
    if (options.dryRun === true) throw new UsageError('--dry-run does not apply to a stream');
    await importStream(session, request, options);
    return;
  }
  const answer = await callImport(session, {
    ...request,
    source_path: resolve(source),
    dry_run: options.dryRun === true,
  });
  await showImported(session, { name, source: resolve(source), answer, options });
}

function requestFor(name: string, options: ImportOptions): Partial<ImportVolumeRequest> {
  const { pool, provisioning, sectorSize, printPv } = options;
  // The volume is created for this claim, as if a provisioner had requested it.
  const claim = printPv === undefined ? {} : claimParameters(parseClaim(printPv));
  const parameters = Object.fromEntries(
    Object.entries({ pool, provisioning, sectorSize }).flatMap(([key, value]) =>
      value === undefined ? [] : [[key, value] as const],
    ),
  );
  return {
    name,
    size_bytes: options.size === undefined ? 0n : parseSize(options.size, '--size'),
    fs_type: options.fstype ?? '',
    block: options.block === true,
    keep_uuid: options.keepUuid === true,
    parameters: { ...parameters, ...claim },
  };
}

async function callImport(
  session: Session,
  request: Partial<ImportVolumeRequest> & { readonly source_path: string },
): Promise<ImportVolumeResponse> {
  const { admin } = await session.driver();
  const { name = '', source_path: path } = request;
  return withProgress(
    session.terminal,
    `importing ${path} to '${name}'`,
    () => admin.ImportVolume(request),
    () => findCopyProgress(session, { volume_name: name }),
  );
}

function importedMessage(name: string, source: string, answer: ImportVolumeResponse): string {
  const format = answer.fs_type === '' ? 'block' : answer.fs_type;
  const kind = `${formatSize(answer.size_bytes)}, ${format}`;
  const data = answer.directory
    ? `${formatSize(answer.data_bytes)} in ${answer.entries} files and directories`
    : `${formatSize(answer.data_bytes)} of data`;
  if (answer.existed) return `Volume '${name}' has already been imported from ${source}: ${kind}.`;
  if (answer.volume === null) {
    return `${source} can be imported: volume '${name}' would have ${kind}, for ${data}. Nothing was created.`;
  }
  const checked = answer.directory ? ', and compared with the source' : '';
  return `Volume '${name}' was imported from ${source}: ${kind}, in pool '${answer.volume.pool}'. It contains ${data}${checked}.`;
}

function answerAsJson(answer: ImportVolumeResponse) {
  return {
    volume: answer.volume === null ? null : volumeAsJson(answer.volume),
    existed: answer.existed,
    directory: answer.directory,
    fsType: answer.fs_type === '' ? null : answer.fs_type,
    sizeBytes: answer.size_bytes,
    dataBytes: answer.data_bytes,
    entries: answer.entries,
  };
}

/** Sends standard input to the driver. The SHA-256 is that of the raw image, as `volume export` prints it. */
async function importStream(
  session: Session,
  given: Partial<ImportVolumeRequest>,
  options: ImportOptions,
): Promise<void> {
  const { admin } = await session.driver();
  const stream = await openStream(session.terminal.input());
  const { facts } = stream;
  const image_bytes = facts?.sizeBytes ?? sizeOfInput(session, options, stream);
  const request = facts === undefined ? given : withFacts(given, facts);
  const hash = createHash('sha256');
  let readBytes = 0n;
  const activity = `importing '${given.name ?? ''}'`;
  const answer = await withProgress(session.terminal, activity, (report) => {
    const onBytes = (bytes: Buffer): void => {
      hash.update(bytes);
      readBytes += BigInt(bytes.length);
      report({ doneBytes: readBytes, totalBytes: image_bytes });
    };
    return admin.ImportStream(
      streamRequests(stream, { request, image_bytes, onBytes, readBytes: () => readBytes }),
    );
  });
  const sha256 = hash.digest('hex');
  const source = 'standard input';
  await showImported(session, { name: given.name ?? '', source, answer, options, sha256 });
}

/** With --print-pv, only the manifest goes to standard output, for kubectl. */
async function showImported(
  session: Session,
  imported: {
    readonly name: string;
    readonly source: string;
    readonly answer: ImportVolumeResponse;
    readonly options: ImportOptions;
    readonly sha256?: string;
  },
): Promise<void> {
  const { name, source, answer, options, sha256 } = imported;
  const { terminal } = session;
  const { volume } = answer;
  const { printPv } = options;
  const manifest =
    volume === null || printPv === undefined
      ? undefined
      : await manifestOf(session, volume, { claim: printPv, ...options });
  const text = importedMessage(name, source, answer);
  const message = sha256 === undefined ? text : `${text}\nsha256 of the image: ${sha256}`;
  if (manifest !== undefined && session.isText) terminal.printError(message);
  await session.show(
    { ...answerAsJson(answer), sha256: sha256 ?? null, manifest: manifest ?? null },
    () => manifest ?? message,
  );
}

function withFacts(
  given: Partial<ImportVolumeRequest>,
  { isBlock, sectorSize }: { readonly isBlock: boolean; readonly sectorSize: number },
): Partial<ImportVolumeRequest> {
  return {
    ...given,
    block: given.block === true || isBlock,
    parameters: { sectorSize: String(sectorSize), ...given.parameters },
  };
}

/** The size of the image: that of the file from which standard input is redirected, or --size. */
function sizeOfInput(
  session: Session,
  { size }: ImportOptions,
  { isCompressed }: OpenedStream,
): bigint {
  const fileBytes = isCompressed ? undefined : session.terminal.inputFileBytes();
  if (fileBytes !== undefined) return fileBytes;
  if (size !== undefined) return parseSize(size, '--size');
  throw new UsageError(
    "this stream does not contain the size of the image: give the exact size in bytes with --size, or send the output of 'loopcsi volume export', which contains it",
  );
}

async function* streamRequests(
  { rest, isCompressed }: OpenedStream,
  start: {
    readonly request: Partial<ImportVolumeRequest>;
    readonly image_bytes: bigint;
    readonly onBytes: (bytes: Buffer) => void;
    readonly readBytes: () => bigint;
  },
): AsyncGenerator<RequestOf<ImportStreamRequest>> {
  const { request, image_bytes, onBytes, readBytes } = start;
  yield { step: 'start', start: { request, image_bytes } };
  const raw = isCompressed ? zstd('decompress', rest) : rest;
  for await (const data of dataPieces(raw, onBytes)) yield { step: 'data', data };
  yield { step: 'end', end: { image_bytes: readBytes() } };
}

type Client = Awaited<ReturnType<Session['driver']>>['admin'];
type RequestOf<_Q> =
  Parameters<Client['ImportStream']>[0] extends AsyncIterable<infer Request> ? Request : never;

interface RawfileVolume {
  readonly id: string;
  readonly path: string;
  /** Why it is not imported; undefined if it is. */
  readonly skipped: string | undefined;
}

interface RawfileResult {
  readonly id: string;
  readonly sizeBytes: bigint;
  readonly format: string;
  readonly state: string;
}

/** Imports every volume of a data directory under its id, which is the name of its PersistentVolume. */
async function importRawfile(
  session: Session,
  directory: string,
  options: RawfileOptions,
): Promise<void> {
  const root = resolve(directory);
  const volumes = await listRawfileVolumes(root, resolve(options.metadata ?? directory));
  const results: RawfileResult[] = [];
  let failed = 0;
  for (const volume of volumes) {
    const result = await importOne(session, volume, options);
    if (result.state.startsWith('failed')) failed += 1;
    results.push(result);
  }
  const listing = {
    load: async () => results,
    columns: rawfileColumns,
    asJson: (result: RawfileResult) => ({ ...result, name: result.id }),
    whenEmpty: '',
  };
  await showList(session, listing, {});
  if (failed > 0) throw new FailedError(`${count(failed, 'volume')} could not be imported`);
}

const rawfileColumns: readonly Column<RawfileResult>[] = [
  { title: 'VOLUME', text: ({ id }) => id },
  {
    title: 'SIZE',
    align: 'right',
    text: ({ sizeBytes }) => (sizeBytes === 0n ? '' : formatSize(sizeBytes)),
  },
  { title: 'FORMAT', text: ({ format }) => format },
  { title: 'STATE', text: ({ state }) => state },
];

async function importOne(
  session: Session,
  { id, path, skipped }: RawfileVolume,
  options: RawfileOptions,
): Promise<RawfileResult> {
  const nothing = { id, sizeBytes: 0n, format: '' };
  if (skipped !== undefined) return { ...nothing, state: `skipped: ${skipped}` };
  try {
    const answer = await callImport(session, {
      ...requestFor(id, options),
      source_path: path,
      dry_run: options.dryRun === true,
    });
    const state = answer.existed
      ? 'already imported'
      : answer.volume === null
        ? 'can be imported'
        : 'imported';
    return { id, sizeBytes: answer.size_bytes, format: answer.fs_type, state };
  } catch (error) {
    return { ...nothing, state: `failed: ${failureOf(error).message}` };
  }
}

/** Finds the images below a data directory. Volumes that were deleted or never became ready are skipped. */
async function listRawfileVolumes(
  root: string,
  metadata: string,
): Promise<readonly RawfileVolume[]> {
  let names: readonly string[];
  try {
    names = (await readdir(root)).toSorted();
  } catch (error) {
    throw new FailedError(
      `${root} cannot be read: ${messageOf(error)}; this command must run where the directory is`,
      { cause: error },
    );
  }
  const found: RawfileVolume[] = [];
  for (const id of names) {
    const path = join(root, id, 'disk.img');
    const files: readonly string[] = await readdir(join(root, id)).catch(() => []);
    if (!files.includes('disk.img')) continue;
    found.push({ id, path, skipped: await whySkipped(join(metadata, id, 'disk.meta')) });
  }
  if (found.length > 0) return found;
  throw new FailedError(
    `${root} contains no <volume id>/disk.img; give the data directory of rawfile-localpv`,
  );
}

async function whySkipped(metaFile: string): Promise<string | undefined> {
  let meta: unknown;
  try {
    meta = JSON.parse(await readFile(metaFile, 'utf8'));
  } catch (error) {
    return `${metaFile} cannot be read (${messageOf(error)}); see --metadata`;
  }
  if (typeof meta !== 'object' || meta === null) return `${metaFile} is not a JSON object`;
  if ('deleted_at' in meta && meta.deleted_at !== null) return 'it was deleted';
  if ('ready' in meta && meta.ready === false) return 'it was never ready';
  return undefined;
}
