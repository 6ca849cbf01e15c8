import type { Keepalive } from '../grpc-server.ts';

/**
 * Of connections between agents, and from the controller. The side that connected connects again, so a connection whose other side does not
 * answer is closed early.
 */
export const agentKeepalive: Keepalive = { pingMs: 10_000, timeoutMs: 5_000 };

/**
 * While data is read without gRPC, both sides send something every `sendMs` milliseconds, and a side that has heard nothing for `silentMs`
 * takes the other one as lost: as late as with pings.
 */
export function signsOfLife({ pingMs, timeoutMs }: Keepalive): {
  readonly sendMs: number;
  readonly silentMs: number;
} {
  return { sendMs: pingMs / 2, silentMs: pingMs + timeoutMs };
}
