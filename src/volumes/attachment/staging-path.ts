import { basename, dirname, join } from 'node:path';

/** Name of the file in the staging path of a raw block volume. */
const deviceFile = 'device';

/**
 * A raw block volume is staged by binding its device node to this file in its staging path, so that the mount table shows it
 * after a restart too.
 */
export function stagedNodePath(stagingTargetPath: string): string {
  return join(stagingTargetPath, deviceFile);
}

/** All paths at which a staged volume may be mounted: first that of a filesystem, then that of a device node. */
export function stagingMountPaths(stagingTargetPath: string): readonly [string, string] {
  return [stagingTargetPath, stagedNodePath(stagingTargetPath)];
}

/** The staging path that a bound device node belongs to; any other path is returned unchanged. */
export function stagingPathOfNode(path: string): string {
  return basename(path) === deviceFile ? dirname(path) : path;
}
