import { randomUUID } from 'node:crypto';
import type { VolumeId } from '../../ids.ts';
import type { VolumeRecord } from '../../state/records.ts';
import type { CreateVolumeInput } from '../model.ts';

/** The sector size of a volume whose request specifies none. */
export const defaultSectorSize = 4096;

/** Returns the record of a new volume. `mountOptions` must be a result of `checkedMountOptions`. */
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
    limits: { ...settings.limits },
    directIo: settings.directIo,
    mkfsOptions: [...settings.mkfsOptions],
    parameters: { ...input.parameters },
    source: input.source,
    ephemeralTarget,
    mountOptions: [...mountOptions],
    createdAtMs,
  };
}
