import { join } from 'node:path';
import { VolumeError } from '../../../errors.ts';
import { type VolumeRecord, volumeRecord } from '../../../state/records.ts';
import { MiB, roundUp } from '../../../units.ts';
import { maxImageBytes } from '../../capacity.ts';
import type { Domain } from '../../domain.ts';
import type { Operation } from '../../engine/operations.ts';
import { commitNew } from '../../pool/commit.ts';
import { imageFile } from '../../pool/layout.ts';
import { makeOwnVolume } from '../../snapshot/restore.ts';
import { findFormat } from './image-format.ts';
import type { ImportDraft, ImportResult } from './import-draft.ts';
import { importedRecord } from './import-image.ts';
import { stalledAfterMs, untilSourceStalls } from './stalls.ts';

/** The data of an image in ascending order, and at last its number of bytes. Bytes that are not sent are zeros. */
export type ImageChunks = AsyncIterable<
  { readonly offset: bigint; readonly data: Uint8Array } | { readonly endBytes: bigint }
>;

/** Bytes between two syncs, which bounds the dirty pages. */
const syncEveryBytes = 64n * MiB;

/** Writes a stream to the image of a new volume, then treats it like an image file. A failure removes everything. */
export async function importReceived(
  domain: Domain,
  operation: Operation,
  draft: ImportDraft,
  { imageBytes, chunks }: { imageBytes: bigint; chunks: ImageChunks },
): Promise<ImportResult> {
  const { id, pool, input, subject } = draft;
  requireImageSize(subject, imageBytes);
  const wanted = imageBytes > input.sizeBytes ? imageBytes : input.sizeBytes;
  operation.beginEffects();
  const reserved = roundUp(wanted, MiB);
  const reservations = [await pool.space.reserve(reserved, subject)];
  let dataBytes = 0n;
  try {
    const record = await commitNew(domain, {
      pool,
      area: 'volumes',
      id,
      schema: volumeRecord,
      images: [imageFile],
      build: async (directory) => {
        const path = join(directory, imageFile);
        await domain.host.files.createImage(path, { sizeBytes: imageBytes, allocate: false });
        dataBytes = await receive(domain, operation, { path, imageBytes, chunks, subject });
        await domain.reached('import:received');
        const record = await receivedRecord(domain, draft, path);
        if (record.sizeBytes > reserved)
          reservations.push(await pool.space.reserve(record.sizeBytes - reserved, subject));
        const image = await domain.host.files.imageStatus(path);
        const origin = { subject: 'the stream', image, provisioning: 'thin' as const };
        await makeOwnVolume(domain, origin, { directory, record, keepsUuid: input.keepsUuid });
        return record;
      },
    });
    const { fsType, sizeBytes } = record;
    const result = { isDirectory: false, fsType, sizeBytes, dataBytes, entries: 0n };
    return { ...result, volumeId: record.id, existed: false };
  } finally {
    pool.space.invalidate();
    for (const reservation of reservations) reservation.release();
  }
}

async function receivedRecord(
  domain: Domain,
  draft: ImportDraft,
  path: string,
): Promise<VolumeRecord> {
  const image = await domain.host.files.imageStatus(path);
  const origin = 'the stream';
  const format = await findFormat(domain, draft, { path, image, origin });
  const importedFrom = { kind: 'stream', path: '', state: '' } as const;
  return importedRecord(domain, draft, { path, image, origin, format, importedFrom });
}

function requireImageSize(subject: string, imageBytes: bigint): void {
  if (imageBytes > 0n && imageBytes <= maxImageBytes) return;
  throw new VolumeError(
    'out-of-range',
    `${subject}: an image of ${imageBytes} bytes cannot be imported; its size must be 1 to ${maxImageBytes} bytes`,
  );
}

/** Writes the chunks. Returns the number of bytes written. Throws `invalid` if the stream does not contain the whole image. */
async function receive(
  domain: Domain,
  operation: Operation,
  from: { path: string; imageBytes: bigint; chunks: ImageChunks; subject: string },
): Promise<bigint> {
  const { path, imageBytes, chunks, subject } = from;
  const { files } = domain.host;
  let [reached, written, unsynced] = [0n, 0n, 0n];
  let endBytes: bigint | undefined;
  const arriving = untilSourceStalls(chunks, {
    signal: operation.signal,
    limitMs: stalledAfterMs,
    stalledError: () =>
      new VolumeError(
        'cancelled',
        `${subject}: no data has arrived for ${stalledAfterMs / 60_000} minutes after ${reached} of ${imageBytes} bytes; nothing was imported: send it again`,
      ),
  });
  for await (const chunk of arriving) {
    operation.signal.throwIfAborted();
    if ('endBytes' in chunk) {
      endBytes = chunk.endBytes;
      continue;
    }
    const length = BigInt(chunk.data.length);
    if (endBytes !== undefined || chunk.offset < reached || chunk.offset + length > imageBytes) {
      throw new VolumeError(
        'invalid',
        `${subject}: ${length} bytes at offset ${chunk.offset} of the stream are out of order, or beyond the image of ${imageBytes} bytes; give the real size of the image`,
      );
    }
    // An empty piece only says that the stream goes on.
    if (length > 0n) await files.writeRange(path, chunk.offset, chunk.data);
    reached = chunk.offset + length;
    written += length;
    unsynced += length;
    operation.reportProgress(reached, imageBytes);
    if (unsynced < syncEveryBytes) continue;
    await files.sync(path);
    unsynced = 0n;
  }
  if (endBytes === imageBytes) return written;
  const received = endBytes === undefined ? 'ended early' : `has ${endBytes} bytes`;
  throw new VolumeError(
    'invalid',
    `${subject}: the stream ${received}, but the image has ${imageBytes} bytes; nothing was imported: send it again completely`,
  );
}
