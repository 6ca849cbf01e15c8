/** Set where processors are emulated: how many times slower than others that machine is. */
export const slownessVariable = 'LOOPCSI_TEST_SLOWNESS';

const slowness = Number(process.env[slownessVariable] ?? '1');

/** The bound of a wait for something that comes sooner or later: as written, and longer where everything takes longer. */
export function patientMs(timeoutMs: number): number {
  return timeoutMs * slowness;
}
