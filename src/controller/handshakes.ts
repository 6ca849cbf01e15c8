/**
 * Limits the TLS handshakes that run at the same time. After the start, and when many agents come back at once, all handshakes together
 * can take longer than an agent waits for one. If they all ran at the same time, all would then be given up and begin again, for ever.
 */
import type { Socket } from 'node:net';
import type { ChannelCredentials, experimental } from '@grpc/grpc-js';
import { makeSemaphore } from '../async.ts';

const maxHandshakes = 32;
/**
 * An agent that accepts the connection and then says nothing must not keep others waiting. Half of the time that an agent waits for a
 * handshake: while everything is slow, no more than twice the limit run.
 */
const maxSlotMs = 5_000;

export interface Handshakes {
  /** Credentials whose handshakes count towards the limit. Changes `credentials`. */
  readonly limit: (credentials: ChannelCredentials) => ChannelCredentials;
}

/** The limit for all credentials that are passed to it. */
export function makeHandshakes(limits: { max?: number; maxSlotMs?: number } = {}): Handshakes {
  const slots = makeSemaphore(limits.max ?? maxHandshakes);
  const slotMs = limits.maxSlotMs ?? maxSlotMs;
  return {
    limit: (credentials) => {
      const create = credentials._createSecureConnector.bind(credentials);
      credentials._createSecureConnector = (...given) =>
        limitConnector(create(...given), slots, slotMs);
      return credentials;
    },
  };
}

/** A connector belongs to one address of a channel, which makes one attempt at a time. */
function limitConnector(
  connector: experimental.SecureConnector,
  slots: ReturnType<typeof makeSemaphore>,
  slotMs: number,
): experimental.SecureConnector {
  const destroyed = new AbortController();
  let pending: Socket | undefined;
  return {
    connect: async (socket) => {
      pending = socket;
      // Nobody else handles errors of a socket that waits, and they would end the process.
      socket.on('error', () => undefined);
      try {
        return await slots(async (freeSlot) => {
          if (socket.destroyed) throw new Error('the agent closed the connection');
          const timer = setTimeout(freeSlot, slotMs).unref();
          try {
            return await connector.connect(socket);
          } finally {
            clearTimeout(timer);
          }
        }, destroyed.signal);
      } finally {
        pending = undefined;
      }
    },
    waitForReady: async () => connector.waitForReady(),
    getCallCredentials: () => connector.getCallCredentials(),
    destroy: () => {
      // grpc-js forgets an attempt without ending it: the socket would stay open until the agent closes it.
      pending?.destroy();
      destroyed.abort(new Error('the connection is not needed any more'));
      connector.destroy();
    },
  };
}
