import type { Command } from 'commander';
import { Option } from 'commander';
import type { Volume } from '../csi/admin-types.ts';
import type {
  CreateVolumeRequest,
  CreateVolumeResponse,
  TopologyRequirement,
  VolumeCapability,
  VolumeContentSource,
} from '../csi/types.ts';
import { fsTypes } from '../host/host.ts';
import { MiB } from '../units.ts';
import type { ParameterName } from '../volumes/parameters/storage-class.ts';
import { FailedError, failureOf, rephraseForCli, UsageError } from './errors.ts';
import { findCopyProgress, getSnapshot, getVolume, requireField } from './lookup.ts';
import { requireNewName } from './new-name.ts';
import { formatPromisedSize } from './output.ts';
import { parseSize } from './parse-size.ts';
import { withProgress } from './progress.ts';
import type { Session } from './session.ts';
import * as routed from './through-controller.ts';
import { formatOf, volumeAsJson } from './volume-format.ts';
import { addLimitOptions, type LimitOptions, limitParametersFor } from './volume-limit.ts';

/** Options of every command that creates a volume. */
export interface NewVolumeOptions {
  readonly size?: string;
  readonly pool?: string;
  readonly provisioning?: string;
}

interface CreateOptions extends NewVolumeOptions, LimitOptions {
  readonly fstype?: string;
  readonly block?: boolean;
  readonly sectorSize?: string;
  readonly mkfsOptions?: string;
  readonly from?: string;
  readonly topology?: string;
}

export function addCreateCommands(volume: Command, session: Session): void {
  const create = addNewVolumeOptions(
    volume
      .command('create')
      .description('create a volume: an image with its own filesystem, or a raw block device')
      .argument('<name>'),
  )
    .addOption(
      new Option('--fstype <TYPE>', "filesystem; default: the driver's --default-fstype").choices([
        ...fsTypes,
      ]),
    )
    .option('--block', 'a raw block device without a filesystem')
    .addOption(
      new Option('--sector-size <BYTES>', 'sector size of the loop device').choices([
        '4096',
        '512',
      ]),
    )
    .option('--mkfs-options <OPTIONS>', 'mkfs options that docs/parameters.md allows')
    .option(
      '--topology <KEY=VALUE>',
      'the node, as topology.loopcsi.io/node=ID; through a controller, which otherwise chooses',
    )
    .option('--from <snapshot:ID|volume:ID>', 'copy the data of a snapshot or another volume');
  addLimitOptions(create).action(createVolume.bind(null, session));
  addNewVolumeOptions(
    volume
      .command('clone')
      .description('copy a volume; instant and without extra space if the pool can share blocks')
      .argument('<volume>', 'id, name or claim')
      .argument('<new-name>'),
  ).action((source: string, name: string, options: NewVolumeOptions) =>
    createVolume(session, name, { ...options, from: `volume:${source}` }),
  );
}

export function addNewVolumeOptions(command: Command): Command {
  return command
    .option('--size <SIZE>', 'for example 10Gi')
    .option('--pool <POOL>', 'pool of the volume; default: the pool with the most capacity')
    .addOption(
      new Option(
        '--provisioning <KIND>',
        'thin allocates blocks when they are written, thick allocates all of them now',
      ).choices(['thin', 'thick']),
    );
}

/** Implements `volume create`, `volume clone` and `snapshot restore`. */
export async function createVolume(
  session: Session,
  name: string,
  options: CreateOptions,
): Promise<void> {
  if (options.block === true && options.fstype !== undefined) {
    throw new UsageError(
      '--block and --fstype cannot be combined: a block volume has no filesystem',
    );
  }
  requireNewName(name);
  const sizeBytes = options.size === undefined ? undefined : parseSize(options.size, '--size');
  const { controller } = await session.driver();
  if (await session.isController()) {
    const { volume } = await createRouted(session, name, { ...options, sizeBytes });
    return routed.showCreated(session, requireField(volume, 'volume'));
  }
  const source = await findSource(session, options.from);
  const existed = await volumeExists(session, name);
  const request = requestFor(name, { ...options, sizeBytes }, source);
  const activity =
    source === undefined ? `volume '${name}'` : `copying ${source.description} to '${name}'`;
  const { volume: created } = await withProgress(
    session.terminal,
    activity,
    () =>
      source?.volume === undefined
        ? controller.CreateVolume(request)
        : rephraseForCli(source.volume, () => controller.CreateVolume(request)),
    () => findCopyProgress(session, { volume_name: name }),
  );
  const volume = await getVolume(session, created?.volume_id ?? name);
  await session.show(volumeAsJson(volume), () =>
    existed ? existingMessage(volume) : createdMessage(volume, { source, sizeBytes }),
  );
}

/** Through a controller. */
async function createRouted(
  session: Session,
  name: string,
  options: CreateOptions & { readonly sizeBytes: bigint | undefined },
): Promise<CreateVolumeResponse> {
  if (options.from !== undefined) {
    throw new FailedError(
      'a controller answers at this socket, and --from needs the driver of the node with the source; run the command there',
    );
  }
  const { controller } = await session.driver();
  return controller.CreateVolume(requestFor(name, options, undefined));
}

