import type { Reason } from '../errors.ts';

/**
 * The code in the metrics for each reason. All fronts use the names of gRPC codes, so that one alert covers all calls.
 */
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
