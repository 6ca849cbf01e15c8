/** `loopcsi snapshot group`: snapshots of several volumes at one point in time. */
import type { Command } from 'commander';
import type { GroupSnapshot, Snapshot, Volume } from '../csi/admin-types.ts';
import { FailedError, rephraseForCli } from './errors.ts';
import { addListOptions, type ListOptions } from './list.ts';
import { showListOfPools } from './list-of-pools.ts';
import { getSnapshot, getVolume } from './lookup.ts';
import { requireNewName } from './new-name.ts';
import { type Column, count, formatFields, formatPromisedSize } from './output.ts';
import { groupOwnerTextOf, snapshotOwnerAsJson } from './owner-format.ts';
import { printable, shellWordOf } from './printable.ts';
import { type Progress, withProgress } from './progress.ts';
import type { Session } from './session.ts';
import { waitUntilReady } from './snapshot-wait.ts';
import { dateOf, formatTime } from './volume-format.ts';

export function addGroupCommands(snapshot: Command, session: Session): void {
  const group = snapshot
    .command('group')
    .description('take snapshots of several volumes at one point in time');
  group
    .command('create')
    .description('take a snapshot of each volume, all at one point in time')
    .argument('<name>')
    .argument('<volume...>', 'ids, names or claims')
    .option(
      '--freeze',
      'in a pool that cannot share blocks: keep mounted volumes frozen for the whole copy',
    )
    .option('--no-wait', 'do not wait for a long copy')
    .action(createGroup.bind(null, session));
  const list = group
    .command('list')
    .alias('ls')
    .description('list all group snapshots, by id')
    .action(listGroups.bind(null, session));
  addListOptions(list, columns);
  group
    .command('get')
    .description('show a group snapshot and its members')
    .argument('<group>', 'id or name')
    .action(showGroup.bind(null, session));
  group
    .command('delete')
    .alias('rm')
    .description('delete a group snapshot with all its members')
    .argument('<group>', 'id or name')
    .option('-y, --yes', 'do not ask for confirmation')
    .action(deleteGroup.bind(null, session));
}

const columns: readonly Column<GroupSnapshot>[] = [
  { title: 'NAME', text: ({ name }) => name },
  { title: 'VOLUMEGROUPSNAPSHOT', text: groupOwnerTextOf },
  {
    title: 'SNAPSHOTS',
    align: 'right',
    text: ({ snapshot_ids }) => snapshot_ids.length.toString(),
    sortBy: ({ snapshot_ids }) => snapshot_ids.length,
  },
  { title: 'TAKEN', text: ({ created_at }) => formatTime(created_at) },
  {
    title: 'FROZEN MS',
    align: 'right',
    text: ({ frozen_ms }) => frozen_ms.toString(),
    sortBy: ({ frozen_ms }) => frozen_ms,
  },
  { title: 'VOLUMES', text: ({ source_volume_ids: ids }) => ids.join(','), shrinks: true },
  { title: 'ID', text: ({ group_snapshot_id }) => group_snapshot_id, isWide: true },
];

/** docs/command-line.md lists the keys. */
export function groupAsJson(group: GroupSnapshot) {
  return {
    id: group.group_snapshot_id,
    name: group.name,
    owner: snapshotOwnerAsJson(group),
    createdAt: dateOf(group.created_at)?.toISOString() ?? null,
    frozenMs: group.frozen_ms,
    snapshotIds: group.snapshot_ids,
    sourceVolumeIds: group.source_volume_ids,
  };
}

async function allGroups(session: Session): Promise<readonly GroupSnapshot[]> {
  const { admin } = await session.driver();
  return (await admin.ListGroupSnapshots({})).group_snapshots;
}

async function getGroup(session: Session, idOrName: string): Promise<GroupSnapshot> {
  const groups = await allGroups(session);
  const found =
    groups.find(({ group_snapshot_id: id }) => id === idOrName) ??
    groups.find(({ name }) => name === idOrName);
  if (found !== undefined) return found;
  throw new FailedError(
    `group snapshot '${printable(idOrName)}' does not exist; list the existing ones with: loopcsi snapshot group list`,
  );
}