function topologyFor(text: string | undefined): TopologyRequirement | null {
  if (text === undefined) return null;
  const [, key, value] = /^([^=]+)=([^=]+)$/.exec(text) ?? [];
  if (key === undefined || value === undefined) {
    throw new UsageError(`--topology '${text}': write KEY=VALUE`);
  }
  const topology = { segments: { [key]: value } };
  return { requisite: [topology], preferred: [topology] };
}

async function volumeExists(session: Session, name: string): Promise<boolean> {
  try {
    // The id of another volume may equal this name.
    return (await getVolume(session, name)).name === name;
  } catch (error) {
    if (failureOf(error).code === 'NOT_FOUND') return false;
    throw error;
  }
}

function existingMessage(volume: Volume): string {
  return `Volume '${volume.name}' already exists: ${summaryOf(volume)}.`;
}

function createdMessage(
  volume: Volume,
  asked: { readonly source: Source | undefined; readonly sizeBytes: bigint | undefined },
): string {
  const { name } = volume;
  const { source, sizeBytes } = asked;
  const isRaised = sizeBytes !== undefined && volume.size_bytes >= sizeBytes + MiB;
  const why = isRaised
    ? ` It is larger than requested, because ${source === undefined ? `that is the minimum of ${formatOf(volume)}` : 'the source is'}.`
    : '';
  const from = source === undefined ? '' : ` from ${source.description}`;
  const message = `Volume '${name}' was created${from}: ${summaryOf(volume)}.${why}`;
  // The command is shown only for a name that is neither a flag nor a path, and needs no quotes in a shell.
  if (!/^[A-Za-z\d_][\w.-]*$/.test(name)) return message;
  return `${message}\nMount it with: loopcsi volume mount ${name} /mnt/${name}`;
}

function summaryOf(volume: Volume): string {
  return `${formatPromisedSize(volume.size_bytes)}, ${formatOf(volume)}, in pool '${volume.pool}'`;
}

/** The snapshot or volume that a new volume is copied from. */
interface Source {
  readonly content: VolumeContentSource;
  readonly isBlock: boolean;
  readonly fsType: string;
  readonly description: string;
  readonly volume?: Volume;
}

async function findSource(session: Session, from: string | undefined): Promise<Source | undefined> {
  if (from === undefined) return undefined;
  const [, kind, idOrName = ''] = /^(snapshot|volume):(.+)$/s.exec(from) ?? [];
  if (kind === undefined) {
    throw new UsageError(`--from '${from}': write snapshot:ID or volume:ID`);
  }
  if (kind === 'snapshot') {
    const snapshot = await getSnapshot(session, idOrName);
    return {
      content: { type: 'snapshot', snapshot: { snapshot_id: snapshot.snapshot_id } },
      isBlock: snapshot.kind === 'BLOCK',
      fsType: snapshot.fs_type,
      description: `snapshot '${snapshot.name}'`,
    };
  }
  const volume = await getVolume(session, idOrName);
  return {
    content: { type: 'volume', volume: { volume_id: volume.volume_id } },
    isBlock: volume.kind === 'BLOCK',
    fsType: volume.fs_type,
    description: `volume '${volume.name}'`,
    volume,
  };
}

function requestFor(
  name: string,
  options: CreateOptions & { readonly sizeBytes: bigint | undefined },
  source: Source | undefined,
): Partial<CreateVolumeRequest> {
  const { sizeBytes } = options;
  return {
    name,
    capacity_range: sizeBytes === undefined ? null : { required_bytes: sizeBytes, limit_bytes: 0n },
    volume_capabilities: [capabilityFor(options, source)],
    parameters: parametersFor(options),
    volume_content_source: source?.content ?? null,
    accessibility_requirements: topologyFor(options.topology),
  };
}

function capabilityFor(options: CreateOptions, source: Source | undefined): VolumeCapability {
  const access_mode = { mode: 'SINGLE_NODE_MULTI_WRITER' } as const;
  // A filesystem may be asked for that is in a raw block source.
  const isAsSource = options.fstype === undefined && (source?.isBlock ?? false);
  if (options.block ?? isAsSource) {
    return { access_mode, access_type: 'block', block: {} };
  }
  const fs_type = options.fstype ?? source?.fsType ?? '';
  return {
    access_mode,
    access_type: 'mount',
    mount: { fs_type, mount_flags: [], volume_mount_group: '' },
  };
}

function parametersFor(options: CreateOptions): Readonly<Record<string, string>> {
  const { pool, provisioning, sectorSize, mkfsOptions } = options;
  const given: Record<
    Exclude<ParameterName & keyof CreateOptions, keyof LimitOptions>,
    string | undefined
  > = {
    pool,
    provisioning,
    sectorSize,
    mkfsOptions,
  };
  const parameters = Object.entries(given).flatMap(([key, value]) =>
    value === undefined ? [] : [[key, value] as const],
  );
  return { ...Object.fromEntries(parameters), ...limitParametersFor(options) };
}
