import { status } from '@grpc/grpc-js';
import { type Reason, VolumeError } from '../errors.ts';

/** CSI spec, "Error Scheme". A reason without a code does not compile. */
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

/** gRPC puts the message into a header, and clients bound the size of those: grpc-go refuses more than 16 KiB in all. */
const longestDetails = 2000;

/** What a caller is told. The message of a VolumeError is for people; whatever else was thrown stays in the log. */
export function toStatus(error: unknown): CallStatus {
  if (!(error instanceof VolumeError)) {
    return { code: status.INTERNAL, details: 'internal error, see the log of the driver' };
  }
  const { message } = error;
  const details =
    message.length > longestDetails ? `${message.slice(0, longestDetails)}…` : message;
  return { code: codeOf[error.reason], details };
}

/** `INVALID_ARGUMENT` for 3: what logs and metrics show. */
export function codeName(code: status): string {
  return status[code];
}
