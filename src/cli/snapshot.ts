import type { Command } from 'commander';
import type { Snapshot } from '../csi/admin-types.ts';
import { listReaders } from './copies.ts';
import { FailedError, rephraseForCli } from './errors.ts';
import { addListOptions, type ListOptions } from './list.ts';
import { showListOfPools } from './list-of-pools.ts';
import { findCopyProgress, getSnapshot, getVolume, listAllSnapshots } from './lookup.ts';
import { requireNewName } from './new-name.ts';
import {
  type Column,
  count,
  formatFields,
  formatPromisedSize,
  formatSize,
  sizeColumns,
} from './output.ts';
import { snapshotOwnerAsJson, snapshotOwnerTextOf } from './owner-format.ts';
import { printable } from './printable.ts';
import { withProgress } from './progress.ts';
import type { Session } from './session.ts';
import { addDiffCommand } from './snapshot-diff.ts';
import { addGroupCommands } from './snapshot-group.ts';
import { waitUntilReady } from './snapshot-wait.ts';
import * as routed from './through-controller.ts';
import { addNewVolumeOptions, createVolume, type NewVolumeOptions } from './volume-create.ts';
import { dateOf, formatOf, formatTime } from './volume-format.ts';

export function addSnapshotCommands(program: Command, session: Session): void {
  const snapshot = program
    .command('snapshot')
    .description('take snapshots of volumes, and restore them to new volumes');
  snapshot
    .command('create')
    .description('take a snapshot; a mounted filesystem is frozen while it is captured')
    .argument('<volume>', 'id, name or claim')
    .argument('<name>')
    .option(
      '--freeze',
      'in a pool that cannot share blocks: keep a mounted volume frozen for the whole copy',
    )
    .option('--no-wait', 'do not wait for a long copy')
    .action(createSnapshot.bind(null, session));
  const list = snapshot
    .command('list')
    .alias('ls')
    .description('list all snapshots, by id')
    .option('--volume <VOLUME>', 'only the snapshots of this volume (id, name or claim)')
    .option('--pool <POOL>', 'only the snapshots in this pool')
    .action(listSnapshots.bind(null, session));
  addListOptions(list, columns);
  snapshot
    .command('get')
    .description('show the details of one snapshot')
    .argument('<snapshot>', 'id, name or VolumeSnapshot')
    .action(showSnapshot.bind(null, session));
  addNewVolumeOptions(
    snapshot
      .command('restore')
      .description('create a volume with the data of a snapshot')
      .argument('<snapshot>', 'id, name or VolumeSnapshot')
      .argument('<new-volume>', 'name of the new volume'),
  ).action((source: string, name: string, options: NewVolumeOptions) =>
    createVolume(session, name, { ...options, from: `snapshot:${source}` }),
  );
  addDiffCommand(snapshot, session);
  addGroupCommands(snapshot, session);
  snapshot
    .command('delete')
    .alias('rm')
    .description('delete snapshots; volumes restored from them are kept')
    .argument('<snapshot...>', 'ids, names or VolumeSnapshots')
    .option('-y, --yes', 'do not ask for confirmation')
    .action(deleteSnapshots.bind(null, session));
}

/** docs/command-line.md lists the keys. */
export function snapshotAsJson(snapshot: Snapshot) {
  return {
    id: snapshot.snapshot_id,
    name: snapshot.name,
    owner: snapshotOwnerAsJson(snapshot),
    sourceVolumeId: snapshot.source_volume_id,
    pool: snapshot.pool,
    kind: snapshot.kind === 'BLOCK' ? 'block' : 'mount',
    fsType: snapshot.fs_type === '' ? null : snapshot.fs_type,
    sizeBytes: snapshot.size_bytes,
    allocatedBytes: snapshot.allocated_bytes,
    createdAt: dateOf(snapshot.created_at)?.toISOString() ?? null,
    ready: snapshot.ready,
    frozenMs: snapshot.frozen_ms,
    groupSnapshotId: snapshot.group_snapshot_id === '' ? null : snapshot.group_snapshot_id,
  };
}

async function createSnapshot(
  session: Session,
  volumeIdOrName: string,
  name: string,
  options: { readonly freeze?: boolean; readonly wait: boolean },
): Promise<void> {
  requireNewName(name);
  if (await session.isController())
    return routed.createSnapshot(session, volumeIdOrName, name, options);
  const volume = await getVolume(session, volumeIdOrName);
  const { controller } = await session.driver();
  const parameters: Readonly<Record<string, string>> =
    options.freeze === true ? { freeze: 'yes' } : {};
  const request = { source_volume_id: volume.volume_id, name, parameters };
  const snapshot = await withProgress(
    session.terminal,
    `snapshot '${name}'`,
    async (report) => {
      const { snapshot: created } = await rephraseForCli(
        volume,
        () => controller.CreateSnapshot(request),
        '--freeze',
      );
      const id = created?.snapshot_id ?? name;
      if (created?.ready_to_use !== true && options.wait) await waitUntilReady(session, id, report);
      return getSnapshot(session, id);
    },
    () => findCopyProgress(session, { snapshot_name: name }),
  );
  await session.show(snapshotAsJson(snapshot), () => createdMessage(snapshot));
}

