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

/** The error of a call with any code, for a call that another server has answered. `message` is passed on as it is. */
export class StatusError extends Error {
  readonly code: status;

  constructor(code: status, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'StatusError';
    this.code = code;
  }
}

/** The status in an error of a client's call (`ServiceError` of grpc-js); undefined for any other error. */
export function findServiceError(error: unknown): CallStatus | undefined {
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'number')
    return undefined;
  const details = 'details' in error ? String(error.details) : error.message;
  return { code: error.code, details };
}

/** gRPC sends the message in a header, and clients limit the size of headers: grpc-go accepts 16 KiB in total. */
const maxDetailsLength = 2000;

/**
 * Returns the status for the caller. Only the messages of a VolumeError and a StatusError are meant for callers; other errors are
 * only logged.
 */
export function toStatus(error: unknown): CallStatus {
  if (error instanceof StatusError) return { code: error.code, details: shortened(error.message) };
  if (error instanceof VolumeError)
    return { code: codeOf[error.reason], details: shortened(error.message) };
  return { code: status.INTERNAL, details: 'internal error, see the log of the driver' };
}

function shortened(message: string): string {
  return message.length > maxDetailsLength ? `${message.slice(0, maxDetailsLength)}…` : message;
}

/** Returns the name of a code for logs and metrics, for example `INVALID_ARGUMENT` for 3. */
export function codeName(code: status): string {
  return status[code];
}
