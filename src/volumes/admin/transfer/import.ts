import { VolumeError } from '../../../errors.ts';
import type { ImportSource } from '../../../state/records.ts';
import { formatBytes } from '../../../units.ts';
import { reloadSetAside } from '../../attachment/duplicates.ts';
import { type CapacityRange, isInRange } from '../../capacity.ts';
import type { Domain } from '../../domain.ts';
import { withReason } from '../../engine/failures.ts';
import { volumeLock } from '../../engine/locks.ts';
import type { Call, Operation } from '../../engine/operations.ts';
import { volumeIdFor } from '../../ids.ts';
import { parseParameters } from '../../parameters/storage-class.ts';
import type { FoundVolume } from '../../pool/pool.ts';
import { requireNameFree } from '../../volume/create.ts';
import { importDirectory } from './import-directory.ts';
import type {
  ImportDraft,
  ImportInput,
  ImportResult,
  PathImportInput,
  StreamImportInput,
} from './import-draft.ts';
import { importImage } from './import-image.ts';
import { type ImageChunks, importReceived } from './import-stream.ts';
import { openSource, type SourceStatus } from './source.ts';

/**
 * Creates a volume with the data of a directory or an image of other software. The source is only read. As with CreateVolume, the
 * volume exists after the rename of its complete directory, and an interrupted import leaves nothing visible. Throws `not-found` if
 * the driver cannot see the path, `wrong-state` if the source is in use, damaged or changed meanwhile, `out-of-range` if it does not
 * fit, `conflict` if another volume has the name.
 */
export async function importVolume(
  domain: Domain,
  call: Call,
  input: PathImportInput,
): Promise<ImportResult> {
  return runImport(domain, call, { input, request: input }, async (domain, operation, draft) => {
    const source = await openSource(domain, draft.subject, input.path);
    const { isDryRun } = input;
    return source.isDirectory
      ? importDirectory(domain, operation, { ...draft, isDryRun }, source)
      : importImage(domain, operation, { ...draft, isDryRun }, source);
  });
}

/** Creates a volume with the image in a stream. Throws `conflict` if the name is taken, `invalid` if the stream is incomplete. */
export async function importStream(
  domain: Domain,
  call: Call,
  input: StreamImportInput,
  chunks: ImageChunks,
): Promise<ImportResult> {
  return runImport(domain, call, { input }, (domain, operation, draft) =>
    importReceived(domain, operation, draft, { imageBytes: input.imageBytes, chunks }),
  );
}

type Import = (domain: Domain, operation: Operation, draft: ImportDraft) => Promise<ImportResult>;

/** Runs an import under the lock of the new volume. Equal requests share one run; a stream has no request. */
async function runImport(
  domain: Domain,
  call: Call,
  { input, request }: { input: ImportInput; request?: PathImportInput },
  work: Import,
): Promise<ImportResult> {
  const id = volumeIdFor(input.name, domain.settings.nodeTag);
  const subject = `volume '${input.name}'`;
  const { pool: poolName } = parseParameters(input.parameters, input.fsType ?? null);
  return domain.operations.run(
    domain,
    call,
    {
      name: 'ImportVolume',
      lane: { kind: 'volume', id },
      exclusive: [volumeLock(id)],
      ...(request === undefined ? {} : { request }),
    },
    async (domain, operation) => {
      await reloadSetAside(domain, { area: 'volumes', id });
      const existing = domain.pools.findVolume(id);
      if (existing !== undefined) return existingImport(domain, existing, { input, request });
      if (poolName === undefined) await requireNameFree(domain, input.name);
      const pool = await domain.pools.choose(poolName);
      return withReason(domain, { subject, disk: pool }, async (domain) => {
        await domain.interruptedCreates.remove(id);
        return work(domain, operation, { id, pool, input, isDryRun: false, subject });
      });
    },
  );
}

/** Returns the volume if an equal call created it, otherwise throws `conflict`. */
async function existingImport(
  domain: Domain,
  { pool, record }: FoundVolume,
  { input, request }: { input: ImportInput; request: PathImportInput | undefined },
): Promise<ImportResult> {
  const subject = `volume '${input.name}'`;
  const { importedFrom } = record;
  const range: CapacityRange = { requiredBytes: input.sizeBytes, limitBytes: 0n };
  const differs =
    request === undefined ||
    importedFrom?.path !== request.path ||
    !(await isUnchanged(domain, subject, importedFrom)) ||
    (record.kind === 'block') !== input.block ||
    (input.fsType !== undefined && record.fsType !== input.fsType) ||
    !isInRange(record.sizeBytes, range);
  if (differs) {
    const from = importedFrom === undefined ? '' : `, imported from ${sourceText(importedFrom)}`;
    throw new VolumeError(
      'conflict',
      `${subject} already exists with ${formatBytes(record.sizeBytes)}${from}, and is not the result of this import; choose another name, or delete it first`,
    );
  }
  await pool.sync();
  return {
    volumeId: request.isDryRun ? undefined : record.id,
    existed: true,
    isDirectory: importedFrom.kind === 'directory',
    fsType: record.fsType,
    sizeBytes: record.sizeBytes,
    dataBytes: 0n,
    entries: 0n,
  };
}

function sourceText({ kind, path }: ImportSource): string {
  return kind === 'stream' ? 'a stream' : path;
}

/** Whether the source is the one that was imported. One that has been removed meanwhile counts as unchanged. */
async function isUnchanged(
  domain: Domain,
  subject: string,
  { path, state }: ImportSource,
): Promise<boolean> {
  let found: SourceStatus;
  try {
    found = await openSource(domain, subject, path);
  } catch (error) {
    if (error instanceof VolumeError && error.reason === 'not-found') return true;
    throw error;
  }
  return found.state === state;
}
