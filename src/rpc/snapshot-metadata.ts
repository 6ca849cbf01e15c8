import type { GetMetadataAllocatedResponse } from '../csi/types.ts';
import type { BlockRanges } from '../volumes/model.ts';
import type { CsiContext } from './context.ts';
import { parseAllocatedForm, parseDeltaForm } from './forms.ts';
import type { Implementation } from './handlers.ts';

/**
 * Implements the SnapshotMetadata service (CSI spec, "Snapshot Metadata Service RPCs"). Ranges have variable lengths, in
 * multiples of 4 KiB. They are read only as fast as the caller reads the stream (call.ts), and an incomplete stream ends with
 * an error.
 */
export function snapshotMetadataMethods({
  volumes,
}: CsiContext): Implementation<'csi.v1.SnapshotMetadata'> {
  return {
    async *GetMetadataAllocated(request, call) {
      const ranges = await volumes.allocatedRanges(call, parseAllocatedForm(request));
      yield* messages(ranges);
    },

    async *GetMetadataDelta(request, call) {
      const ranges = await volumes.changedRanges(call, parseDeltaForm(request));
      yield* messages(ranges);
    },
  };
}

/** Yields at least one message, so that the caller learns the size even if there are no ranges. */
async function* messages({
  volumeBytes,
  batches,
}: BlockRanges): AsyncGenerator<GetMetadataAllocatedResponse> {
  const head = {
    block_metadata_type: 'VARIABLE_LENGTH',
    volume_capacity_bytes: volumeBytes,
  } as const;
  let count = 0;
  for await (const batch of batches) {
    const block_metadata = batch.map(({ offset, length }) => ({
      byte_offset: offset,
      size_bytes: length,
    }));
    yield { ...head, block_metadata };
    count += 1;
  }
  if (count === 0) yield { ...head, block_metadata: [] };
}
