import { VolumeError } from '../../../errors.ts';
import { hasErrno } from '../../../host/errors.ts';
import type { PathStatus } from '../../../host/host.ts';
import type { Domain } from '../../domain.ts';
import { toVolumeError } from '../../engine/failures.ts';

/** A directory or image of other software. */
export interface SourceStatus {
  readonly path: string;
  readonly isDirectory: boolean;
  /**
   * Changes when the image changes: `inode:size:mtime`. It has no device number, which may change at a reboot. Empty for a
   * directory.
   */
  readonly state: string;
}

/**
 * Looks at the source of an import. Throws `not-found` if the driver cannot see it, `invalid` for anything but a directory or a
 * file, and for a path in a pool.
 */
export async function openSource(
  domain: Domain,
  subject: string,
  path: string,
): Promise<SourceStatus> {
  requireOutsidePools(domain, subject, path);
  const status = await statusOf(domain, subject, path);
  if (status.kind !== 'file' && status.kind !== 'directory') {
    throw new VolumeError(
      'invalid',
      `${subject}: ${path} is neither a directory nor a regular file (it is a ${status.kind}); give the real path of one, or send a device as a stream: loopcsi volume import NAME - --size SIZE < DEVICE`,
    );
  }
  const isDirectory = status.kind === 'directory';
  const { inode, sizeBytes, modifiedNs } = status;
  const state = isDirectory ? '' : `${inode}:${sizeBytes}:${modifiedNs}`;
  return { path, isDirectory, state };
}

async function statusOf(domain: Domain, subject: string, path: string): Promise<PathStatus> {
  try {
    return await domain.host.files.status(path);
  } catch (error) {
    if (!hasErrno(error, 'ENOENT', 'ENOTDIR')) throw await toVolumeError(error, subject);
    throw new VolumeError(
      'not-found',
      `${subject}: the driver cannot see ${path}: it does not exist on the driver's machine, or, if the driver runs in a container, it is not mounted into it; ` +
        'send an image as a stream instead (loopcsi volume import NAME - --size SIZE < IMAGE), or see docs/import-export.md',
      { cause: error },
    );
  }
}

/** The images of a pool change while they are used, and the driver's own files are no source. */
function requireOutsidePools(domain: Domain, subject: string, path: string): void {
  for (const pool of domain.pools.all) {
    const roots = [pool.settings.path, ...(pool.isServed ? [pool.root] : [])];
    for (const root of roots) {
      const isInside = path === root || path.startsWith(`${root}/`);
      if (!isInside && !root.startsWith(`${path}/`)) continue;
      throw new VolumeError(
        'invalid',
        `${subject}: ${path} ${isInside ? 'is in' : 'contains'} pool '${pool.name}' (${root}); copy a volume with 'loopcsi volume clone', or choose another source`,
      );
    }
  }
}

/** Throws `wrong-state` if the image is not the one that was opened. */
export async function requireUnchanged(
  domain: Domain,
  subject: string,
  source: SourceStatus,
): Promise<void> {
  const { state } = await openSource(domain, subject, source.path);
  if (state === source.state) return;
  throw new VolumeError(
    'wrong-state',
    `${subject}: ${source.path} changed while it was copied, so nothing was imported; stop what writes to it, then import it again`,
  );
}
