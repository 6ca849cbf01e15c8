/**
 * The reasons why a call can fail. All code below the fronts uses them; only `rpc/status.ts` knows gRPC codes, and only
 * `docker/` knows Docker's error strings.
 */
export const reasons = [
  'invalid',
  'not-found',
  'conflict',
  'busy',
  'wrong-state',
  'out-of-range',
  'no-space',
  'stale-token',
  'unavailable',
  'unsupported',
  'cancelled',
  'internal',
] as const;

export type Reason = (typeof reasons)[number];

/**
 * An error with a message for the operator, which contains the id or path and says what to do. The message appears in
 * `kubectl describe`, so it contains neither a stack trace nor a secret. The cause is only logged.
 */
export class VolumeError extends Error {
  readonly reason: Reason;

  constructor(reason: Reason, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'VolumeError';
    this.reason = reason;
  }
}

/** Returns the message of any thrown value. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The message of the cause of a thrown value; undefined if it has no cause, or if its own message contains that of the cause. */
export function causeOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || error.cause === undefined) return undefined;
  const cause = messageOf(error.cause);
  return error.message.includes(cause) ? undefined : cause;
}
