import { join } from 'node:path';
import { VolumeError } from '../../../errors.ts';
import { hasErrno } from '../../../host/errors.ts';
import type { ImageStatus } from '../../../host/host.ts';
import { type ImportSource, type VolumeRecord } from '../../../state/records.ts';
import { findGrowthLimit } from '../../capacity.ts';
import type { Domain } from '../../domain.ts';
import type { Operation } from '../../engine/operations.ts';
import { imageFile } from '../../pool/layout.ts';
import { newVolumeRecord } from '../../pool/new-volume-record.ts';
import { makeOwnVolume } from '../../snapshot/restore.ts';
import { commitCopiedVolume, copyForVolume } from '../../snapshot/restore-copy.ts';
import { chooseSize, requireGrowable } from '../../snapshot/restore-source.ts';
import { findFormat, type ImageFormat } from './image-format.ts';
import { asCreateInput, type ImportDraft, type ImportResult } from './import-draft.ts';
import { requireUnchanged, type SourceStatus } from './source.ts';

/** Imports an image file: shares its blocks if the kernel can, else copies its data. An interrupted copy is resumed. */
export async function importImage(
  domain: Domain,
  operation: Operation,
  draft: ImportDraft,
  source: SourceStatus,
): Promise<ImportResult> {
  const { path, state } = source;
  const { subject } = draft;
  const image = await domain.host.files.imageStatus(path);
  await requireIdle(domain, subject, { path, image });
  const origin = `image ${path}`;
  const format = await findFormat(domain, draft, { path, image, origin });
  const { keepsUuid } = draft.input;
  const importedFrom = { kind: 'image', path, state, keepsUuid } as const;
  const record = await importedRecord(domain, draft, { path, image, origin, format, importedFrom });
  const result = {
    isDirectory: false,
    fsType: record.fsType,
    sizeBytes: record.sizeBytes,
    dataBytes: image.allocatedBytes,
    entries: 0n,
    existed: false,
  };
  if (draft.isDryRun) return { ...result, volumeId: undefined };
  operation.beginEffects();
  await makeImported(domain, operation, { draft, source, image, record });
  return { ...result, volumeId: record.id };
}

/** Throws `wrong-state` if a loop device has the image: it may change, and its data may not all be in the file. */
async function requireIdle(
  domain: Domain,
  subject: string,
  { path, image }: { path: string; image: ImageStatus },
): Promise<void> {
  const [device] = await domain.host.loops.findByImage(image);
  if (device === undefined) return;
  throw new VolumeError(
    'wrong-state',
    `${subject}: image ${path} is in use: it is attached to ${device.path}; stop its pods or unmount it, and run 'losetup --detach ${device.path}' if it stays attached`,
  );
}

/** The record of a volume that is imported from an image, whose size and format it takes. */
export async function importedRecord(
  domain: Domain,
  draft: ImportDraft,
  from: {
    readonly path: string;
    readonly image: ImageStatus;
    readonly origin: string;
    readonly format: ImageFormat;
    readonly importedFrom: ImportSource;
  },
): Promise<VolumeRecord> {
  const { id, input, subject } = draft;
  const { path, image, format, importedFrom } = from;
  const { fsType, uuid, sectorSize } = format;
  const { filesystems } = domain.host;
  const growthLimit = await findGrowthLimit(filesystems, fsType, { path, ...image });
  const origin = { subject: from.origin, fsType, image, growthLimit };
  const create = asCreateInput(input, fsType);
  const sizeBytes = chooseSize(filesystems, create, origin, subject);
  requireGrowable(origin, sizeBytes, subject);
  const record = newVolumeRecord({
    id,
    input: { ...create, settings: { ...create.settings, sectorSize } },
    sizeBytes,
    mountOptions: [],
    createdAtMs: domain.now(),
  });
  const kept = input.keepsUuid && uuid !== undefined ? { fsUuid: uuid } : {};
  return { ...record, ...kept, importedFrom };
}

interface ImageImport {
  readonly draft: ImportDraft;
  readonly source: SourceStatus;
  readonly image: ImageStatus;
  readonly record: VolumeRecord;
}

async function makeImported(
  domain: Domain,
  operation: Operation,
  { draft, source, image, record }: ImageImport,
): Promise<void> {
  const { id, pool, input, subject } = draft;
  const { path, state } = source;
  const copySource = { kind: 'image', path, state } as const;
  const interrupted = domain.interruptedRestores.find(id, { pool, source: copySource });
  if (interrupted === undefined) await domain.interruptedRestores.discard(id);
  const allocate = record.provisioning === 'thick' && interrupted === undefined;
  await commitCopiedVolume(domain, operation, {
    ...{ pool, record, subject, interrupted, allocate },
    build: async (directory, { doneBytes: resumeFrom }) => {
      const to = join(directory, imageFile);
      const copy = { to, volumeId: id, source: copySource, resumeFrom, operation };
      if (resumeFrom > 0n || !(await tryReflink(domain, path, to)))
        await copyForVolume(domain, path, copy);
      await requireUnchanged(domain, subject, source);
      const origin = { subject: `image ${path}`, image, provisioning: 'thin' as const };
      await makeOwnVolume(domain, origin, { directory, record, keepsUuid: input.keepsUuid });
    },
  });
}

/** Returns false if the two filesystems cannot share blocks. */
async function tryReflink(domain: Domain, from: string, to: string): Promise<boolean> {
  try {
    await domain.host.copies.reflink(from, to);
    return true;
  } catch (error) {
    if (hasErrno(error, 'EXDEV', 'EOPNOTSUPP', 'EINVAL', 'ENOTTY')) return false;
    throw error;
  }
}
