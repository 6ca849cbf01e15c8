/** Formats pools as text and JSON. */
import type { Pool } from '../csi/admin-types.ts';
import { formatFields, formatSize } from './output.ts';
import type { Terminal } from './terminal.ts';

export function copyMethodOf(abilities: Pool['abilities']): string {
  if (abilities === null) return '';
  return abilities.reflink ? 'share blocks' : 'copy data';
}

export function stateOf({ state }: Pool): 'served' | 'unavailable' {
  return state === 'SERVED' ? 'served' : 'unavailable';
}

/** docs/command-line.md lists the keys. */
export function poolAsJson(pool: Pool) {
  return {
    name: pool.name,
    path: pool.path,
    state: stateOf(pool),
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
    otherBytes: pool.other_bytes,
    volumeBytes: pool.volume_bytes,
    snapshotBytes: pool.snapshot_bytes,
    inFlightBytes: pool.in_flight_bytes,
    blocksBytes: pool.blocks_bytes,
    heldBackBytes: pool.held_back_bytes,
  };
}

/** Shows each term of the capacity, so that the sum can be checked. */
export function describePool(terminal: Terminal, pool: Pool): string {
  const about = [
    ['Name', pool.name],
    ['Directory', pool.path],
    ['State', pool.reason === '' ? stateOf(pool) : `${stateOf(pool)}: ${pool.reason}`],
    ['Filesystem', pool.embedded ? `${pool.fs_type} image` : pool.fs_type],
    ['Copies', copyMethodOf(pool.abilities)],
    ['UUID', pool.uuid],
    ['Volumes', pool.volume_count.toString()],
    ['Snapshots', pool.snapshot_count.toString()],
  ] as const;
  if (pool.state !== 'SERVED') return formatFields(terminal, about);
  const space = [
    ['Free', formatSize(pool.free_bytes)],
    ['Allocated', formatSize(pool.allocated_bytes)],
    ['Overcommit', pool.overcommit === 1 ? '' : pool.overcommit.toString()],
    ['Capacity', capacityLines(pool)],
  ] as const;
  return formatFields(terminal, [...about, ...space]);
}

function capacityLines(pool: Pool): readonly string[] {
  const terms: readonly (readonly [bytes: bigint, text: string])[] = [
    [pool.total_bytes, 'size of the filesystem'],
    [-pool.other_bytes, 'used by other files'],
    [-pool.reserve_bytes, 'reserve, or blocks kept for root if more; never promised'],
    [overcommittedBytes(pool), `because of overcommit ${pool.overcommit}`],
    [-pool.volume_bytes, 'promised to volumes'],
    [-pool.snapshot_bytes, 'that snapshots may need'],
    [-pool.in_flight_bytes, 'for what is being created'],
    [-pool.trash_bytes, 'of deleted entries, not freed yet'],
    [-pool.blocks_bytes, 'that shared blocks may need'],
    [-pool.held_back_bytes, 'held back: the pool is below its trim watermark'],
  ];
  const sum = terms.reduce((rest, [bytes]) => rest + bytes, 0n);
  const excess = sum < 0n ? -sum : 0n;
  const shown = [...terms, [excess, 'promised too much'] as const]
    .filter(([bytes]) => bytes !== 0n)
    .map(([bytes, text], i) => {
      const sign = bytes < 0n ? '−' : '+';
      return { sign: i === 0 ? ' ' : sign, size: formatSize(bytes < 0n ? -bytes : bytes), text };
    });
  const result = { sign: '=', size: formatSize(pool.room_bytes), text: 'may still be promised' };
  const lines = [...shown, result];
  const width = Math.max(...lines.map(({ size }) => size.length));
  return lines.map(({ sign, size, text }) => `${sign} ${size.padStart(width)}  ${text}`);
}

/** What overcommit adds to the space that may be promised; negative below 1. */
function overcommittedBytes(pool: Pool): bigint {
  const base = pool.total_bytes - pool.other_bytes - pool.reserve_bytes;
  return (base * BigInt(Math.round(pool.overcommit * 1000))) / 1000n - base;
}
