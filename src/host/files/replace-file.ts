import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Steps of `replaceFile` at which a crash test may stop it. */
export const replaceFilePoints = ['record:written', 'record:synced', 'record:renamed'] as const;
export type ReplaceFilePoint = (typeof replaceFilePoints)[number];

/**
 * Replaces the content of `path` so that a crash at any moment leaves the old or the new content, whole: temporary file,
 * fsync, rename, fsync of the directory (rename(2)). `durable: false` leaves out both fsyncs, for notes about mounts, which
 * do not outlive a power cut either. Many calls, but one step of the gate: `paths.ts` makes it one.
 */
export async function replaceFile(
  path: string,
  text: string,
  options: { durable?: boolean; reached?: (point: ReplaceFilePoint) => void | Promise<void> } = {},
): Promise<void> {
  const { durable = true, reached } = options;
  const temporary = `${path}.new`;
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
