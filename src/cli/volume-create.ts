import type { Command } from 'commander';
import { Option } from 'commander';
import type { Volume } from '../csi/admin-types.ts';
import type { CreateVolumeRequest, VolumeCapability, VolumeContentSource } from '../csi/types.ts';
import { fsTypes } from '../host/host.ts';
import { failureOf, inOwnWords, UsageError } from './errors.ts';
import { findSnapshot, findVolume, lookAtCopy } from './lookup.ts';
import { formatSize } from './output.ts';
import { sizeOf } from './parse-size.ts';
import { withProgress } from './progress.ts';
import type { Act, Session } from './session.ts';
import { formatOf, volumeAsJson } from './volume-format.ts';

export interface NewOptions {
  readonly size?: string;
  readonly pool?: string;
  readonly provisioning?: string;
}

interface CreateOptions extends NewOptions {
  readonly fstype?: string;
  readonly block?: boolean;
  readonly sectorSize?: string;
  readonly mkfsOptions?: string;
  readonly from?: string;
}

export function addCreateCommands(volume: Command, act: Act): void {
  addNewOptions(
    volume
      .command('create')
      .description('make a volume: an image with a filesystem of its own, or a raw block device')
      .argument('<name>'),
  )
    .addOption(
      new Option('--fstype <TYPE>', "filesystem; by default the driver's --default-fstype").choices(
        [...fsTypes],
      ),
    )
    .option('--block', 'no filesystem: a raw block device')
    .addOption(new Option('--sector-size <BYTES>', 'of the device').choices(['4096', '512']))
    .option('--mkfs-options <WORDS>', 'flags for mkfs from the allow-list of docs/parameters.md')
    .option('--from <snapshot:ID|volume:ID>', 'fill it from a snapshot or another volume')
    .action(act(createVolume));
  addNewOptions(
    volume
      .command('clone')
      .description(
        'copy a volume; on a pool whose copies share blocks this takes no time and no room',
      )
      .argument('<volume>', 'id or name')
      .argument('<new-name>'),
  ).action(
    act(async (session: Session, source: string, name: string, options: NewOptions) =>
      createVolume(session, name, { ...options, from: `volume:${source}` }),
    ),
  );
}

/** What any new volume may be given, also a restored one. */
export function addNewOptions(command: Command): Command {
  return command
    .option('--size <SIZE>', 'for example 10Gi')
    .option('--pool <NAME>', 'pool to make it in; by default the one with most room')
    .addOption(
      new Option('--provisioning <KIND>', 'thin allocates on writing, thick at once').choices([
        'thin',
        'thick',
      ]),
    );
}

/** Also the whole of `volume clone` and `snapshot restore`. */
export async function createVolume(
  session: Session,
  name: string,
  options: CreateOptions,
): Promise<void> {
  if (options.block === true && options.fstype !== undefined) {
    throw new UsageError(
      '--block and --fstype exclude each other; a block volume has no filesystem',
    );
  }
  const sizeBytes = options.size === undefined ? undefined : sizeOf(options.size, '--size');
  const source = await findSource(session, options.from);
  const { controller, admin } = await session.driver();
  const wasThere = await isThere(session, name);
  const request = requestFor(name, { ...options, sizeBytes }, source);
  const what = source === undefined ? `volume '${name}'` : `copying ${source.words} to '${name}'`;
  const { volume: created } = await withProgress(
    session.terminal,
    what,
    () =>
      source?.volume === undefined
        ? controller.CreateVolume(request)
        : inOwnWords(source.volume, () => controller.CreateVolume(request)),
    () => lookAtCopy(session, { volume_name: name }),
  );
  const { volume } = await admin.GetVolume({ volume_id: created?.volume_id ?? name });
  if (volume === null) throw new Error('the driver answered no volume');
  await session.show(volumeAsJson(volume), () =>
    wasThere ? presentWords(volume) : createdWords(volume, source),
  );
}

async function isThere(session: Session, name: string): Promise<boolean> {
  const { admin } = await session.driver();
  try {
    const { volume } = await admin.GetVolume({ volume_id: name });
    return volume?.name === name;
  } catch (error) {
    if (failureOf(error).code === 'NOT_FOUND') return false;
    throw error;
  }
}

function presentWords(volume: Volume): string {
  return `Volume '${volume.name}' was there already, as asked for: ${formatSize(volume.size_bytes)}, ${formatOf(volume)}, in pool '${volume.pool}'.`;
}

function createdWords(volume: Volume, source: Source | undefined): string {
  const { name } = volume;
  const from = source === undefined ? '' : ` from ${source.words}`;
  const head = `Volume '${name}' is made${from}: ${formatSize(volume.size_bytes)}, ${formatOf(volume)}, in pool '${volume.pool}'.`;
  // Any text may be a name; only a plain one can be pasted into a shell.
  if (!/^[\w.-]+$/.test(name)) return head;
  return `${head}\nMount it with: loopcsi volume mount ${name} /mnt/${name}`;
}

/** What the new volume is filled from; it must have the source's format. */
interface Source {
  readonly content: VolumeContentSource;
  readonly isBlock: boolean;
  readonly fsType: string;
  readonly words: string;
  readonly volume?: Volume;
}

async function findSource(session: Session, from: string | undefined): Promise<Source | undefined> {
  if (from === undefined) return undefined;
  const [kind, ...rest] = from.split(':');
  const wanted = rest.join(':');
  if (wanted === '' || (kind !== 'snapshot' && kind !== 'volume')) {
    throw new UsageError(`--from '${from}': write snapshot:ID or volume:ID`);
  }
  if (kind === 'snapshot') {
    const snapshot = await findSnapshot(session, wanted);
    return {
      content: { type: 'snapshot', snapshot: { snapshot_id: snapshot.snapshot_id } },
      isBlock: snapshot.kind === 'BLOCK',
      fsType: snapshot.fs_type,
      words: `snapshot '${snapshot.name}'`,
    };
  }
  const volume = await findVolume(session, wanted);
  return {
    content: { type: 'volume', volume: { volume_id: volume.volume_id } },
    isBlock: volume.kind === 'BLOCK',
    fsType: volume.fs_type,
    words: `volume '${volume.name}'`,
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
  };
}

function capabilityFor(options: CreateOptions, source: Source | undefined): VolumeCapability {
  const access_mode = { mode: 'SINGLE_NODE_MULTI_WRITER' } as const;
  if (options.block ?? source?.isBlock ?? false) {
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
  const given = Object.entries({ pool, provisioning, sectorSize, mkfsOptions });
  return Object.fromEntries(
    given.flatMap(([key, value]) => (value === undefined ? [] : [[key, value] as const])),
  );
}
