import { resolve } from 'node:path';
import type { Command } from 'commander';
import type { GetVolumeResponse, Volume } from '../csi/admin-types.ts';
import { listReaders, showReceivedCopy } from './copies.ts';
import { FailedError, rephraseForCli } from './errors.ts';
import { addListOptions, type ListOptions } from './list.ts';
import { showListOfPools } from './list-of-pools.ts';
import { getVolume, listAllVolumes, requireField } from './lookup.ts';
import { count, formatPromisedSize } from './output.ts';
import { ownerTextOf, textOrNull } from './owner-format.ts';
import { parseNewSize } from './parse-size.ts';
import { printable } from './printable.ts';
import { retryWhileBusy } from './retry-while-busy.ts';
import type { Session } from './session.ts';
import * as routed from './through-controller.ts';
import { addCreateCommands } from './volume-create.ts';
import { addDeleteCommand } from './volume-delete.ts';
import { addExportCommand } from './volume-export.ts';
import { describeVolume, expansionMessage, volumeAsJson, volumeColumns } from './volume-format.ts';
import { addImportCommands } from './volume-import.ts';
import { addLimitCommand } from './volume-limit.ts';
import { addManifestCommand } from './volume-manifest.ts';
import { addTrimCommand } from './volume-trim.ts';

export function addVolumeCommands(program: Command, session: Session): void {
  const volume = program.command('volume').description('create, mount, expand and delete volumes');
  addCreateCommands(volume, session);
  addImportCommands(volume, session);
  addExportCommand(volume, session);
  addManifestCommand(volume, session);
  addListCommand(volume, session);
  volume
    .command('get')
    .description('show the details of one volume')
    .argument('<volume>', 'id, name or claim')
    .action(showVolume.bind(null, session));
  volume
    .command('mount')
    .description('mount a volume; repeating the command is safe')
    .argument('<volume>', 'id, name or claim')
    .argument('<dir>', 'directory to mount at, created if missing; for a block volume a file')
    .option('--read-only', 'mount read-only')
    .option('--options <LIST>', 'mount options, separated by commas: noatime,nodev')
    .action(mountVolume.bind(null, session));
  volume
    .command('unmount')
    .alias('umount')
    .description('unmount a volume; succeeds if it is not mounted')
    .argument('<volume>', 'id, name or claim')
    .argument('[dir]', 'unmount only at this path; by default at all paths')
    .action(unmountVolume.bind(null, session));
  volume
    .command('expand')
    .description('grow a volume, even while it is in use')
    .argument('<volume>', 'id, name or claim')
    .requiredOption(
      '--size <SIZE>',
      'new size, for example 20Gi, or an increase: +5Gi; volumes cannot shrink',
    )
    .action(expandVolume.bind(null, session));
  addLimitCommand(volume, session);
  addTrimCommand(volume, session);
  addDeleteCommand(volume, session);
  addHealthCommand(volume, session);
}

function addHealthCommand(volume: Command, session: Session): void {
  volume
    .command('health')
    .description('list problems of volumes; exits with 1 if there are any')
    .argument('[volume]', 'id, name or claim; by default all volumes')
    .action(showHealth.bind(null, session));
}

function addListCommand(volume: Command, session: Session): void {
  const list = volume
    .command('list')
    .alias('ls')
    .description('list all volumes, by id')
    .argument('[claim]', 'only the volumes of NAMESPACE/CLAIM; NAMESPACE/ means all its claims')
    .option('--pool <POOL>', 'only the volumes of this pool')
    .action(listVolumes.bind(null, session));
  addListOptions(list, volumeColumns);
}

async function listVolumes(
  session: Session,
  claim: string | undefined,
  options: ListOptions & { readonly pool?: string },
): Promise<void> {
  if (await session.isController()) return routed.listVolumes(session, claim, options);
  const listing = {
    load: async () => {
      const { pool = '' } = options;
      const volumes = await listAllVolumes(session, { pool, withFilesystem: true });
      return claim === undefined ? volumes : volumes.filter((volume) => isOf(claim, volume));
    },
    columns: volumeColumns,
    asJson: volumeAsJson,
    whenEmpty: noVolumesText(claim),
  };
  await showListOfPools(session, listing, options);
}

function isOf(claim: string, volume: Volume): boolean {
  const owner = ownerTextOf(volume);
  return claim.endsWith('/') ? owner.startsWith(claim) : owner === claim;
}

function noVolumesText(claim: string | undefined): string {
  return claim === undefined
    ? 'There are no volumes yet; create one with: loopcsi volume create data --size 10Gi'
    : `This node has no volume of '${claim}'. The volume of a claim is on the node that its persistent volume names: kubectl get pv`;
}

