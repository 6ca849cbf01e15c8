/**
 * Volumes and snapshots of all nodes, through `loopcsi controller`: with the calls of CSI alone, because the Admin service of a driver is
 * never on the network.
 */
import type { Snapshot, Topology, Volume } from '../csi/types.ts';
import { FailedError, rephraseForCli } from './errors.ts';
import { type ListOptions, showList } from './list.ts';
import { collectPages, requireField } from './lookup.ts';
import { type Column, count, formatFields, formatPromisedSize } from './output.ts';
import { printable } from './printable.ts';
import { retryWhileBusy } from './retry-while-busy.ts';
import type { Session } from './session.ts';
import { dateOf } from './volume-format.ts';

/** The name in an id; a name that is no safe file name is only known as its hash. */
function nameIn(id: string): string {
  return id.replace(/\.[0-9a-f]{8}$/, '');
}

function nodeIn([topology]: readonly Topology[]): string {
  return Object.values(topology?.segments ?? {})[0] ?? '';
}

function volumeAsJson(volume: Volume) {
  return {
    id: volume.volume_id,
    name: nameIn(volume.volume_id),
    node: nodeIn(volume.accessible_topology),
    pool: volume.volume_context['pool'] ?? null,
    sizeBytes: volume.capacity_bytes,
  };
}

const volumeColumns: readonly Column<Volume>[] = [
  { title: 'NAME', text: ({ volume_id }) => nameIn(volume_id) },
  {
    title: 'SIZE',
    align: 'right',
    text: ({ capacity_bytes }) => formatPromisedSize(capacity_bytes),
    sortBy: ({ capacity_bytes }) => capacity_bytes,
  },
  { title: 'NODE', text: ({ accessible_topology }) => nodeIn(accessible_topology) },
  { title: 'POOL', text: ({ volume_context }) => volume_context['pool'] ?? '' },
  { title: 'ID', text: ({ volume_id }) => volume_id },
];

function snapshotAsJson(snapshot: Snapshot) {
  return {
    id: snapshot.snapshot_id,
    name: nameIn(snapshot.snapshot_id),
    node: nodeIn(snapshot.accessible_topology),
    sourceVolumeId: snapshot.source_volume_id,
    sizeBytes: snapshot.size_bytes,
    createdAt: dateOf(snapshot.creation_time)?.toISOString() ?? null,
    ready: snapshot.ready_to_use,
  };
}

const snapshotColumns: readonly Column<Snapshot>[] = [
  { title: 'NAME', text: ({ snapshot_id }) => nameIn(snapshot_id) },
  { title: 'VOLUME', text: ({ source_volume_id }) => source_volume_id },
  {
    title: 'SIZE',
    align: 'right',
    text: ({ size_bytes }) => formatPromisedSize(size_bytes),
    sortBy: ({ size_bytes }) => size_bytes,
  },
  { title: 'NODE', text: ({ accessible_topology }) => nodeIn(accessible_topology) },
  { title: 'STATE', text: ({ ready_to_use }) => (ready_to_use ? 'ready' : 'copying') },
  { title: 'ID', text: ({ snapshot_id }) => snapshot_id },
];

async function allVolumes(session: Session): Promise<readonly Volume[]> {
  const { controller } = await session.driver();
  return collectPages(async (page) => {
    const { entries, next_token } = await controller.ListVolumes(page);
    return { entries: entries.flatMap(({ volume }) => volume ?? []), next_token };
  });
}

async function allSnapshots(session: Session): Promise<readonly Snapshot[]> {
  const { controller } = await session.driver();
  return collectPages(async (page) => {
    const { entries, next_token } = await controller.ListSnapshots(page);
    return { entries: entries.flatMap(({ snapshot }) => snapshot ?? []), next_token };
  });
}

