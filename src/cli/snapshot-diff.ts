import type { Command } from 'commander';
import type { BlockMetadata } from '../csi/types.ts';
import { getSnapshot } from './lookup.ts';
import { type Column, count, formatPromisedSize, formatSize } from './output.ts';
import type { Session } from './session.ts';

export function addDiffCommand(snapshot: Command, session: Session): void {
  snapshot
    .command('diff')
    .description('list the ranges in which two snapshots of a volume differ')
    .argument('<base>', 'id or name of the older snapshot')
    .argument(
      '[target]',
      'id or name of the newer snapshot; without it, list the ranges of data in <base>',
    )
    .option('--total', 'print only the total size of the ranges')
    .action(diffSnapshots.bind(null, session));
}

const columns: readonly Column<BlockMetadata>[] = [
  { title: 'OFFSET', align: 'right', text: ({ byte_offset }) => byte_offset.toString() },
  { title: 'BYTES', align: 'right', text: ({ size_bytes }) => size_bytes.toString() },
];

async function diffSnapshots(
  session: Session,
  baseIdOrName: string,
  targetIdOrName: string | undefined,
  options: { readonly total?: boolean },
): Promise<void> {
  const base = await getSnapshot(session, baseIdOrName);
  const target =
    targetIdOrName === undefined ? undefined : await getSnapshot(session, targetIdOrName);
  const ranges: BlockMetadata[] = [];
  let rangeCount = 0;
  let totalBytes = 0n;
  let volumeBytes = 0n;
  for await (const page of await openStream(session, base.snapshot_id, target?.snapshot_id)) {
    volumeBytes = page.volume_capacity_bytes;
    rangeCount += page.block_metadata.length;
    for (const { size_bytes } of page.block_metadata) totalBytes += size_bytes;
    if (options.total !== true) ranges.push(...page.block_metadata);
  }
  const result = {
    base: base.snapshot_id,
    target: target?.snapshot_id ?? null,
    volumeBytes,
    totalBytes,
    rangeCount,
    ...(options.total === true
      ? {}
      : {
          ranges: ranges.map((range) => ({ offset: range.byte_offset, bytes: range.size_bytes })),
        }),
  };
  await session.show(result, async () => {
    const verb = target === undefined ? 'contain data' : 'differ';
    const sum = `${formatSize(totalBytes)} of ${formatPromisedSize(volumeBytes)} ${verb}, in ${count(rangeCount, 'range')}.`;
    if (options.total === true) return sum;
    const { formatTable } = await import('./table.ts');
    return `${formatTable(session.terminal, ranges, columns)}\n${sum}`;
  });
}

async function openStream(session: Session, baseId: string, targetId: string | undefined) {
  const { metadata } = await session.driver();
  if (targetId === undefined) return metadata.GetMetadataAllocated({ snapshot_id: baseId });
  return metadata.GetMetadataDelta({ base_snapshot_id: baseId, target_snapshot_id: targetId });
}