async function showVolume(session: Session, idOrName: string): Promise<void> {
  if (await session.isController()) return routed.showVolume(session, idOrName);
  const { admin } = await session.driver();
  const request = { volume_id: idOrName, with_users: true, with_filesystem: true };
  let answer: GetVolumeResponse;
  try {
    answer = await admin.GetVolume(request);
  } catch (error) {
    return showReceivedCopy(session, idOrName, error);
  }
  const volume = requireField(answer.volume, 'volume');
  const users = answer.users.map(({ name, pid, container_id }) => ({
    name,
    pid: pid === 0 ? null : pid,
    containerId: textOrNull(container_id),
  }));
  const readers = await listReaders(session, { kind: 'volume', id: volume.volume_id });
  await session.show({ ...volumeAsJson(volume), users, readers: readers.json }, () =>
    describeVolume(session.terminal, volume, { users, readers: readers.texts }),
  );
}

async function mountVolume(
  session: Session,
  idOrName: string,
  directory: string,
  options: { readonly readOnly?: boolean; readonly options?: string },
): Promise<void> {
  const found = await getVolume(session, idOrName);
  const { admin } = await session.driver();
  const target_path = resolve(directory);
  const read_only = options.readOnly === true;
  const mount_flags = options.options?.split(',').filter((flag) => flag !== '') ?? [];
  const { volume_id } = found;
  await rephraseForCli(found, () =>
    admin.MountVolume({ volume_id, target_path, read_only, mount_flags }),
  );
  const volume = await getVolume(session, volume_id);
  await session.show(
    volumeAsJson(volume),
    () =>
      `Volume '${printable(volume.name)}' is mounted at ${target_path}${read_only ? ', read-only' : ''}.`,
  );
}

async function unmountVolume(
  session: Session,
  idOrName: string,
  directory: string | undefined,
): Promise<void> {
  const volume = await getVolume(session, idOrName);
  const { volume_id, name, published_at: mountedAt, ephemeral } = volume;
  if (ephemeral) {
    throw new FailedError(
      `volume '${name}' is an inline volume, which is unmounted with its pod: delete the pod. If the pod no longer exists: loopcsi volume delete ${name}`,
    );
  }
  const { admin } = await session.driver();
  const target_path = directory === undefined ? '' : resolve(directory);
  const { target_paths } = await retryWhileBusy(session.terminal, `unmounting '${name}'`, () =>
    rephraseForCli(volume, () => admin.UnmountVolume({ volume_id, target_path })),
  );
  // The response lists only paths of the last attempt. An earlier attempt may have unmounted some paths before it failed as
  // busy.
  const requested = mountedAt.filter((path) => target_path === '' || path === target_path);
  const unmounted = [...new Set([...requested, ...target_paths])];
  await session.show(volumeAsJson(await getVolume(session, volume_id)), () =>
    unmounted.length === 0
      ? `Volume '${printable(name)}' was not mounted${directory === undefined ? '' : ` at ${target_path}`}.`
      : `Volume '${printable(name)}' was unmounted from ${unmounted.join(', ')}.`,
  );
}

async function expandVolume(
  session: Session,
  idOrName: string,
  options: { readonly size: string },
): Promise<void> {
  const newSizeOf = parseNewSize(options.size, '--size');
  if (await session.isController()) return routed.expandVolume(session, idOrName, newSizeOf);
  const found = await getVolume(session, idOrName);
  const { volume_id, size_bytes: oldSizeBytes } = found;
  const size_bytes = newSizeOf(oldSizeBytes);
  const { admin } = await session.driver();
  const answer = await rephraseForCli(found, () => admin.ExpandVolume({ volume_id, size_bytes }));
  const atNextMount = answer.at_next_mount;
  const volume = requireField(answer.volume, 'volume');
  await session.show({ ...volumeAsJson(volume), atNextMount }, () =>
    volume.size_bytes === oldSizeBytes && !atNextMount
      ? `Volume '${printable(volume.name)}' already has ${formatPromisedSize(volume.size_bytes)}.`
      : expansionMessage(volume, atNextMount),
  );
}

async function showHealth(session: Session, idOrName: string | undefined): Promise<void> {
  const volumes =
    idOrName === undefined ? await listAllVolumes(session) : [await getVolume(session, idOrName)];
  const unhealthy = volumes.filter(({ problems }) => problems.length > 0);
  const asJson = unhealthy
    .map(volumeAsJson)
    .map(({ id, name, owner, problems }) => ({ id, name, owner, problems }));
  await session.show(asJson, () =>
    [
      ...unhealthy.flatMap(problemTexts),
      ...volumes.flatMap(readerTexts),
      ...(unhealthy.length === 0 ? [`${count(volumes.length, 'volume')}: ok`] : []),
    ].join('\n'),
  );
  if (unhealthy.length > 0) throw new FailedError('');
}

function problemTexts(volume: Volume): readonly string[] {
  return volume.problems.map(
    ({ status, reason, message }) => `${subjectOf(volume)}: ${status} ${reason}: ${message}`,
  );
}

/** For information: other software that reads the image does no harm. */
function readerTexts(volume: Volume): readonly string[] {
  return volume.reader_devices.map(
    (path) => `${subjectOf(volume)}: other software has attached its image to ${path}, read-only`,
  );
}

function subjectOf(volume: Volume): string {
  const { name, owner } = volume;
  return `${printable(name)}${owner === null ? '' : ` (${ownerTextOf(volume)})`}`;
}