/** The one with this id, or the only one with this name. */
function findOne<T>(
  all: readonly T[],
  { idOf, kind, idOrName }: { idOf: (one: T) => string; kind: string; idOrName: string },
): T {
  const exact = all.find((one) => idOf(one) === idOrName);
  if (exact !== undefined) return exact;
  const [first, ...others] = all.filter((one) => nameIn(idOf(one)) === idOrName);
  if (first === undefined) throw new FailedError(`no node has a ${kind} '${printable(idOrName)}'`);
  if (others.length === 0) return first;
  const ids = [first, ...others].map(idOf).join(', ');
  throw new FailedError(
    `several nodes have a ${kind} '${printable(idOrName)}': name one by its id: ${ids}`,
  );
}

/** An id is asked for at its node alone, so that the others need not be there. */
async function findVolume(session: Session, idOrName: string): Promise<Volume> {
  const { controller } = await session.driver();
  if (nameIn(idOrName) !== idOrName) {
    const { volume } = await controller.ControllerGetVolume({ volume_id: idOrName });
    return requireField(volume, 'volume');
  }
  const idOf = ({ volume_id }: Volume): string => volume_id;
  return findOne(await allVolumes(session), { idOf, kind: 'volume', idOrName });
}

async function findSnapshot(session: Session, idOrName: string): Promise<Snapshot> {
  const { controller } = await session.driver();
  if (nameIn(idOrName) !== idOrName) {
    const { snapshot } = await controller.GetSnapshot({ snapshot_id: idOrName });
    return requireField(snapshot, 'snapshot');
  }
  const idOf = ({ snapshot_id }: Snapshot): string => snapshot_id;
  return findOne(await allSnapshots(session), { idOf, kind: 'snapshot', idOrName });
}

export async function listVolumes(session: Session, options: ListOptions): Promise<void> {
  const listing = {
    load: () => allVolumes(session),
    columns: volumeColumns,
    asJson: volumeAsJson,
    whenEmpty: 'No node has a volume yet; create one with: loopcsi volume create data --size 10Gi',
  };
  await showList(session, listing, options);
}

export async function listSnapshots(session: Session, options: ListOptions): Promise<void> {
  const listing = {
    load: () => allSnapshots(session),
    columns: snapshotColumns,
    asJson: snapshotAsJson,
    whenEmpty: 'No node has a snapshot; take one with: loopcsi snapshot create VOLUME NAME',
  };
  await showList(session, listing, options);
}

export async function showVolume(session: Session, idOrName: string): Promise<void> {
  const volume = await findVolume(session, idOrName);
  const { id, name, node, pool, sizeBytes } = volumeAsJson(volume);
  await session.show(volumeAsJson(volume), () =>
    formatFields(session.terminal, [
      ['Name', name],
      ['Id', id],
      ['Node', node],
      ['Pool', pool ?? ''],
      ['Size', formatPromisedSize(sizeBytes)],
    ]),
  );
}

export async function showCreated(session: Session, volume: Volume): Promise<void> {
  const { id, name, node, sizeBytes } = volumeAsJson(volume);
  await session.show(
    volumeAsJson(volume),
    () =>
      `Volume '${name}' is on node '${node}': ${formatPromisedSize(sizeBytes)}, id ${id}. Mount it there.`,
  );
}

export async function expandVolume(
  session: Session,
  idOrName: string,
  newSizeOf: (sizeBytes: bigint) => bigint,
): Promise<void> {
  const { controller } = await session.driver();
  const { volume_id, capacity_bytes } = await findVolume(session, idOrName);
  const required_bytes = newSizeOf(capacity_bytes);
  await retryWhileBusy(session.terminal, `growing '${nameIn(volume_id)}'`, () =>
    controller.ControllerExpandVolume({
      volume_id,
      capacity_range: { required_bytes, limit_bytes: 0n },
    }),
  );
  const grown = await findVolume(session, volume_id);
  await session.show(
    volumeAsJson(grown),
    () =>
      `The size of volume '${nameIn(volume_id)}' is now ${formatPromisedSize(grown.capacity_bytes)}.`,
  );
}