function createdMessage(snapshot: Snapshot): string {
  const { name, pool, ready, size_bytes, frozen_ms } = snapshot;
  const state = ready ? 'was created' : 'is being copied';
  const frozen = frozen_ms > 0n ? ` The volume was frozen for ${frozen_ms} ms.` : '';
  return [
    `Snapshot '${name}' ${state}: ${formatPromisedSize(size_bytes)} ${formatOf(snapshot)}, in pool '${pool}'.${frozen}`,
    `Restore it with: loopcsi snapshot restore ${name} NEW-VOLUME`,
  ].join('\n');
}

const columns: readonly Column<Snapshot>[] = [
  { title: 'NAME', text: ({ name }) => name },
  { title: 'VOLUMESNAPSHOT', text: snapshotOwnerTextOf, isOptional: true },
  { title: 'VOLUME', text: volumeOf },
  ...sizeColumns,
  { title: 'FORMAT', text: formatOf },
  { title: 'POOL', text: ({ pool }) => pool },
  { title: 'TAKEN', text: ({ created_at }) => formatTime(created_at) },
  { title: 'STATE', text: stateOf },
  { title: 'ID', text: ({ snapshot_id }) => snapshot_id, isWide: true },
  { title: 'GROUP', text: ({ group_snapshot_id }) => group_snapshot_id, isWide: true },
  {
    title: 'FROZEN MS',
    align: 'right',
    text: ({ frozen_ms }) => frozen_ms.toString(),
    sortBy: ({ frozen_ms }) => frozen_ms,
    isWide: true,
  },
];

/** The name of the volume, or the id of one that has been deleted. */
function volumeOf({ source_volume_id, source_volume_name }: Snapshot): string {
  return source_volume_name === '' ? source_volume_id : source_volume_name;
}

function stateOf({ ready }: Snapshot): string {
  return ready ? 'ready' : 'copying';
}

async function listSnapshots(
  session: Session,
  options: ListOptions & { readonly volume?: string; readonly pool?: string },
): Promise<void> {
  if (await session.isController()) return routed.listSnapshots(session, options);
  const sourceVolumeId =
    options.volume === undefined ? '' : await sourceIdOf(session, options.volume);
  const listing = {
    load: () => listAllSnapshots(session, { sourceVolumeId, pool: options.pool ?? '' }),
    columns,
    asJson: snapshotAsJson,
    whenEmpty: 'There are no snapshots; take one with: loopcsi snapshot create VOLUME NAME',
  };
  await showListOfPools(session, listing, options);
}

/** A volume that is not found may have been deleted; the argument is then taken as its id. */
async function sourceIdOf(session: Session, idOrName: string): Promise<string> {
  const { admin } = await session.driver();
  const { volume } = await admin.GetVolume({ volume_id: idOrName }).catch(() => ({ volume: null }));
  return volume?.volume_id ?? idOrName;
}

async function showSnapshot(session: Session, idOrName: string): Promise<void> {
  if (await session.isController()) return routed.showSnapshot(session, idOrName);
  const snapshot = await getSnapshot(session, idOrName);
  const readers = await listReaders(session, { kind: 'snapshot', id: snapshot.snapshot_id });
  await session.show({ ...snapshotAsJson(snapshot), readers: readers.json }, () =>
    formatFields(session.terminal, [
      ['Name', snapshot.name],
      ['Id', snapshot.snapshot_id],
      ['Volume snapshot', snapshotOwnerTextOf(snapshot)],
      ['Volume', snapshot.source_volume_id],
      ['Pool', snapshot.pool],
      ['Size', formatPromisedSize(snapshot.size_bytes)],
      ['Allocated', formatSize(snapshot.allocated_bytes)],
      ['Format', formatOf(snapshot)],
      ['Taken', dateOf(snapshot.created_at)?.toISOString() ?? ''],
      ['Frozen for', `${snapshot.frozen_ms} ms`],
      ['Group', snapshot.group_snapshot_id],
      ['State', stateOf(snapshot)],
      ['Copied by', readers.texts],
    ]),
  );
}

async function deleteSnapshots(
  session: Session,
  idsOrNames: readonly string[],
  options: { readonly yes?: boolean },
): Promise<void> {
  if (await session.isController()) return routed.deleteSnapshots(session, idsOrNames, options);
  const snapshots: Snapshot[] = [];
  for (const idOrName of idsOrNames) snapshots.push(await getSnapshot(session, idOrName));
  if (options.yes !== true && !(await confirmDelete(session, snapshots))) {
    throw new FailedError('nothing was deleted');
  }
  const { controller } = await session.driver();
  for (const { snapshot_id } of snapshots) await controller.DeleteSnapshot({ snapshot_id });
  const deleted = snapshots.map(({ snapshot_id: id, name }) => ({ id, name }));
  await session.show(deleted, () =>
    deleted.map(({ name }) => `Snapshot '${printable(name)}' was deleted.`).join('\n'),
  );
}

async function confirmDelete(session: Session, snapshots: readonly Snapshot[]): Promise<boolean> {
  const lines = snapshots.map(({ name, source_volume_id, created_at, pool }) => {
    const taken = dateOf(created_at)?.toISOString() ?? 'at an unknown time';
    return `  ${printable(name)}  of volume '${source_volume_id}', taken ${taken}, in pool '${pool}'`;
  });
  return session.terminal.confirm(`Delete ${count(snapshots.length, 'snapshot')}?`, [
    'These snapshots will be deleted:',
    ...lines,
  ]);
}
