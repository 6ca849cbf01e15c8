/**
 * What allows another agent to read a snapshot or volume of this one. All agents may share one certificate, so it does not say which of
 * them has connected: a ticket is a secret for one copy of one source, and is accepted only from the addresses of one node.
 */
import { randomBytes } from 'node:crypto';
import { isIPv4 } from 'node:net';
import { isDeepStrictEqual } from 'node:util';
import { status } from '@grpc/grpc-js';
import type { SentCopy } from '../../volumes/model.ts';
import { StatusError } from '../status.ts';

/** Longer than a copy waits for its turn; a reading that has begun is not ended. */
const validMs = 6 * 60 * 60_000;
const maxTickets = 10_000;

interface Ticket {
  readonly copy: SentCopy;
  readonly peers: ReadonlySet<string>;
  readonly untilMs: number;
}

export class Tickets {
  readonly #tickets = new Map<string, Ticket>();
  readonly #nowMs: () => number;

  constructor(nowMs: () => number = () => performance.now()) {
    this.#nowMs = nowMs;
  }

  /** A new ticket for the copy and the node with these IP addresses. */
  issue(copy: SentCopy, peerAddresses: readonly string[]): string {
    this.#forgetOld();
    const ticket = randomBytes(32).toString('base64url');
    const peers = new Set(peerAddresses.map(plainAddress));
    this.#tickets.set(ticket, { copy, peers, untilMs: this.#nowMs() + validMs });
    return ticket;
  }

  /**
   * Throws UNAUTHENTICATED for a ticket that is not known, or not any more, so that a new one helps, and PERMISSION_DENIED unless it is for
   * that copy and for the peer, an IP address and a port.
   */
  require(ticket: string, { copy, peer }: { copy: SentCopy; peer: string }): void {
    const subject = `the ticket for ${copy.source.kind} '${copy.source.id}'`;
    const found = this.#tickets.get(ticket);
    if (found === undefined || found.untilMs < this.#nowMs())
      throw new StatusError(
        status.UNAUTHENTICATED,
        `${subject} is not valid, or not any more; repeat the call for a new one`,
      );
    if (!isDeepStrictEqual(found.copy, copy))
      throw denied(`${subject} is for another source or another copy`);
    const address = plainAddress(peer.replace(/:\d+$/, ''));
    if (!found.peers.has(address)) {
      throw denied(
        `${subject} is for ${[...found.peers].join(', ')}, and not for ${address}; the addresses of nodes must not be translated on the way to each other`,
      );
    }
  }

  #forgetOld(): void {
    for (const [ticket, { untilMs }] of this.#tickets) {
      if (untilMs >= this.#nowMs() && this.#tickets.size < maxTickets) return;
      this.#tickets.delete(ticket);
    }
  }
}

function denied(message: string): StatusError {
  return new StatusError(status.PERMISSION_DENIED, message);
}

/** An address without brackets, without the scope of a link, and an IPv4 address that arrived as IPv6 in its own form. */
function plainAddress(address: string): string {
  const bare = address
    .replace(/^\[|\]$/g, '')
    .replace(/%.*$/, '')
    .toLowerCase();
  const mapped = bare.replace(/^::ffff:/, '');
  return isIPv4(mapped) ? mapped : bare;
}
