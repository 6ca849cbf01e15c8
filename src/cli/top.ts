import { setTimeout as delay } from 'node:timers/promises';
import type { Command } from 'commander';
import type { MeasureVolumesResponse, VolumeIo, VolumeUsage } from '../csi/admin-types.ts';
import { addSortOptions, type ListOptions } from './list.ts';
import { showListOfPools } from './list-of-pools.ts';
import { type Column, formatPromisedSize, formatSize } from './output.ts';
import { ownerAsJson, ownerTextOf } from './owner-format.ts';
import type { Session } from './session.ts';

export function addTopCommand(program: Command, session: Session): void {
  const top = program
    .command('top')
    .description('show the I/O and the used space of volumes, the busiest first')
    .option('--once', 'print one measurement of a second; the default unless on a terminal')
    .option('--pool <POOL>', 'only the volumes of this pool')
    .action(showTop.bind(null, session));
  addSortOptions(top, columns);
}

/** The I/O of a volume per second. */
export interface Rates {
  readonly readBytes: number;
  readonly writtenBytes: number;
  readonly reads: number;
  readonly writes: number;
  /** Average time of a request in milliseconds; undefined without requests. */
  readonly latencyMs: number | undefined;
  /** Share of the time in which at least one request was in progress, in percent. */
  readonly busyPercent: number;
}

interface Row {
  readonly usage: VolumeUsage;
  /** undefined for a volume that is not attached, or has been for less than one measurement. */
  readonly rates: Rates | undefined;
}

/** Returns undefined if the counters belong to different attachments. */
export function ratesBetween(
  before: VolumeIo,
  now: VolumeIo,
  elapsedMs: number,
): Rates | undefined {
  const isSameAttachment = now.reads >= before.reads && now.writes >= before.writes;
  if (!isSameAttachment || elapsedMs <= 0) return undefined;
  const increase = (key: keyof VolumeIo): number => Number(now[key] - before[key]);
  const perSecond = (key: keyof VolumeIo): number => (increase(key) * 1000) / elapsedMs;
  const requests = increase('reads') + increase('writes');
  return {
    readBytes: perSecond('read_bytes'),
    writtenBytes: perSecond('written_bytes'),
    reads: perSecond('reads'),
    writes: perSecond('writes'),
    latencyMs: requests === 0 ? undefined : (increase('read_ms') + increase('write_ms')) / requests,
    busyPercent: Math.min(100, (increase('busy_ms') * 100) / elapsedMs),
  };
}

const columns: readonly Column<Row>[] = [
  { title: 'NAME', text: ({ usage }) => usage.name, shrinks: true },
  { title: 'CLAIM', text: ({ usage }) => ownerTextOf(usage), shrinks: true, isOptional: true },
  {
    title: 'USED',
    align: 'right',
    text: ({ usage: { filesystem } }) => (filesystem ? formatSize(filesystem.used_bytes) : ''),
    sortBy: ({ usage }) => usage.filesystem?.used_bytes ?? -1n,
  },
  {
    title: 'SIZE',
    align: 'right',
    text: ({ usage }) => formatPromisedSize(usage.size_bytes),
    sortBy: ({ usage }) => usage.size_bytes,
  },
  numberColumn('USED %', ({ usage }) => usedPercentOf(usage), formatWhole),
  numberColumn('READ/S', ({ rates }) => rates?.readBytes, formatRate),
  numberColumn('WRITE/S', ({ rates }) => rates?.writtenBytes, formatRate),
  numberColumn('IOPS', ({ rates }) => rates && rates.reads + rates.writes, formatWhole),
  numberColumn('LATENCY MS', ({ rates }) => rates?.latencyMs, formatTenths),
  numberColumn('BUSY %', ({ rates }) => rates?.busyPercent, formatWhole),
  {
    title: 'ALLOCATED',
    align: 'right',
    text: ({ usage }) => formatSize(usage.allocated_bytes),
    sortBy: ({ usage }) => usage.allocated_bytes,
    isWide: true,
  },
  { title: 'POOL', text: ({ usage }) => usage.pool, isWide: true },
  { title: 'ID', text: ({ usage }) => usage.volume_id, isWide: true },
];

function numberColumn(
  title: string,
  valueOf: (row: Row) => number | undefined,
  format: (value: number) => string,
): Column<Row> {
  return {
    title,
    align: 'right',
    text: (row) => {
      const value = valueOf(row);
      return value === undefined ? '' : format(value);
    },
    sortBy: (row) => valueOf(row) ?? -1,
  };
}

function formatWhole(value: number): string {
  return Math.round(value).toString();
}

function formatTenths(value: number): string {
  return value.toFixed(1);
}

function formatRate(bytesPerSecond: number): string {
  return formatSize(BigInt(Math.round(bytesPerSecond)));
}

function usedPercentOf({ filesystem }: VolumeUsage): number | undefined {
  if (filesystem === null || filesystem.total_bytes === 0n) return undefined;
  return Number((filesystem.used_bytes * 1000n) / filesystem.total_bytes) / 10;
}

/** docs/command-line.md lists the keys. */
export function topAsJson({ usage, rates }: Row) {
  return {
    id: usage.volume_id,
    name: usage.name,
    owner: ownerAsJson(usage),
    pool: usage.pool,
    sizeBytes: usage.size_bytes,
    allocatedBytes: usage.allocated_bytes,
    filesystemBytes: usage.filesystem?.total_bytes ?? null,
    usedBytes: usage.filesystem?.used_bytes ?? null,
    readBytesPerSecond: rates?.readBytes ?? null,
    writtenBytesPerSecond: rates?.writtenBytes ?? null,
    readsPerSecond: rates?.reads ?? null,
    writesPerSecond: rates?.writes ?? null,
    latencyMs: rates?.latencyMs ?? null,
    busyPercent: rates?.busyPercent ?? null,
    requestsInFlight: usage.io?.in_flight ?? null,
  };
}

const firstIntervalMs = 1_000;

async function showTop(
  session: Session,
  options: ListOptions & { readonly once?: boolean; readonly pool?: string },
): Promise<void> {
  const { admin } = await session.driver();
  const measure = () => admin.MeasureVolumes({ pool: options.pool ?? '' });
  let before = await measure();
  let isFirst = true;
  const load = async (): Promise<readonly Row[]> => {
    if (isFirst) await delay(firstIntervalMs);
    isFirst = false;
    const now = await measure();
    const rows = rowsBetween(before, now);
    before = now;
    return rows;
  };
  const watch = options.once !== true && session.isText && session.terminal.isInteractive;
  await showListOfPools(
    session,
    {
      load,
      columns,
      asJson: topAsJson,
      whenEmpty:
        'There are no volumes yet; create one with: loopcsi volume create data --size 10Gi',
    },
    { ...options, watch },
  );
}

/** The volumes of the later measurement, those with the most I/O first. */
function rowsBetween(before: MeasureVolumesResponse, now: MeasureVolumesResponse): readonly Row[] {
  const elapsedMs = now.measured_ms - before.measured_ms;
  const earlier = new Map(before.volumes.map((usage) => [usage.volume_id, usage.io]));
  const rows = now.volumes.map((usage): Row => {
    const io = earlier.get(usage.volume_id);
    const isMeasured = io !== undefined && io !== null && usage.io !== null;
    return { usage, rates: isMeasured ? ratesBetween(io, usage.io, elapsedMs) : undefined };
  });
  const bytesOf = ({ rates }: Row): number => (rates ? rates.readBytes + rates.writtenBytes : -1);
  return rows.toSorted((a, b) => bytesOf(b) - bytesOf(a));
}
