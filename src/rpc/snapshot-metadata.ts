import type { GetMetadataAllocatedResponse } from '../csi/types.ts';
import { VolumeError } from '../errors.ts';
import type { BlockRanges } from '../volumes/model.ts';
import type { CsiContext } from './context.ts';
import type { Implementation } from './handlers.ts';
import { requireText } from './validate.ts';

/** Number of ranges in one message. A message with the maximum number has 256 KiB. */
const defaultResults = 1024;
const maxResultsPerMessage = 16_384;

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
      const ranges = await volumes.allocatedRanges(call, {
        snapshotId: requireText(request.snapshot_id, 'snapshot_id'),
        startingOffset: request.starting_offset,
        batchSize: batchSize(request.max_results),
      });
      yield* messages(ranges);
    },

    async *GetMetadataDelta(request, call) {
      const ranges = await volumes.changedRanges(call, {
        baseSnapshotId: requireText(request.base_snapshot_id, 'base_snapshot_id'),
        targetSnapshotId: requireText(request.target_snapshot_id, 'target_snapshot_id'),
        startingOffset: request.starting_offset,
        batchSize: batchSize(request.max_results),
      });
      yield* messages(ranges);
    },
  };
}

function batchSize(maxResults: number): number {
  if (maxResults < 0) {
    throw new VolumeError(
      'invalid',
      `max_results ${maxResults} must not be negative; 0 means the default`,
    );
  }
  return maxResults === 0 ? defaultResults : Math.min(maxResults, maxResultsPerMessage);
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
