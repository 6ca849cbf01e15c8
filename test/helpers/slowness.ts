/** Set on emulated processors: the factor by which that machine is slower than others. */
export const slownessVariable = 'LOOPCSI_TEST_SLOWNESS';

const slowness = Number(process.env[slownessVariable] ?? '1');

/** A timeout in milliseconds, multiplied by the slowness of the machine. */
export function scaledMs(timeoutMs: number): number {
  return timeoutMs * slowness;
}
