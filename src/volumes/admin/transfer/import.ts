import { isDeepStrictEqual } from 'node:util';
import { volumeIdFor } from '../../../ids.ts';
import type { ImportSource } from '../../../state/records.ts';
import { reloadSetAside } from '../../attachment/duplicates.ts';
import type { Domain } from '../../domain.ts';
import { withReason } from '../../engine/failures.ts';
import { volumeLock } from '../../engine/locks.ts';
import type { Call, Operation } from '../../engine/operations.ts';
import { parseParameters } from '../../parameters/storage-class.ts';
import { requireNameFree } from '../../volume/create.ts';
import { type ExistingImport, existingImport, requireSourceUnchanged } from './existing-import.ts';
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
import { openSource } from './source.ts';

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

interface ImportPlan {
  readonly input: ImportInput;
  /** Undefined for a stream. */
  readonly request?: PathImportInput;
}

/** Runs an import. If an equal one has created the volume, returns it once the source is known to be unchanged since. */
async function runImport(
  domain: Domain,
  call: Call,
  plan: ImportPlan,
  work: Import,
): Promise<ImportResult> {
  let compared: ImportSource | undefined;
  for (;;) {
    const outcome = await importOrFind(domain, call, plan, work);
    if (!('importedFrom' in outcome)) return outcome;
    const { importedFrom, result } = outcome;
    // The volume may have been deleted, and even imported again, while the source was compared.
    if (isDeepStrictEqual(importedFrom, compared)) return result;
    await requireSourceUnchanged(domain, call, outcome);
    compared = importedFrom;
  }
}

/** Imports, or finds the volume, under the lock of the volume. Equal requests share one run; a stream has no request. */
async function importOrFind(
  domain: Domain,
  call: Call,
  { input, request }: ImportPlan,
  work: Import,
): Promise<ImportResult | ExistingImport> {
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
      if (existing !== undefined) return existingImport(existing, { input, request });
      if (poolName === undefined) await requireNameFree(domain, input.name);
      const pool = await domain.pools.choose(poolName);
      return withReason(domain, { subject, disk: pool }, async (domain) => {
        await domain.interruptedCreates.remove(id);
        return work(domain, operation, { id, pool, input, isDryRun: false, subject });
      });
    },
  );
}
