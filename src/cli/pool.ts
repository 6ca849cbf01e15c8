import { resolve } from 'node:path';
import type { Command } from 'commander';
import type { Pool } from '../csi/admin-types.ts';
import { NoDriverError } from './driver.ts';
import { FailedError, UsageError } from './errors.ts';
import { type Column, count, formatSize, formatTable } from './output.ts';
import { sizeOf } from './parse-size.ts';
import { forgetAlone, initPoolAlone, type Remembered } from './pool-offline.ts';
import type { Act, Session } from './session.ts';

export function addPoolCommands(program: Command, act: Act): void {
  const pool = program.command('pool').description('directories that volumes are kept in');
  pool
    .command('list')
    .alias('ls')
    .description('pools of the running driver, with their room')
    .action(act(listPools));
  pool
    .command('init')
    .description('make a directory a pool of this node; works without a running driver too')
    .argument('<NAME=DIR>', "name and directory; NAME alone for one the driver's options name")
    .option(
      '--reflink <SIZE>',
      'lay the pool into an XFS image of that size, so that copies share blocks',
    )
    .option(
      '--force',
      'also on tmpfs or overlayfs, where volumes are lost with the machine or container',
    )
    .option('--node-id <ID>', 'without a driver: the --node-id it will be started with')
    .option('--state-dir <DIR>', 'without a driver: the --state-dir it will be started with')
    .action(act(initPool));
  pool
    .command('adopt')
    .description("take over a pool of another node; its volumes get this node's ids")
    .argument('<pool>')
    .action(act(adoptPool));
  pool
    .command('forget')
    .description(
      'give up a pool that was seen at a directory and is lost; a new one may be made there',
    )
    .argument('<pool>', "its name, or NAME=DIR for one that the driver's options do not name")
    .option('--yes', 'do not ask')
    .option('--state-dir <DIR>', 'without a driver: the --state-dir it will be started with')
    .action(act(forgetPool));
  pool
    .command('recover')
    .description('write the lost pool.json of a pool whose volumes are there')
    .argument('<pool>')
    .action(act(recoverPool));
  pool
    .command('grow')
    .description('enlarge a pool that lies in an image of its own (--reflink)')
    .argument('<pool>')
    .requiredOption('--size <SIZE>', 'new size of its image')
    .action(act(growPool));
}

const columns: readonly Column<Pool>[] = [
  { title: 'NAME', text: ({ name }) => name },
  { title: 'DIRECTORY', text: ({ path }) => path },
  { title: 'ON', text: ({ fs_type, embedded }) => (embedded ? `${fs_type} image` : fs_type) },
  { title: 'FREE', align: 'right', text: (pool) => sizeIfServed(pool, pool.free_bytes) },
  { title: 'OF', align: 'right', text: (pool) => sizeIfServed(pool, pool.total_bytes) },
  { title: 'PROMISED', align: 'right', text: (pool) => sizeIfServed(pool, pool.promised_bytes) },
  { title: 'ROOM', align: 'right', text: (pool) => sizeIfServed(pool, pool.room_bytes) },
  { title: 'VOLUMES', align: 'right', text: ({ volume_count: n }) => n.toString() },
  { title: 'SNAPSHOTS', align: 'right', text: ({ snapshot_count: n }) => n.toString() },
  { title: 'COPIES', text: ({ abilities }) => copiesOf(abilities) },
  { title: 'STATE', text: ({ state }) => (state === 'SERVED' ? 'served' : 'unavailable') },
];

function sizeIfServed({ state }: Pool, bytes: bigint): string {
  return state === 'SERVED' ? formatSize(bytes) : '';
}

function copiesOf(abilities: Pool['abilities']): string {
  if (abilities === null) return '';
  return abilities.reflink ? 'share blocks' : 'copy data';
}

async function listPools(session: Session): Promise<void> {
  const { admin } = await session.driver();
  const { pools } = await admin.ListPools({});
  await session.show(pools.map(poolAsJson), async () => {
    const table = await formatTable(session.terminal, pools, columns);
    const away = pools.filter(({ reason }) => reason !== '').map(({ reason }) => reason);
    return [table, ...away.map((reason) => session.terminal.style('yellow', reason))].join('\n');
  });
}

/** Keys as docs/command-line.md lists them. */
export function poolAsJson(pool: Pool) {
  return {
    name: pool.name,
    path: pool.path,
    state: pool.state === 'SERVED' ? 'served' : 'unavailable',
    reason: pool.reason === '' ? null : pool.reason,
    filesystem: pool.fs_type === '' ? null : pool.fs_type,
    abilities:
      pool.abilities === null
        ? null
        : {
            reflink: pool.abilities.reflink,
            directIo: pool.abilities.direct_io,
            discard: pool.abilities.discard,
          },
    totalBytes: pool.total_bytes,
    freeBytes: pool.free_bytes,
    promisedBytes: pool.promised_bytes,
    roomBytes: pool.room_bytes,
    allocatedBytes: pool.allocated_bytes,
    trashBytes: pool.trash_bytes,
    reserveBytes: pool.reserve_bytes,
    overcommit: pool.overcommit,
    volumeCount: pool.volume_count,
    snapshotCount: pool.snapshot_count,
    nodeTag: pool.node_tag === '' ? null : pool.node_tag,
    uuid: pool.uuid === '' ? null : pool.uuid,
    embedded: pool.embedded,
  };
}

