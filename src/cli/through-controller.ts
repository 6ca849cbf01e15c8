/**
 * Volumes and snapshots of all nodes, through `loopcsi controller`: with the calls of CSI alone, because the Admin service of a driver is
 * never on the network.
 */
import type { Client } from '../csi/client.ts';
import type { Snapshot, Topology, Volume } from '../csi/types.ts';
import type { Driver } from './driver.ts';
import { FailedError, rephraseForCli, UsageError } from './errors.ts';
import { type ListOptions, showList } from './list.ts';
import { collectPages, type PageRequest, requireField } from './lookup.ts';
import { type Column, count, formatFields, formatPromisedSize } from './output.ts';
import { printable } from './printable.ts';
import { withProgress } from './progress.ts';
import { retryWhileBusy } from './retry-while-busy.ts';
import type { Session } from './session.ts';
import { waitUntilReady } from './snapshot-wait.ts';
import { dateOf } from './volume-format.ts';

type Controller = Client<'csi.v1.Controller'>;

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

/** Snapshots with their nodes: one that can be restored on every node has no topology, but the tag of its node in its id. */
async function withNodes(
  { nodes }: Driver,
  all: readonly Snapshot[],
): Promise<readonly Snapshot[]> {
  if (all.every(({ accessible_topology }) => accessible_topology.length > 0)) return all;
  const names = new Map((await nodes.ListNodes({})).nodes.map(({ tag, name }) => [tag, name]));
  return all.map((snapshot) => {
    if (snapshot.accessible_topology.length > 0) return snapshot;
    const node = names.get(snapshot.snapshot_id.slice(-8)) ?? '';
    return { ...snapshot, accessible_topology: [{ segments: { node } }] };
  });
}

/** What the commands need of volumes, and of snapshots. */
interface Kind<T> {
  readonly noun: 'volume' | 'snapshot';
  readonly idOf: (one: T) => string;
  readonly asJson: (one: T) => {
    readonly id: string;
    readonly name: string;
    readonly node: string;
  };
  readonly columns: readonly Column<T>[];
  readonly whenEmpty: string;
  /** What a deletion deletes, as the heading of the list to confirm. */
  readonly doomed: string;
  readonly get: (driver: Driver, id: string) => Promise<T | null>;
  readonly page: (
    driver: Driver,
    request: PageRequest & { readonly source_volume_id?: string },
  ) => Promise<{ entries: readonly T[]; next_token: string }>;
  readonly remove: (controller: Controller, id: string) => Promise<unknown>;
}

const volumes: Kind<Volume> = {
  noun: 'volume',
  idOf: ({ volume_id }) => volume_id,
  asJson: volumeAsJson,
  columns: volumeColumns,
  whenEmpty: 'No node has a volume yet; create one with: loopcsi volume create data --size 10Gi',
  doomed: 'These volumes will be deleted with all their data:',
  get: async ({ controller }, volume_id) =>
    (await controller.ControllerGetVolume({ volume_id })).volume,
  page: async ({ controller }, request) => {
    const { entries, next_token } = await controller.ListVolumes(request);
    return { entries: entries.flatMap(({ volume }) => volume ?? []), next_token };
  },
  remove: (controller, volume_id) => controller.DeleteVolume({ volume_id }),
};

const snapshots: Kind<Snapshot> = {
  noun: 'snapshot',
  idOf: ({ snapshot_id }) => snapshot_id,
  asJson: snapshotAsJson,
  columns: snapshotColumns,
  whenEmpty: 'No node has a snapshot; take one with: loopcsi snapshot create VOLUME NAME',
  doomed: 'These snapshots will be deleted:',
  get: async (driver, snapshot_id) => {
    const { snapshot } = await driver.controller.GetSnapshot({ snapshot_id });
    return (await withNodes(driver, snapshot === null ? [] : [snapshot]))[0] ?? null;
  },
  page: async (driver, request) => {
    const { entries, next_token } = await driver.controller.ListSnapshots(request);
    const all = entries.flatMap(({ snapshot }) => snapshot ?? []);
    return { entries: await withNodes(driver, all), next_token };
  },
  remove: (controller, snapshot_id) => controller.DeleteSnapshot({ snapshot_id }),
};

async function listAll<T>(session: Session, { page }: Kind<T>): Promise<readonly T[]> {
  const driver = await session.driver();
  return collectPages((request) => page(driver, request));
}

/** The one with this id, or the only one with this name. An id is asked for at its node alone, so that the others need not be there. */
async function find<T>(session: Session, kind: Kind<T>, idOrName: string): Promise<T> {
  const { noun, idOf } = kind;
  if (nameIn(idOrName) !== idOrName) {
    return requireField(await kind.get(await session.driver(), idOrName), noun);
  }
  const all = await listAll(session, kind);
  const [first, ...others] = all.filter((one) => nameIn(idOf(one)) === idOrName);
  if (first === undefined) throw new FailedError(`no node has a ${noun} '${printable(idOrName)}'`);
  if (others.length === 0) return first;
  const ids = [first, ...others].map(idOf).join(', ');
  throw new FailedError(
    `several nodes have a ${noun} '${printable(idOrName)}': name one by its id: ${ids}`,
  );
}

async function list<T>(session: Session, kind: Kind<T>, options: ListOptions): Promise<void> {
  const { columns, asJson, whenEmpty } = kind;
  const load = () => listAll(session, kind);
  await showList(session, { load, columns, asJson, whenEmpty }, options);
}

