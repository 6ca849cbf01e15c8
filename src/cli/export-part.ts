/** The unfinished file of a raw export, and the record of its progress, from which `--resume` continues. */
import { type FileHandle, open, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import * as v from 'valibot';

/** The first `doneBytes` bytes of `FILE.part` are complete and on the disk. */
const progressSchema = v.object({
  kind: v.picklist(['volume', 'snapshot']),
  id: v.string(),
  state: v.string(),
  doneBytes: v.pipe(
    v.string(),
    v.regex(/^\d{1,19}$/),
    v.transform((text) => BigInt(text)),
  ),
});
export type PartProgress = v.InferOutput<typeof progressSchema>;

export const partOf = (path: string): string => `${path}.part`;
export const progressOf = (path: string): string => `${path}.part.json`;

/** Returns undefined if there is no progress, or none that can be read. */
export async function readProgress(path: string): Promise<PartProgress | undefined> {
  try {
    return v.parse(progressSchema, JSON.parse(await readFile(progressOf(path), 'utf8')));
  } catch {
    return undefined;
  }
}

export async function recordProgress(
  path: string,
  { doneBytes, ...facts }: PartProgress,
): Promise<void> {
  const progress = { ...facts, doneBytes: doneBytes.toString() };
  const temporary = `${progressOf(path)}.new`;
  await writeFile(temporary, JSON.stringify(progress), { mode: 0o600 });
  await rename(temporary, progressOf(path));
}

/** Opens the unfinished file of an export that is continued, or makes an empty one. */
export async function openPart(
  path: string,
  { isContinued }: { readonly isContinued: boolean },
): Promise<FileHandle> {
  if (isContinued) return open(partOf(path), 'r+', 0o600);
  // The progress of an earlier export does not hold for an empty file, not even after a kill or a power loss.
  await rm(progressOf(path), { force: true });
  await syncDirectory(path);
  return open(partOf(path), 'w+', 0o600);
}

/** Writes the directory entry of a file to the disk. */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(dirname(path), 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** Writes all bytes: write(2) may write fewer, for example when the disk or a quota is almost full. */
export async function writeAll(
  handle: Pick<FileHandle, 'write'>,
  bytes: Uint8Array,
  offset: bigint,
): Promise<void> {
  for (let written = 0; written < bytes.length; ) {
    const position = Number(offset) + written;
    const left = bytes.length - written;
    const { bytesWritten } = await handle.write(bytes, written, left, position);
    written += bytesWritten;
  }
}
