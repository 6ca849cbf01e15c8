import { VolumeError } from '../../errors.ts';
import type { Domain } from '../domain.ts';

/**
 * CSI spec, Probe. Returns why the node is not ready and what to do; undefined if all programs and at least one pool are
 * available.
 */
export async function findReadinessProblem({ host, pools }: Domain): Promise<string | undefined> {
  const missing = await host.missingPrograms();
  if (missing.length > 0) {
    return `programs are missing: ${missing.join(', ')}; install their packages`;
  }
  if (pools.served.length > 0) return undefined;
  try {
    pools.requireAllServed();
  } catch (error) {
    if (error instanceof VolumeError) return error.message;
    throw error;
  }
  return 'no pool is configured; start the driver with --pool NAME=DIR';
}
