import { resolve } from 'node:path';
import type { Command } from 'commander';
import type { Pool } from '../csi/admin-types.ts';
import { NoDriverError } from './driver.ts';
import { FailedError, UsageError } from './errors.ts';
import { addListOptions, type ListOptions, showList } from './list.ts';
import { requireField } from './lookup.ts';
import { type Column, count, formatSize } from './output.ts';
import { parseSize } from './parse-size.ts';
import { copyMethodOf, describePool, poolAsJson, stateOf } from './pool-format.ts';
import { initPoolWithoutDriver, type LostPool, openLostPoolWithoutDriver } from './pool-offline.ts';
import type { Session } from './session.ts';

export function addPoolCommands(program: Command, session: Session): void {
  const pool = program.command('pool').description('manage the directories that contain volumes');
  const list = pool
    .command('list')
    .alias('ls')
    .description('list the pools of the running driver, with their capacity')
    .action(listPools.bind(null, session));
  addListOptions(list, columns);
  pool
    .command('get')
    .description('show one pool, and how its capacity is calculated')
    .argument('<pool>')
    .action(showPool.bind(null, session));
  pool
    .command('init')
    .description('initialize a directory as a pool of this node, with or without a running driver')
    .argument('<NAME=DIR>', "name and directory; NAME alone for a pool in the driver's options")
    .option(
      '--reflink <SIZE>',
      'create the pool in an XFS image of this size, which can share blocks',
    )
    .option(
      '--force',
      'allow tmpfs and overlayfs, where volumes are lost at a reboot or with the container',
    )
    .option('--node-id <ID>', 'if no driver is running: the --node-id of the future driver')
    .option('--state-dir <DIR>', 'if no driver is running: the --state-dir of the future driver')
    .action(initPool.bind(null, session));
  addMaintenanceCommands(pool, session);
}

/** Commands for pools that were moved, lost or have become too small. */
function addMaintenanceCommands(pool: Command, session: Session): void {
  pool
    .command('adopt')
    .description('take over the pool of another node; its volumes get ids of this node')
    .argument('<pool>')
    .action(adoptPool.bind(null, session));
  pool
    .command('forget')
    .description(
      'forget a lost pool and its volumes, so that a new pool can be created in its directory',
    )
    .argument('<pool>', "its name, or NAME=DIR for a pool that is not in the driver's options")
    .option('-y, --yes', 'do not ask for confirmation')
    .option('--state-dir <DIR>', 'if no driver is running: the --state-dir of the future driver')
    .action(forgetPool.bind(null, session));
  pool
    .command('recover')
    .description('restore the lost pool.json of a pool that still has its volumes')
    .argument('<pool>')
    .action(recoverPool.bind(null, session));
  pool
    .command('grow')
    .description('enlarge a pool that is in its own image (--reflink)')
    .argument('<pool>')
    .requiredOption('--size <SIZE>', 'new size of the image')
    .action(growPool.bind(null, session));
}

const columns: readonly Column<Pool>[] = [
  { title: 'NAME', text: ({ name }) => name },
  { title: 'DIRECTORY', text: ({ path }) => path, shrinks: true },
  {
    title: 'FILESYSTEM',
    text: ({ fs_type, embedded }) => (embedded ? `${fs_type} image` : fs_type),
  },
  sizeColumn('FREE', ({ free_bytes }) => free_bytes),
  sizeColumn('TOTAL', ({ total_bytes }) => total_bytes),
  sizeColumn('PROMISED', ({ promised_bytes }) => promised_bytes),
  sizeColumn('CAPACITY', ({ room_bytes }) => room_bytes),
  numberColumn('VOLUMES', ({ volume_count }) => volume_count),
  numberColumn('SNAPSHOTS', ({ snapshot_count }) => snapshot_count),
  { title: 'COPIES', text: ({ abilities }) => copyMethodOf(abilities) },
  { title: 'STATE', text: stateOf },
  { ...sizeColumn('ALLOCATED', ({ allocated_bytes }) => allocated_bytes), isWide: true },
  { ...sizeColumn('TRASH', ({ trash_bytes }) => trash_bytes), isWide: true },
  { ...sizeColumn('RESERVE', ({ reserve_bytes }) => reserve_bytes), isWide: true },
  { ...numberColumn('OVERCOMMIT', ({ overcommit }) => overcommit), isWide: true },
  { title: 'UUID', text: ({ uuid }) => uuid, isWide: true },
];

function sizeColumn(title: string, sortBy: (pool: Pool) => bigint): Column<Pool> {
  const text = (pool: Pool): string => (pool.state === 'SERVED' ? formatSize(sortBy(pool)) : '');
  return { title, align: 'right', text, sortBy };
}

function numberColumn(title: string, sortBy: (pool: Pool) => number): Column<Pool> {
  return { title, align: 'right', text: (pool) => sortBy(pool).toString(), sortBy };
}

async function showPool(session: Session, name: string): Promise<void> {
  const { admin } = await session.driver();
  const { pools } = await admin.ListPools({});
  const pool = pools.find((one) => one.name === name);
  if (pool === undefined) {
    const names = pools.map((one) => one.name).join(', ');
    throw new FailedError(`the driver has no pool '${name}'; its pools are ${names}`);
  }
  await session.show(poolAsJson(pool), () => describePool(session.terminal, pool));
}

async function listPools(session: Session, options: ListOptions): Promise<void> {
  const { admin } = await session.driver();
  const listing = {
    load: async () => (await admin.ListPools({})).pools,
    columns,
    asJson: poolAsJson,
    whenEmpty: 'The driver has no pools; its --pool option names them.',
    remarks: (pools: readonly Pool[]) =>
      pools.filter(({ reason }) => reason !== '').map(({ reason }) => reason),
  };
  await showList(session, listing, options);
}

