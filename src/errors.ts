/**
 * Why a call could not be done, in the vocabulary shared by every room below the fronts.
 * Only `rpc/status.ts` knows the gRPC codes and only `docker/` its error strings.
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
 * An error whose message is meant for a person: it names the thing and says what to do. It reaches
 * `kubectl describe`, so it never holds a stack or a secret; the cause goes to the log only.
 */
export class VolumeError extends Error {
  readonly reason: Reason;

  constructor(reason: Reason, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'VolumeError';
    this.reason = reason;
  }
}

/** The text of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
