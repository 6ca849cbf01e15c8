import type { Command } from 'commander';
import type { Snapshot } from '../csi/admin-types.ts';
import { FailedError, inOwnWords } from './errors.ts';
import { allSnapshots, findSnapshot, findVolume, lookAtCopy } from './lookup.ts';
import { type Column, count, formatFields, formatSize, formatTable } from './output.ts';
import { withProgress } from './progress.ts';
import type { Act, Session } from './session.ts';
import { addDiffCommand } from './snapshot-diff.ts';
import { addNewOptions, createVolume, type NewOptions } from './volume-create.ts';
import { dateOf, formatOf } from './volume-format.ts';

export function addSnapshotCommands(program: Command, act: Act): void {
  const snapshot = program
    .command('snapshot')
    .description('keep what a volume holds now, and make volumes of it');
  snapshot
    .command('create')
    .description('take a snapshot; a mounted filesystem stands still for the cut')
    .argument('<volume>', 'id or name')
    .argument('<name>')
    .option('--freeze', 'on a pool that must copy: a mounted volume may stand still all that time')
    .option('--no-wait', 'do not wait until a long copy is done')
    .action(act(createSnapshot));
  snapshot
    .command('list')
    .alias('ls')
    .description('all snapshots, by id')
    .option('--volume <VOLUME>', 'only those of one volume, by its id or name')
    .option('--pool <NAME>', 'only those of one pool')
    .action(act(listSnapshots));
  snapshot
    .command('get')
    .description('everything about one snapshot')
    .argument('<snapshot>', 'id or name')
    .action(act(getSnapshot));
  addNewOptions(
    snapshot
      .command('restore')
      .description('make a new volume of a snapshot')
      .argument('<snapshot>', 'id or name')
      .argument('<new-volume>', 'name of the new volume'),
  ).action(
    act(async (session: Session, source: string, name: string, options: NewOptions) =>
      createVolume(session, name, { ...options, from: `snapshot:${source}` }),
    ),
  );
  addDiffCommand(snapshot, act);
  snapshot
    .command('delete')
    .alias('rm')
    .description('delete snapshots; volumes made of them stay')
    .argument('<snapshot...>', 'ids or names')
    .option('--yes', 'do not ask')
    .action(act(deleteSnapshots));
}

