import { VolumeError } from '../../../errors.ts';
import type { ImportSource } from '../../../state/records.ts';
import { formatBytes } from '../../../units.ts';
import { isInRange } from '../../capacity.ts';
import type { Domain } from '../../domain.ts';
import type { Call } from '../../engine/operations.ts';
import { ownerOf, ownerText } from '../../owner.ts';
import type { FoundVolume } from '../../pool/pool.ts';
import { comparedParameters } from '../../volume/create.ts';
import { measureSource } from './import-directory.ts';
import {
  asCreateInput,
  type ImportInput,
  type ImportResult,
  type PathImportInput,
} from './import-draft.ts';
import { openSource } from './source.ts';

/** A volume that an import with equal arguments created earlier. */
export interface ExistingImport {
  readonly volume: FoundVolume;
  /** Its source at that time, which may have changed since. */
  readonly importedFrom: ImportSource;
  readonly result: ImportResult;
}

/** Returns the volume if a call with equal arguments created it; otherwise throws `conflict`. Reads only the record. */
export async function existingImport(
  volume: FoundVolume,
  { input, request }: { input: ImportInput; request: PathImportInput | undefined },
): Promise<ExistingImport> {
  const { pool, record } = volume;
  const { importedFrom } = record;
  if (request === undefined || importedFrom?.path !== request.path) {
    const why = importedFrom === undefined ? '' : `, imported from ${sourceText(importedFrom)}`;
    throw conflictError(volume, `${why}, and is not the result of this import`);
  }
  const differences = differencesOf(volume, importedFrom, input);
  if (differences.length > 0) {
    const why = `, imported from ${importedFrom.path} with other arguments: ${differences.join('; ')}`;
    throw conflictError(volume, why);
  }
  await pool.sync();
  const result = {
    volumeId: request.isDryRun ? undefined : record.id,
    existed: true,
    isDirectory: importedFrom.kind === 'directory',
    fsType: record.fsType,
    sizeBytes: record.sizeBytes,
    dataBytes: 0n,
    entries: 0n,
  };
  return { volume, importedFrom, result };
}

/**
 * Throws `conflict` if the source has changed since it was imported. A walk through a large directory takes long, so this does not
 * lock the volume, and equal calls share one walk.
 */
export async function requireSourceUnchanged(
  domain: Domain,
  call: Call,
  { volume, importedFrom }: ExistingImport,
): Promise<void> {
  const { id, name } = volume.record;
  const plan = {
    name: 'ImportVolume',
    lane: { kind: 'inspect', id: `source of ${id}` },
    request: importedFrom,
  } as const;
  await domain.operations.run(domain, call, plan, async (domain, { signal }) => {
    if (await isUnchanged(domain, signal, { subject: `volume '${name}'`, importedFrom })) return;
    const why = `, imported from ${importedFrom.path}, which has changed since, so it contains older data`;
    throw conflictError(volume, why);
  });
}

function conflictError({ record }: FoundVolume, why: string): VolumeError {
  return new VolumeError(
    'conflict',
    `volume '${record.name}' already exists with ${formatBytes(record.sizeBytes)}${why}; choose another name, or delete the volume and import again`,
  );
}

/** Says what is not as requested. What the request does not specify may have any value. */
function differencesOf(
  volume: FoundVolume,
  { keepsUuid = false }: ImportSource,
  input: ImportInput,
): readonly string[] {
  const { record } = volume;
  const create = asCreateInput(input, input.block ? null : (input.fsType ?? record.fsType));
  const isAsCreated = create.kind === record.createdKind;
  const sectorSize = create.settings.sectorSize ?? record.sectorSize;
  const parameters = comparedParameters(volume, {
    ...create,
    settings: { ...create.settings, sectorSize },
  });
  const [actualOwner, requestedOwner] = [ownerOf(record), ownerOf(input)];
  const textOf = (owner: ReturnType<typeof ownerOf>): string =>
    owner === undefined ? 'none' : ownerText(owner);
  const compared = {
    ...parameters,
    // A block volume that was staged as a filesystem since is still the one of its request.
    kind: [isAsCreated ? create.kind : record.kind, create.kind],
    filesystem: [isAsCreated ? create.fsType : record.fsType, create.fsType],
    'keep-uuid': [keepsUuid, input.keepsUuid],
    owner: [textOf(actualOwner), textOf(requestedOwner ?? actualOwner)],
  } as const;
  const differences = Object.entries(compared).flatMap(([name, [actual, requested]]) =>
    actual === requested ? [] : [`${name} is ${String(actual)}, not ${String(requested)}`],
  );
  return isInRange(record.sizeBytes, create.range)
    ? differences
    : [
        ...differences,
        `size is ${formatBytes(record.sizeBytes)}, not ${formatBytes(input.sizeBytes)} or more`,
      ];
}

function sourceText({ kind, path }: ImportSource): string {
  return kind === 'stream' ? 'a stream' : path;
}

/** Whether the source is the one that was imported. One that has been removed meanwhile counts as unchanged. */
async function isUnchanged(
  domain: Domain,
  signal: AbortSignal,
  { subject, importedFrom }: { subject: string; importedFrom: ImportSource },
): Promise<boolean> {
  const { kind, path, state } = importedFrom;
  try {
    const found = await openSource(domain, subject, path);
    if (found.isDirectory !== (kind === 'directory')) return false;
    if (!found.isDirectory) return found.state === state;
    const { fingerprint } = await measureSource(domain, signal, { subject, path });
    return fingerprint === state;
  } catch (error) {
    if (error instanceof VolumeError && error.reason === 'not-found') return true;
    throw error;
  }
}
