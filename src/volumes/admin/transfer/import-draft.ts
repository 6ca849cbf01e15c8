import type { FsType } from '../../../host/host.ts';
import type { VolumeId } from '../../../ids.ts';
import type { CreateVolumeInput } from '../../model.ts';
import { parseParameters } from '../../parameters/storage-class.ts';
import type { Pool } from '../../pool/pool.ts';

export interface ImportInput {
  readonly name: string;
  /** Minimum size; 0 means that of the source. */
  readonly sizeBytes: bigint;
  /** Undefined: that of an image, or the configured default for a directory. */
  readonly fsType: FsType | undefined;
  readonly block: boolean;
  readonly keepsUuid: boolean;
  readonly parameters: Readonly<Record<string, string>>;
}

export interface PathImportInput extends ImportInput {
  readonly path: string;
  readonly isDryRun: boolean;
}

export interface StreamImportInput extends ImportInput {
  readonly imageBytes: bigint;
}

export interface ImportResult {
  /** Undefined for a dry run. */
  readonly volumeId: VolumeId | undefined;
  readonly existed: boolean;
  readonly isDirectory: boolean;
  readonly fsType: FsType | null;
  readonly sizeBytes: bigint;
  readonly dataBytes: bigint;
  /** Files, directories and other entries of a directory; 0 for an image. */
  readonly entries: bigint;
}

/** A volume that is being imported. */
export interface ImportDraft {
  readonly id: VolumeId;
  readonly pool: Pool;
  readonly input: ImportInput;
  readonly isDryRun: boolean;
  /** For messages. */
  readonly subject: string;
}

/** The request as one for an empty volume of this kind. */
export function asCreateInput(input: ImportInput, fsType: FsType | null): CreateVolumeInput {
  return {
    name: input.name,
    range: { requiredBytes: input.sizeBytes, limitBytes: 0n },
    kind: fsType === null ? 'block' : 'mount',
    fsType,
    settings: parseParameters(input.parameters, fsType),
    parameters: input.parameters,
    source: null,
  };
}
