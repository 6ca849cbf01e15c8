import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Fault points of `replaceFile`. */
export const replaceFilePoints = ['record:written', 'record:synced', 'record:renamed'] as const;
type ReplaceFilePoint = (typeof replaceFilePoints)[number];

/** The temporary file of a replacement, which a crash may leave. */
export function replacementOf(path: string): string {
  return `${path}.new`;
}

/**
 * Replaces the content of `path` atomically: temporary file, fsync, rename, fsync of the directory (rename(2)). After a
 * crash the file has either the complete old or the complete new content. `durable: false` skips both fsyncs, for the
 * state of mounts, which do not survive a power cut either. This makes several calls; `paths.ts` runs them in one pass
 * through the gate.
 */
export async function replaceFile(
  path: string,
  text: string,
  options: { durable?: boolean; reached?: (point: ReplaceFilePoint) => void | Promise<void> } = {},
): Promise<void> {
  const { durable = true, reached } = options;
  const temporary = replacementOf(path);
  try {
    const file = await open(temporary, 'w', 0o600);
    try {
      await file.writeFile(text);
      await reached?.('record:written');
      if (durable) await file.sync();
    } finally {
      await file.close();
    }
    await reached?.('record:synced');
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await reached?.('record:renamed');
  if (durable) await syncDirectory(dirname(path));
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