/** Keys as docs/command-line.md lists them. */
export function snapshotAsJson(snapshot: Snapshot) {
  return {
    id: snapshot.snapshot_id,
    name: snapshot.name,
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
  const volume = await findVolume(session, volumeIdOrName);
  const { volume_id } = volume;
  const { controller } = await session.driver();
  const parameters: Readonly<Record<string, string>> =
    options.freeze === true ? { freeze: 'yes' } : {};
  const snapshot = await withProgress(
    session.terminal,
    `snapshot '${name}'`,
    async (tell) => {
      const { snapshot: made } = await inOwnWords(
        volume,
        () => controller.CreateSnapshot({ source_volume_id: volume_id, name, parameters }),
        '--freeze',
      );
      const id = made?.snapshot_id ?? name;
      if (made?.ready_to_use !== true && options.wait) await waitUntilReady(session, id, tell);
      return findSnapshot(session, id);
    },
    () => lookAtCopy(session, { snapshot_name: name }),
  );
  await session.show(snapshotAsJson(snapshot), () => createdWords(snapshot));
}

function createdWords(snapshot: Snapshot): string {
  const frozen =
    snapshot.frozen_ms > 0n ? ` The volume stood still for ${snapshot.frozen_ms} ms.` : '';
  const state = snapshot.ready ? 'is made' : 'is being copied';
  return [
    `Snapshot '${snapshot.name}' ${state}: ${formatSize(snapshot.size_bytes)} ${formatOf(snapshot)}, in pool '${snapshot.pool}'.${frozen}`,
    `Make a volume of it with: loopcsi snapshot restore ${snapshot.name} NEW-NAME`,
  ].join('\n');
}

async function waitUntilReady(
  session: Session,
  snapshotId: string,
  tell: (progress: { doneBytes: bigint; totalBytes: bigint }) => void,
): Promise<void> {
  const { admin } = await session.driver();
  for await (const state of admin.WatchSnapshot({ snapshot_id: snapshotId })) {
    tell({ doneBytes: state.done_bytes, totalBytes: state.total_bytes });
    if (state.error !== '') throw new FailedError(`the copy failed: ${state.error}`);
    if (state.ready) return;
  }
  throw new FailedError(
    `the driver stopped telling about snapshot '${snapshotId}'; look at it with 'loopcsi snapshot get'`,
  );
}

const columns: readonly Column<Snapshot>[] = [
  { title: 'NAME', text: ({ name }) => name },
  { title: 'OF VOLUME', text: ({ source_volume_id }) => source_volume_id },
  { title: 'SIZE', align: 'right', text: ({ size_bytes }) => formatSize(size_bytes) },
  {
    title: 'ALLOCATED',
    align: 'right',
    text: ({ allocated_bytes }) => formatSize(allocated_bytes),
  },
  { title: 'FORMAT', text: formatOf },
  { title: 'POOL', text: ({ pool }) => pool },
  {
    title: 'TAKEN',
    text: ({ created_at }) => dateOf(created_at)?.toISOString().slice(0, 19) ?? '',
  },
  { title: 'STATE', text: ({ ready }) => (ready ? 'ready' : 'copying') },
];

async function listSnapshots(
  session: Session,
  options: { readonly volume?: string; readonly pool?: string },
): Promise<void> {
  const sourceVolumeId =
    options.volume === undefined ? '' : await sourceIdOf(session, options.volume);
  const snapshots = await allSnapshots(session, { sourceVolumeId, pool: options.pool ?? '' });
  await session.show(snapshots.map(snapshotAsJson), () =>
    snapshots.length === 0 && session.terminal.isInteractive
      ? 'There are no snapshots; take one with: loopcsi snapshot create VOLUME NAME'
      : formatTable(session.terminal, snapshots, columns),
  );
}

/** The volume itself may be gone; then what was typed is taken for its id. */
async function sourceIdOf(session: Session, idOrName: string): Promise<string> {
  const { admin } = await session.driver();
  const { volume } = await admin.GetVolume({ volume_id: idOrName }).catch(() => ({ volume: null }));
  return volume?.volume_id ?? idOrName;
}

async function getSnapshot(session: Session, idOrName: string): Promise<void> {
  const snapshot = await findSnapshot(session, idOrName);
  await session.show(snapshotAsJson(snapshot), () =>
    formatFields(session.terminal, [
      ['Name', snapshot.name],
      ['Id', snapshot.snapshot_id],
      ['Of volume', snapshot.source_volume_id],
      ['Pool', snapshot.pool],
      ['Size', formatSize(snapshot.size_bytes)],
      ['Allocated', formatSize(snapshot.allocated_bytes)],
      ['Format', formatOf(snapshot)],
      ['Taken', dateOf(snapshot.created_at)?.toISOString() ?? ''],
      ['Stood still', `${snapshot.frozen_ms} ms`],
      ['Group', snapshot.group_snapshot_id],
      ['State', snapshot.ready ? 'ready' : 'copying'],
    ]),
  );
}

async function deleteSnapshots(
  session: Session,
  idsOrNames: readonly string[],
  options: { readonly yes?: boolean },
): Promise<void> {
  const snapshots: Snapshot[] = [];
  for (const idOrName of idsOrNames) snapshots.push(await findSnapshot(session, idOrName));
  if (options.yes !== true && !(await confirmDelete(session, snapshots))) {
    throw new FailedError('nothing was deleted');
  }
  const { controller } = await session.driver();
  for (const { snapshot_id } of snapshots) await controller.DeleteSnapshot({ snapshot_id });
  const deleted = snapshots.map(({ snapshot_id: id, name }) => ({ id, name }));
  await session.show(deleted, () =>
    deleted.map(({ name }) => `Snapshot '${name}' is deleted.`).join('\n'),
  );
}

async function confirmDelete(session: Session, snapshots: readonly Snapshot[]): Promise<boolean> {
  const { terminal } = session;
  const lines = snapshots.map(({ name, source_volume_id, created_at, pool }) => {
    const taken = dateOf(created_at)?.toISOString() ?? 'an unknown time';
    return `  ${name}  of volume '${source_volume_id}', taken ${taken}, in pool '${pool}'`;
  });
  return terminal.confirm(`Delete ${count(snapshots.length, 'snapshot')}?`, [
    'These snapshots will be deleted:',
    ...lines,
  ]);
}
