/** `loopcsi volume trim`. */
import type { Command } from 'commander';
import type { TrimVolumeResponse, Volume } from '../csi/admin-types.ts';
import { FailedError, failureOf, rephraseForCli, UsageError } from './errors.ts';
import { getVolume, listAllVolumes } from './lookup.ts';
import { type Column, formatSize } from './output.ts';
import { retryWhileBusy } from './retry-while-busy.ts';
import type { Session } from './session.ts';

export function addTrimCommand(volume: Command, session: Session): void {
  volume
    .command('trim')
    .description('return the blocks that filesystems have freed to the pool, and show how many')
    .argument('[volume...]', 'ids or names')
    .option('--all', 'trim all volumes that can be trimmed')
    .option('--pool <POOL>', 'with --all: only the volumes of this pool')
    .action(trimVolumes.bind(null, session));
}

interface Options {
  readonly all?: boolean;
  readonly pool?: string;
}

/** The result for one volume. `refused`: it cannot be trimmed, and `message` says why and what to do. */
interface Row {
  readonly volume: Volume;
  readonly result: 'trimmed' | 'interrupted' | 'refused' | 'failed';
  readonly message: string;
  readonly bytes: TrimVolumeResponse | undefined;
}

async function trimVolumes(
  session: Session,
  idsOrNames: readonly string[],
  { all = false, pool }: Options,
): Promise<void> {
  if (all === idsOrNames.length > 0) throw new UsageError('name the volumes, or use --all');
  if (!all && pool !== undefined) throw new UsageError('--pool is only valid with --all');
  const volumes = all
    ? await listAllVolumes(session, pool === undefined ? {} : { pool })
    : await Promise.all(idsOrNames.map((one) => getVolume(session, one)));
  const rows: Row[] = [];
  for (const volume of volumes) rows.push(await trimOne(session, volume));
  await session.show(rows.map(rowAsJson), () => report(session, rows));
  // With --all, volumes that cannot be trimmed are no failure.
  const failed = rows.filter(({ result }) => result === 'failed' || (!all && result === 'refused'));
  if (failed.length === 0) return;
  throw new FailedError(
    session.isText ? failed.map(({ message }) => message).join('\nloopcsi: ') : '',
  );
}

async function trimOne(session: Session, volume: Volume): Promise<Row> {
  const { admin } = await session.driver();
  const { volume_id, name } = volume;
  const { terminal } = session;
  try {
    const bytes = await retryWhileBusy(terminal, `trimming '${name}'`, () =>
      rephraseForCli(volume, () => admin.TrimVolume({ volume_id })),
    );
    const result = bytes.interrupted ? 'interrupted' : 'trimmed';
    return { volume, bytes, result, message: '' };
  } catch (error) {
    const { code, message } = failureOf(error);
    // An old driver, and a connection that was lost, concern all volumes.
    if (code === 'UNIMPLEMENTED' || code === 'UNAVAILABLE') throw error;
    const result = code === 'FAILED_PRECONDITION' ? 'refused' : 'failed';
    return { volume, bytes: undefined, result, message };
  }
}

/** Bytes that the image no longer has allocated; 0 if more was written meanwhile. */
function returnedBytesOf({ bytes }: Row): bigint {
  if (bytes === undefined) return 0n;
  const returned = bytes.allocated_before_bytes - bytes.allocated_after_bytes;
  return returned > 0n ? returned : 0n;
}

/** docs/command-line.md lists the keys. */
function rowAsJson(row: Row) {
  const { volume, result, message, bytes } = row;
  return {
    id: volume.volume_id,
    name: volume.name,
    pool: volume.pool,
    result,
    message: message === '' ? null : message,
    returnedBytes: bytes === undefined ? null : returnedBytesOf(row),
    allocatedBeforeBytes: bytes?.allocated_before_bytes ?? null,
    allocatedAfterBytes: bytes?.allocated_after_bytes ?? null,
    discardedBytes: bytes?.discarded_bytes ?? null,
    mountedPrivately: bytes?.mounted_privately ?? null,
  };
}

const sizeOf = (bytes: bigint | undefined): string =>
  bytes === undefined ? '' : formatSize(bytes);

const columns: readonly Column<Row>[] = [
  { title: 'NAME', text: ({ volume }) => volume.name },
  { title: 'POOL', text: ({ volume }) => volume.pool },
  { title: 'RESULT', text: ({ result }) => result },
  {
    title: 'RETURNED',
    align: 'right',
    text: (row) => sizeOf(row.bytes && returnedBytesOf(row)),
  },
  {
    title: 'ALLOCATED BEFORE',
    align: 'right',
    text: ({ bytes }) => sizeOf(bytes?.allocated_before_bytes),
  },
  {
    title: 'ALLOCATED AFTER',
    align: 'right',
    text: ({ bytes }) => sizeOf(bytes?.allocated_after_bytes),
  },
  { title: 'DISCARDED', align: 'right', text: ({ bytes }) => sizeOf(bytes?.discarded_bytes) },
];

async function report({ terminal }: Session, rows: readonly Row[]): Promise<string> {
  if (rows.length === 0) return 'There are no volumes.';
  const { formatTable } = await import('./table.ts');
  const table = formatTable(terminal, rows, columns);
  if (!terminal.isInteractive) return table;
  const total = rows.reduce((sum, row) => sum + returnedBytesOf(row), 0n);
  const notes = rows.flatMap(({ volume, result, message }) => {
    if (result === 'interrupted') {
      return [`'${volume.name}': another call on the volume ended the trim; run the command again`];
    }
    return result === 'refused' ? [message] : [];
  });
  return [table, `${formatSize(total)} returned to the pools.`, ...new Set(notes)].join('\n');
}