export async function deleteVolumes(
  session: Session,
  idsOrNames: readonly string[],
  { yes }: { readonly yes?: boolean },
): Promise<void> {
  const { controller } = await session.driver();
  const all: Volume[] = [];
  for (const idOrName of idsOrNames) all.push(await findVolume(session, idOrName));
  const deleted = all.map(volumeAsJson).map(({ id, name, node }) => ({ id, name, node }));
  await requireConfirmed(session, yes, {
    question: `Delete ${count(all.length, 'volume')}?`,
    lines: ['These volumes will be deleted with all their data:', ...deleted.map(lineOf)],
  });
  for (const { id, name } of deleted) {
    await retryWhileBusy(session.terminal, `deleting '${name}'`, () =>
      controller.DeleteVolume({ volume_id: id }),
    );
    if (session.isText) session.terminal.print(`Volume '${name}' was deleted.`);
  }
  if (!session.isText) await session.show(deleted, () => '');
}

export async function createSnapshot(
  session: Session,
  volumeIdOrName: string,
  name: string,
  options: { readonly freeze?: boolean; readonly wait: boolean },
): Promise<void> {
  const { controller } = await session.driver();
  const { volume_id: source_volume_id } = await findVolume(session, volumeIdOrName);
  const parameters: Readonly<Record<string, string>> =
    options.freeze === true ? { freeze: 'yes' } : {};
  const take = async (): Promise<Snapshot> => {
    const volume = { volume_id: source_volume_id, name: nameIn(source_volume_id) };
    const { snapshot } = await rephraseForCli(
      volume,
      () => controller.CreateSnapshot({ name, source_volume_id, parameters }),
      '--freeze',
    );
    return requireField(snapshot, 'snapshot');
  };
  let snapshot = await retryWhileBusy(session.terminal, `snapshot '${name}'`, take);
  while (options.wait && !snapshot.ready_to_use) {
    await new Promise((resolve) => setTimeout(resolve, 500));
    snapshot = await findSnapshot(session, snapshot.snapshot_id);
  }
  const { ready, node, id } = snapshotAsJson(snapshot);
  await session.show(
    snapshotAsJson(snapshot),
    () =>
      `Snapshot '${name}' ${ready ? 'was created' : 'is being copied'} on node '${node}', id ${id}.`,
  );
}

export async function showSnapshot(session: Session, idOrName: string): Promise<void> {
  const snapshot = await findSnapshot(session, idOrName);
  const { id, name, node, sourceVolumeId, sizeBytes, createdAt, ready } = snapshotAsJson(snapshot);
  await session.show(snapshotAsJson(snapshot), () =>
    formatFields(session.terminal, [
      ['Name', name],
      ['Id', id],
      ['Volume', sourceVolumeId],
      ['Node', node],
      ['Size', formatPromisedSize(sizeBytes)],
      ['Taken', createdAt ?? ''],
      ['State', ready ? 'ready' : 'copying'],
    ]),
  );
}

export async function deleteSnapshots(
  session: Session,
  idsOrNames: readonly string[],
  { yes }: { readonly yes?: boolean },
): Promise<void> {
  const { controller } = await session.driver();
  const all: Snapshot[] = [];
  for (const idOrName of idsOrNames) all.push(await findSnapshot(session, idOrName));
  const deleted = all.map(snapshotAsJson).map(({ id, name, node }) => ({ id, name, node }));
  await requireConfirmed(session, yes, {
    question: `Delete ${count(all.length, 'snapshot')}?`,
    lines: ['These snapshots will be deleted:', ...deleted.map(lineOf)],
  });
  for (const { id } of deleted) await controller.DeleteSnapshot({ snapshot_id: id });
  await session.show(deleted, () =>
    deleted.map(({ name }) => `Snapshot '${name}' was deleted.`).join('\n'),
  );
}

function lineOf({ name, node }: { readonly name: string; readonly node: string }): string {
  return `  ${name}  on node '${node}'`;
}

async function requireConfirmed(
  session: Session,
  yes: boolean | undefined,
  { question, lines }: { readonly question: string; readonly lines: readonly string[] },
): Promise<void> {
  if (yes === true || (await session.terminal.confirm(question, lines))) return;
  throw new FailedError('nothing was deleted');
}
