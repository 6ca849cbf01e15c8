import { join } from 'node:path';
import { cacheRoot } from '../e2e/cluster/cache.ts';

/** Where `scripts/bootstrap test` puts it. */
export function csiSanityProgram(): string {
  return join(cacheRoot(), 'bin', 'csi-sanity');
}
