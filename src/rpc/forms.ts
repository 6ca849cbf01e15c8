/**
 * What the form of a request must be, whatever the node has. The driver and `loopcsi controller` share these functions, so that a
 * malformed request gets the same error from both, also while no node can be asked. Parameters are not part of it: which ones exist
 * depends on the version of the driver.
 */
import type {
  ControllerExpandVolumeRequest,
  CreateSnapshotRequest,
  CreateVolumeGroupSnapshotRequest,
  CreateVolumeRequest,
  GetCapacityRequest,
  GetMetadataAllocatedRequest,
  GetMetadataDeltaRequest,
  VolumeCapability,
} from '../csi/types.ts';
import { VolumeError } from '../errors.ts';
import type { CapacityRange } from '../volumes/capacity.ts';
import type { Capability, VolumeSource } from '../volumes/model.ts';
import { parseRange, parseSource, requireRange, requireText } from './validate.ts';
import { parseCapabilities, parseCapability } from './volume-capability.ts';

interface CreateVolumeForm {
  readonly name: string;
  readonly capabilities: readonly Capability[];
  readonly range: CapacityRange;
  readonly source: VolumeSource | null;
}

export function parseCreateVolumeForm(request: CreateVolumeRequest): CreateVolumeForm {
  return {
    name: requireText(request.name, 'name'),
    capabilities: parseCapabilities(request.volume_capabilities),
    range: parseRange(request.capacity_range),
    source: parseSource(request.volume_content_source),
  };
}

/** An absent capability allows every filesystem and access mode. */
export function parseCapacityForm(request: GetCapacityRequest): readonly Capability[] {
  const { volume_capabilities } = request;
  return volume_capabilities.length === 0 ? [] : parseCapabilities(volume_capabilities);
}

/**
 * Parses the capabilities that ValidateVolumeCapabilities asks about. `refusal` says why this driver never supports one of them, and
 * the list is empty then. Throws `invalid` for a malformed one.
 */
export function parseAskedCapabilities(requested: readonly VolumeCapability[]): {
  readonly capabilities: readonly Capability[];
  readonly refusal: string | undefined;
} {
  try {
    const refusals = { mode: 'unsupported', fsType: 'unsupported' } as const;
    return { capabilities: parseCapabilities(requested, refusals), refusal: undefined };
  } catch (error) {
    if (!(error instanceof VolumeError) || error.reason !== 'unsupported') throw error;
    return { capabilities: [], refusal: error.message };
  }
}

interface ExpandForm {
  readonly volumeId: string;
  readonly range: CapacityRange;
  readonly capability?: Capability;
}

export function parseExpandForm(request: ControllerExpandVolumeRequest): ExpandForm {
  const volumeId = requireText(request.volume_id, 'volume_id');
  const range = requireRange(request.capacity_range);
  const { volume_capability } = request;
  if (volume_capability === null) return { volumeId, range };
  return { volumeId, range, capability: parseCapability(volume_capability, 'volume_capability') };
}

export function parseCreateSnapshotForm(request: CreateSnapshotRequest): {
  readonly name: string;
  readonly sourceVolumeId: string;
} {
  return {
    name: requireText(request.name, 'name'),
    sourceVolumeId: requireText(request.source_volume_id, 'source_volume_id'),
  };
}

export function parseCreateGroupForm(request: CreateVolumeGroupSnapshotRequest): {
  readonly name: string;
  readonly sourceVolumeIds: readonly string[];
} {
  return {
    name: requireText(request.name, 'name'),
    sourceVolumeIds: requireIds(request.source_volume_ids, 'source_volume_ids'),
  };
}

function requireIds(ids: readonly string[], field: string): readonly string[] {
  if (ids.length === 0) throw new VolumeError('invalid', `${field} is empty`);
  for (const [index, id] of ids.entries()) requireText(id, `${field}[${index}]`);
  return ids;
}

/** Number of ranges in one message of a stream. A message with the maximum number has 256 KiB. */
const defaultResults = 1024;
const maxResultsPerMessage = 16_384;

interface RangesForm {
  readonly startingOffset: bigint;
  /** The number of ranges in each message. */
  readonly batchSize: number;
}

export function parseAllocatedForm(
  request: GetMetadataAllocatedRequest,
): RangesForm & { readonly snapshotId: string } {
  return {
    snapshotId: requireText(request.snapshot_id, 'snapshot_id'),
    startingOffset: request.starting_offset,
    batchSize: batchSize(request.max_results),
  };
}

export function parseDeltaForm(
  request: GetMetadataDeltaRequest,
): RangesForm & { readonly baseSnapshotId: string; readonly targetSnapshotId: string } {
  return {
    baseSnapshotId: requireText(request.base_snapshot_id, 'base_snapshot_id'),
    targetSnapshotId: requireText(request.target_snapshot_id, 'target_snapshot_id'),
    startingOffset: request.starting_offset,
    batchSize: batchSize(request.max_results),
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
