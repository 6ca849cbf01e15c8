import { randomUUID } from 'node:crypto';
import type { VolumeRecord } from '../../state/records.ts';
import type { VolumeId } from '../ids.ts';
import type { CreateVolumeInput } from '../model.ts';

/** For a volume whose request names none. */
export const defaultSectorSize = 4096;

/** The record of a new volume. The mount options are those that `checkedMountOptions` has returned. */
export function newVolumeRecord(draft: {
  readonly id: VolumeId;
  readonly input: CreateVolumeInput;
  readonly sizeBytes: bigint;
  readonly mountOptions: readonly string[];
  readonly createdAtMs: number;
  readonly ephemeralTarget?: string;
}): VolumeRecord {
  const { id, input, sizeBytes, mountOptions, createdAtMs, ephemeralTarget = null } = draft;
  const { settings } = input;
  return {
    schemaVersion: 1,
    id,
    name: input.name,
    kind: input.kind,
    fsType: input.fsType,
    fsUuid: input.fsType === null ? null : randomUUID(),
    provisioning: settings.provisioning,
    sectorSize: settings.sectorSize ?? defaultSectorSize,
    sizeBytes,
    // The image has this size before the record is written.
    reachedBytes: sizeBytes,
    trim: settings.trim,
    directIo: settings.directIo,
    mkfsOptions: [...settings.mkfsOptions],
    parameters: { ...input.parameters },
    source: input.source,
    ephemeralTarget,
    mountOptions: [...mountOptions],
    createdAtMs,
  };
}