interface DeleteOptions {
  readonly yes?: boolean;
}

async function deleteAll<T>(
  session: Session,
  kind: Kind<T>,
  idsOrNames: readonly string[],
  { yes }: DeleteOptions,
): Promise<void> {
  const { noun, remove } = kind;
  const { controller } = await session.driver();
  const all: T[] = [];
  for (const idOrName of idsOrNames) all.push(await find(session, kind, idOrName));
  const deleted = all.map(kind.asJson).map(({ id, name, node }) => ({ id, name, node }));
  const lines = deleted.map(({ name, node }) => `  ${name}  on node '${node}'`);
  const question = `Delete ${count(all.length, noun)}?`;
  if (yes !== true && !(await session.terminal.confirm(question, [kind.doomed, ...lines])))
    throw new FailedError('nothing was deleted');
  for (const { id, name } of deleted) {
    await retryWhileBusy(session.terminal, `deleting '${name}'`, () => remove(controller, id));
    // Each deletion is printed at once, so that it is clear what was deleted if a later one fails.
    if (session.isText)
      session.terminal.print(`${noun === 'volume' ? 'Volume' : 'Snapshot'} '${name}' was deleted.`);
  }
  if (!session.isText) await session.show(deleted, () => '');
}

export async function listVolumes(
  session: Session,
  claim: string | undefined,
  options: ListOptions & { readonly pool?: string },
): Promise<void> {
  if (claim !== undefined)
    throw new UsageError(
      `'${printable(claim)}': a controller does not know the claims of volumes; use kubectl loopcsi volumes`,
    );
  const { pool } = options;
  const page: typeof volumes.page = async (driver, request) => {
    const { entries, next_token } = await volumes.page(driver, request);
    return {
      entries: entries.filter((one) => pool === undefined || volumeAsJson(one).pool === pool),
      next_token,
    };
  };
  await list(session, { ...volumes, page }, options);
}

export async function listSnapshots(
  session: Session,
  options: ListOptions & { readonly volume?: string; readonly pool?: string },
): Promise<void> {
  const { volume, pool } = options;
  if (pool !== undefined)
    throw new UsageError(
      "--pool: a controller does not know the pools of snapshots; use the driver's socket on their node",
    );
  const source_volume_id = volume === undefined ? '' : await sourceIdOf(session, volume);
  const page: typeof snapshots.page = (driver, request) =>
    snapshots.page(driver, { ...request, source_volume_id });
  await list(session, { ...snapshots, page }, options);
}

/** An id may be that of a volume that was deleted. */
async function sourceIdOf(session: Session, idOrName: string): Promise<string> {
  if (nameIn(idOrName) !== idOrName) return idOrName;
  return (await find(session, volumes, idOrName)).volume_id;
}

export const deleteVolumes = (
  session: Session,
  idsOrNames: readonly string[],
  options: DeleteOptions,
): Promise<void> => deleteAll(session, volumes, idsOrNames, options);

export const deleteSnapshots = (
  session: Session,
  idsOrNames: readonly string[],
  options: DeleteOptions,
): Promise<void> => deleteAll(session, snapshots, idsOrNames, options);

export async function showVolume(session: Session, idOrName: string): Promise<void> {
  const volume = await find(session, volumes, idOrName);
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
  const { volume_id, capacity_bytes } = await find(session, volumes, idOrName);
  const required_bytes = newSizeOf(capacity_bytes);
  await retryWhileBusy(session.terminal, `growing '${nameIn(volume_id)}'`, () =>
    controller.ControllerExpandVolume({
      volume_id,
      capacity_range: { required_bytes, limit_bytes: 0n },
    }),
  );
  const grown = await find(session, volumes, volume_id);
  await session.show(
    volumeAsJson(grown),
    () =>
      `The size of volume '${nameIn(volume_id)}' is now ${formatPromisedSize(grown.capacity_bytes)}.`,
  );
}

export async function createSnapshot(
  session: Session,
  volumeIdOrName: string,
  name: string,
  options: { readonly freeze?: boolean; readonly wait: boolean },
): Promise<void> {
  const { controller } = await session.driver();
  const { volume_id: source_volume_id } = await find(session, volumes, volumeIdOrName);
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
  const taken = await retryWhileBusy(session.terminal, `snapshot '${name}'`, take);
  const [snapshot = taken] = options.wait
    ? [await whenReady(session, taken)]
    : await withNodes(await session.driver(), [taken]);
  const { ready, node, id } = snapshotAsJson(snapshot);
  await session.show(
    snapshotAsJson(snapshot),
    () =>
      `Snapshot '${name}' ${ready ? 'was created' : 'is being copied'} on node '${node}', id ${id}.`,
  );
}

/** Returns the snapshot once its copy is complete. */
async function whenReady(session: Session, taken: Snapshot): Promise<Snapshot> {
  const { snapshot_id, ready_to_use } = taken;
  if (!ready_to_use) {
    await withProgress(session.terminal, `snapshot '${nameIn(snapshot_id)}'`, (report) =>
      waitUntilReady(session, snapshot_id, report),
    );
  }
  return find(session, snapshots, snapshot_id);
}

export async function showSnapshot(session: Session, idOrName: string): Promise<void> {
  const snapshot = await find(session, snapshots, idOrName);
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