interface InitOptions {
  readonly reflink?: string;
  readonly force?: boolean;
  readonly nodeId?: string;
  readonly stateDir?: string;
}

/** `NAME=DIR`, or NAME alone with the path ''. */
function parsePlace(place: string): { readonly name: string; readonly path: string } {
  const equals = place.indexOf('=');
  const name = equals < 0 ? place : place.slice(0, equals);
  const path = equals < 0 ? '' : resolve(place.slice(equals + 1));
  if (name === '' || place.endsWith('=')) {
    throw new UsageError(`'${place}' is not NAME=DIR; write for example fast=/mnt/nvme`);
  }
  return { name, path };
}

async function initPool(session: Session, place: string, options: InitOptions): Promise<void> {
  const { name, path } = parsePlace(place);
  const embeddedBytes =
    options.reflink === undefined ? undefined : sizeOf(options.reflink, '--reflink');
  const asked = { name, path, embeddedBytes, force: options.force === true };
  try {
    const { admin } = await session.driver();
    const { pool, existed } = await admin.InitPool({
      name,
      path,
      embedded_size_bytes: embeddedBytes ?? 0n,
      force: asked.force,
    });
    if (pool === null) throw new Error('the driver answered no pool');
    await session.show({ ...poolAsJson(pool), existed }, () => initWords(pool, existed));
  } catch (error) {
    if (!(error instanceof NoDriverError)) throw error;
    await initPoolAlone(session, asked, options);
  }
}

function initWords(pool: Pool, existed: boolean): string {
  const what = `Pool '${pool.name}' ${existed ? 'was there already' : 'is made'} at ${pool.path}`;
  if (pool.state !== 'SERVED') return `${what}.\n${capitalized(pool.reason)}`;
  return `${what}, served, with room for ${formatSize(pool.room_bytes)}.`;
}

function capitalized(text: string): string {
  return text.slice(0, 1).toUpperCase() + text.slice(1);
}

async function adoptPool(session: Session, name: string): Promise<void> {
  const { admin } = await session.driver();
  const { pool } = await admin.AdoptPool({ name });
  if (pool === null) throw new Error('the driver answered no pool');
  await session.show(poolAsJson(pool), () =>
    pool.state === 'SERVED'
      ? `Pool '${name}' is this node's now: ${count(pool.volume_count, 'volume')}, ${count(pool.snapshot_count, 'snapshot')}.`
      : pool.reason,
  );
}

async function forgetPool(
  session: Session,
  place: string,
  options: { readonly yes?: boolean; readonly stateDir?: string },
): Promise<void> {
  const { name, path } = parsePlace(place);
  const forgetter = await forgetterOf(session, { name, path }, options);
  const { path: directory, uuid, volumeIds } = await forgetter.look();
  const known =
    volumeIds.length === 0 ? ['  none that this node remembers'] : volumeIds.map((id) => `  ${id}`);
  const about = [
    `Pool ${uuid}, which was seen at ${directory}, will be given up, with its volumes:`,
    ...known,
  ];
  const { terminal } = session;
  if (options.yes !== true && !(await terminal.confirm(`Forget pool '${name}'?`, about))) {
    throw new FailedError('nothing was forgotten');
  }
  await forgetter.forget(uuid);
  await session.show({ name, path: directory, uuid, volumeIds }, () =>
    [
      `Pool ${uuid} is forgotten, with ${count(volumeIds.length, 'known volume')}.`,
      `Make a new one there with: loopcsi pool init ${place}`,
    ].join('\n'),
  );
}

/** Over the driver, or in this process where none runs. */
async function forgetterOf(
  session: Session,
  asked: { readonly name: string; readonly path: string },
  options: { readonly stateDir?: string },
): Promise<{ look: () => Promise<Remembered>; forget: (uuid: string) => Promise<void> }> {
  try {
    const { admin } = await session.driver();
    return {
      look: async () => {
        const {
          path,
          uuid,
          volume_ids: volumeIds,
        } = await admin.ForgetPool({ ...asked, uuid: '' });
        return { path, uuid, volumeIds };
      },
      forget: async (uuid) => {
        await admin.ForgetPool({ ...asked, uuid });
      },
    };
  } catch (error) {
    if (!(error instanceof NoDriverError)) throw error;
    return forgetAlone(session, asked, options);
  }
}

async function recoverPool(session: Session, name: string): Promise<void> {
  const { admin } = await session.driver();
  const { pool } = await admin.RecoverPool({ name });
  if (pool === null) throw new Error('the driver answered no pool');
  await session.show(poolAsJson(pool), () =>
    pool.state === 'SERVED'
      ? `Pool '${name}' has its pool.json again: ${count(pool.volume_count, 'volume')}, ${count(pool.snapshot_count, 'snapshot')}.`
      : pool.reason,
  );
}

async function growPool(
  session: Session,
  name: string,
  options: { readonly size: string },
): Promise<void> {
  const sizeBytes = sizeOf(options.size, '--size');
  const { admin } = await session.driver();
  const { pool } = await admin.GrowPool({ name, size_bytes: sizeBytes });
  if (pool === null) throw new Error('the driver answered no pool');
  await session.show(
    poolAsJson(pool),
    () =>
      `Pool '${name}' has ${formatSize(pool.total_bytes)} now, ${formatSize(pool.free_bytes)} free.`,
  );
}
