import { basename, dirname, join } from 'node:path';

/** File in the staging path of a raw block volume. */
const nodeName = 'device';

/**
 * A raw block volume is staged by binding its device node to this file in its staging path, so that the mount table shows it
 * after a restart too.
 */
export function stagedNodePath(stagingTargetPath: string): string {
  return join(stagingTargetPath, nodeName);
}

/** All paths at which a staged volume may be mounted: the filesystem at the first, the device node at the second. */
export function stagingMountPaths(stagingTargetPath: string): readonly [string, string] {
  return [stagingTargetPath, stagedNodePath(stagingTargetPath)];
}

/** The staging path to which the path of a bound device node belongs; any other path is returned unchanged. */
export function stagingPathOfNode(path: string): string {
  return basename(path) === nodeName ? dirname(path) : path;
}
