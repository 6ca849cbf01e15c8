import { randomUUID } from 'node:crypto';
import type { FsType } from '../../host/host.ts';
import type { VolumeRecord } from '../../state/records.ts';
import { MiB } from '../../units.ts';
import type { Domain } from '../domain.ts';
import type { VolumeId } from '../ids.ts';
import type { CreateVolumeInput } from '../model.ts';
import { requireAllowedMountFlags } from './mount-flags.ts';

/** For a volume whose request names none. */
export const defaultSectorSize = 4096;

/** Minimum image size for the filesystem; a raw block volume needs 1 MiB. */
export function minBytesOf(domain: Domain, fsType: FsType | null): bigint {
  return fsType === null ? MiB : domain.host.filesystems[fsType].minBytes;
}

/** The record of a new volume. Throws `invalid` for mount options with which it could never be mounted. */
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
    // The image has this size before the record is written.
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
