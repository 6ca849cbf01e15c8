import { join } from 'node:path';
import { cacheRoot } from '../e2e/cluster/cache.ts';

/** The path at which `scripts/bootstrap test` installs csi-sanity. */
export function csiSanityProgram(): string {
  return join(cacheRoot(), 'bin', 'csi-sanity');
}