async function createGroup(
  session: Session,
  name: string,
  idsOrNames: readonly string[],
  options: { readonly freeze?: boolean; readonly wait: boolean },
): Promise<void> {
  requireNewName(name);
  const volumes: Volume[] = [];
  for (const one of idsOrNames) volumes.push(await getVolume(session, one));
  const { groups } = await session.driver();
  const request = {
    name,
    source_volume_ids: volumes.map(({ volume_id }) => volume_id),
    parameters: options.freeze === true ? { freeze: 'yes' } : {},
  };
  const created = await withProgress(
    session.terminal,
    `group '${printable(name)}'`,
    async (report) => {
      const { group_snapshot: made } = await rephraseForCli(
        volumes,
        () => groups.CreateVolumeGroupSnapshot(request),
        '--freeze',
      );
      const group = await getGroup(session, made?.group_snapshot_id ?? name);
      if (options.wait) await waitForMembers(session, group, report);
      return group;
    },
  );
  const [first] = created.snapshot_ids;
  await session.show(groupAsJson(created), async () =>
    [
      `Group snapshot '${printable(created.name)}' was created: ${count(created.snapshot_ids.length, 'snapshot')} of ${volumes.map((one) => `'${printable(one.name)}'`).join(', ')}.`,
      `Restore one with: loopcsi snapshot restore ${first === undefined ? 'SNAPSHOT' : await memberName(session, first)} NEW-VOLUME`,
    ].join('\n'),
  );
}

async function memberName(session: Session, id: string): Promise<string> {
  const { name } = await getSnapshot(session, id);
  return shellWordOf({ name, id });
}

async function waitForMembers(
  session: Session,
  group: GroupSnapshot,
  report: (progress: Progress) => void,
): Promise<void> {
  for (const id of group.snapshot_ids) {
    const { ready } = await getSnapshot(session, id);
    if (!ready) await waitUntilReady(session, id, report);
  }
}

async function listGroups(session: Session, options: ListOptions): Promise<void> {
  const listing = {
    load: () => allGroups(session),
    columns,
    asJson: groupAsJson,
    whenEmpty:
      'There are no group snapshots; take one with: loopcsi snapshot group create NAME VOLUME...',
  };
  await showListOfPools(session, listing, options);
}

async function showGroup(session: Session, idOrName: string): Promise<void> {
  const group = await getGroup(session, idOrName);
  const members: Snapshot[] = [];
  for (const id of group.snapshot_ids) members.push(await getSnapshot(session, id));
  await session.show(groupAsJson(group), () =>
    formatFields(session.terminal, [
      ['Name', group.name],
      ['Id', group.group_snapshot_id],
      ['Volume group snapshot', groupOwnerTextOf(group)],
      ['Taken', formatTime(group.created_at)],
      ['Frozen for', `${group.frozen_ms} ms`],
      ['Snapshots', members.map(describeMember)],
    ]),
  );
}

function describeMember(snapshot: Snapshot): string {
  const { name, source_volume_id, source_volume_name, size_bytes, ready, pool } = snapshot;
  const volume = source_volume_name === '' ? source_volume_id : source_volume_name;
  return `${name}: ${formatPromisedSize(size_bytes)} of '${volume}', in pool '${pool}', ${ready ? 'ready' : 'copying'}`;
}

async function deleteGroup(
  session: Session,
  idOrName: string,
  options: { readonly yes?: boolean },
): Promise<void> {
  const group = await getGroup(session, idOrName);
  const { group_snapshot_id, snapshot_ids, name } = group;
  const shown = printable(name);
  const isConfirmed =
    options.yes === true ||
    (await session.terminal.confirm(`Delete group snapshot '${shown}'?`, [
      'These snapshots will be deleted:',
      ...snapshot_ids.map((id) => `  ${id}`),
    ]));
  if (!isConfirmed) throw new FailedError('nothing was deleted');
  const { groups } = await session.driver();
  await groups.DeleteVolumeGroupSnapshot({ group_snapshot_id, snapshot_ids });
  await session.show(
    [{ id: group_snapshot_id, name }],
    () => `Group snapshot '${shown}' was deleted, with ${count(snapshot_ids.length, 'snapshot')}.`,
  );
}