interface InitOptions {
  readonly reflink?: string;
  readonly force?: boolean;
  readonly nodeId?: string;
  readonly stateDir?: string;
}

/** Parses `NAME=DIR` or `NAME`; without a directory, the path is ''. */
function parseNameAndPath(text: string): { readonly name: string; readonly path: string } {
  const equals = text.indexOf('=');
  const name = equals < 0 ? text : text.slice(0, equals);
  const path = equals < 0 ? '' : resolve(text.slice(equals + 1));
  if (name === '' || text.endsWith('=')) {
    throw new UsageError(`'${text}' is not NAME=DIR; use a value such as fast=/mnt/nvme`);
  }
  if (path.includes(',')) {
    throw new UsageError(
      `'${text}': the directory of a pool cannot contain a comma; give options as flags: --force, --reflink SIZE`,
    );
  }
  return { name, path };
}

async function initPool(
  session: Session,
  nameAndPath: string,
  options: InitOptions,
): Promise<void> {
  const { name, path } = parseNameAndPath(nameAndPath);
  const embeddedBytes =
    options.reflink === undefined ? undefined : parseSize(options.reflink, '--reflink');
  const request = { name, path, embeddedBytes, force: options.force === true };
  try {
    const { admin } = await session.driver();
    const { pool: created, existed } = await admin.InitPool({
      name,
      path,
      embedded_size_bytes: embeddedBytes ?? 0n,
      force: request.force,
    });
    const pool = requireField(created, 'pool');
    await session.show({ ...poolAsJson(pool), existed }, () => initMessage(pool, existed));
  } catch (error) {
    if (!(error instanceof NoDriverError)) throw error;
    await initPoolWithoutDriver(session, request, options);
  }
}

function initMessage(pool: Pool, existed: boolean): string {
  const message = `Pool '${pool.name}' ${existed ? 'already exists' : 'was created'} at ${pool.path}`;
  if (pool.state !== 'SERVED') return `${message}.\n${capitalized(pool.reason)}`;
  return `${message} and is served, with a capacity of ${formatSize(pool.room_bytes)}.`;
}

function capitalized(text: string): string {
  return text.slice(0, 1).toUpperCase() + text.slice(1);
}

async function adoptPool(session: Session, name: string): Promise<void> {
  const { admin } = await session.driver();
  const { pool } = await admin.AdoptPool({ name });
  await showServedPool(session, requireField(pool, 'pool'), 'now belongs to this node');
}

async function recoverPool(session: Session, name: string): Promise<void> {
  const { admin } = await session.driver();
  const { pool } = await admin.RecoverPool({ name });
  await showServedPool(session, requireField(pool, 'pool'), 'has its pool.json again');
}

/** Shows the changed pool, or the reason why it is still unavailable. */
async function showServedPool(session: Session, pool: Pool, change: string): Promise<void> {
  const { name, state, reason, volume_count, snapshot_count } = pool;
  await session.show(poolAsJson(pool), () =>
    state === 'SERVED'
      ? `Pool '${name}' ${change}: ${count(volume_count, 'volume')}, ${count(snapshot_count, 'snapshot')}.`
      : reason,
  );
}

async function forgetPool(
  session: Session,
  nameAndPath: string,
  options: { readonly yes?: boolean; readonly stateDir?: string },
): Promise<void> {
  const { name, path } = parseNameAndPath(nameAndPath);
  const lostPool = await openLostPool(session, { name, path }, options);
  const { path: directory, uuid, volumeIds } = await lostPool.inspect();
  const explanation = [
    `Pool ${uuid}, last seen at ${directory}, will be forgotten, together with its volumes:`,
    ...(volumeIds.length === 0
      ? ['  (this node knows none of its volumes)']
      : volumeIds.map((id) => `  ${id}`)),
  ];
  const { terminal } = session;
  if (options.yes !== true && !(await terminal.confirm(`Forget pool '${name}'?`, explanation))) {
    throw new FailedError('nothing was forgotten');
  }
  await lostPool.forget(uuid);
  await session.show({ name, path: directory, uuid, volumeIds }, () =>
    [
      `Pool ${uuid} was forgotten, with ${count(volumeIds.length, 'known volume')}.`,
      `Create a new pool there with: loopcsi pool init ${nameAndPath}`,
    ].join('\n'),
  );
}

async function openLostPool(
  session: Session,
  pool: { readonly name: string; readonly path: string },
  options: { readonly stateDir?: string },
): Promise<LostPool> {
  try {
    const { admin } = await session.driver();
    return {
      inspect: async () => {
        const { path, uuid, volume_ids } = await admin.ForgetPool({ ...pool, uuid: '' });
        return { path, uuid, volumeIds: volume_ids };
      },
      forget: async (uuid) => {
        await admin.ForgetPool({ ...pool, uuid });
      },
    };
  } catch (error) {
    if (!(error instanceof NoDriverError)) throw error;
    return openLostPoolWithoutDriver(session, pool, options);
  }
}

async function growPool(
  session: Session,
  name: string,
  options: { readonly size: string },
): Promise<void> {
  const size_bytes = parseSize(options.size, '--size');
  const { admin } = await session.driver();
  const pool = requireField((await admin.GrowPool({ name, size_bytes })).pool, 'pool');
  const { total_bytes, free_bytes } = pool;
  await session.show(
    poolAsJson(pool),
    () =>
      `The size of pool '${name}' is now ${formatSize(total_bytes)}, of which ${formatSize(free_bytes)} are free.`,
  );
}
