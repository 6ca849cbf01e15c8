import { randomUUID } from 'node:crypto';
import type { FsType } from '../../host/host.ts';
import type { VolumeRecord } from '../../state/records.ts';
import { MiB } from '../../units.ts';
import type { Domain } from '../domain.ts';
import type { VolumeId } from '../ids.ts';
import type { CreateVolumeInput } from '../model.ts';
import { requireAllowedMountFlags } from './mount-flags.ts';

/** Of a volume whose request leaves it open. */
export const defaultSectorSize = 4096;

/** The least size of an image with that filesystem; a raw block volume needs one image unit. */
export function minBytesOf(domain: Domain, fsType: FsType | null): bigint {
  return fsType === null ? MiB : domain.host.filesystems[fsType].minBytes;
}

/** The record of a volume to be made. Throws `invalid` for mount options that it could never be mounted with. */
export function newRecord(
  domain: Domain,
  draft: {
    id: VolumeId;
    input: CreateVolumeInput;
    sizeBytes: bigint;
    ephemeralTarget?: string;
  },
): VolumeRecord {
  const { id, input, sizeBytes, ephemeralTarget = null } = draft;
  const { settings } = input;
  const record: VolumeRecord = {
    schemaVersion: 1,
    id,
    name: input.name,
    kind: input.kind,
    fsType: input.fsType,
    fsUuid: input.fsType === null ? null : randomUUID(),
    provisioning: settings.provisioning,
    sectorSize: settings.sectorSize ?? defaultSectorSize,
    sizeBytes,
    // The image has it before the record is written.
    reachedBytes: sizeBytes,
    trim: settings.trim,
    directIo: settings.directIo,
    mkfsOptions: [...settings.mkfsOptions],
    parameters: { ...input.parameters },
    source: input.source,
    ephemeralTarget,
    mountOptions: [...(input.mountOptions ?? [])],
    createdAtMs: domain.now(),
  };
  requireAllowedMountFlags(record, input.mountFlags ?? []);
  return record;
}
