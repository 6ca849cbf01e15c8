import type { Reason } from '../errors.ts';

/** How a call ended, in metrics: by the names of gRPC's codes, whatever front served it, so that one alert sees all. */
export const metricCodes = {
  invalid: 'INVALID_ARGUMENT',
  'not-found': 'NOT_FOUND',
  conflict: 'ALREADY_EXISTS',
  busy: 'ABORTED',
  'wrong-state': 'FAILED_PRECONDITION',
  'out-of-range': 'OUT_OF_RANGE',
  'no-space': 'RESOURCE_EXHAUSTED',
  'stale-token': 'ABORTED',
  unavailable: 'UNAVAILABLE',
  unsupported: 'UNIMPLEMENTED',
  cancelled: 'CANCELLED',
  internal: 'INTERNAL',
} as const satisfies Record<Reason, string>;
