import { status } from '@grpc/grpc-js';
import { type Reason, VolumeError } from '../errors.ts';

/** The gRPC code of each reason (CSI spec, "Error Scheme"). A reason without a code is a compile error. */
const codeOf = {
  invalid: status.INVALID_ARGUMENT,
  'not-found': status.NOT_FOUND,
  conflict: status.ALREADY_EXISTS,
  busy: status.ABORTED,
  'wrong-state': status.FAILED_PRECONDITION,
  'out-of-range': status.OUT_OF_RANGE,
  'no-space': status.RESOURCE_EXHAUSTED,
  'stale-token': status.ABORTED,
  unavailable: status.UNAVAILABLE,
  unsupported: status.UNIMPLEMENTED,
  cancelled: status.CANCELLED,
  internal: status.INTERNAL,
} as const satisfies Readonly<Record<Reason, status>>;

export interface CallStatus {
  readonly code: status;
  readonly details: string;
}

/** gRPC sends the message in a header, and clients limit the size of headers: grpc-go accepts 16 KiB in total. */
const maxDetailsLength = 2000;

/**
 * Returns the status for the caller. Only the message of a VolumeError is meant for callers; other errors are only logged.
 */
export function toStatus(error: unknown): CallStatus {
  if (!(error instanceof VolumeError)) {
    return { code: status.INTERNAL, details: 'internal error, see the log of the driver' };
  }
  const { message } = error;
  const details =
    message.length > maxDetailsLength ? `${message.slice(0, maxDetailsLength)}…` : message;
  return { code: codeOf[error.reason], details };
}

/** Returns the name of a code for logs and metrics, for example `INVALID_ARGUMENT` for 3. */
export function codeName(code: status): string {
  return status[code];
}
