import type { GetMetadataAllocatedResponse } from '../csi/types.ts';
import { VolumeError } from '../errors.ts';
import type { BlockRanges } from '../volumes/model.ts';
import type { Front } from './context.ts';
import type { Implementation } from './handlers.ts';
import { requireText } from './validate.ts';

/** Ranges of one message when the caller leaves it open, and at most: 256 KiB of message. */
const usualResults = 1024;
const mostResults = 16_384;

/**
 * CSI spec, "Snapshot Metadata Service RPCs". Ranges have variable lengths, in multiples of 4 KiB. The domain is read only as
 * fast as the caller takes the messages (call.ts), and a stream that is not complete ends with an error.
 */
export function snapshotMetadataService({
  volumes,
}: Front): Implementation<'csi.v1.SnapshotMetadata'> {
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
    throw new VolumeError('invalid', `max_results ${maxResults} must not be negative`);
  }
  return maxResults === 0 ? usualResults : Math.min(maxResults, mostResults);
}

/** At least one message, so that the caller learns the size also when there is no range. */
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
