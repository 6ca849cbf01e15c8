/** Why connections to the agent's listener are refused; they are counted, and logged without letting a peer fill the log. */
import type { TLSSocket } from 'node:tls';
import type { Logger } from '../../observe/log.ts';
import type { RoleProblem } from '../../tls/roles.ts';

/** The label of the metric. */
export type RefusalReason =
  | RoleProblem
  | 'no-credentials'
  | 'too-many-connections'
  | 'handshake-timeout'
  | 'not-tls'
  | 'tls-version'
  | 'handshake-failed'
  | 'no-certificate'
  | 'expired'
  | 'not-yet-valid'
  | 'untrusted'
  | 'wrong-role'
  | 'not-http2';

export interface Refusal {
  readonly reason: RefusalReason;
  /** A sentence for the operator. */
  readonly problem: string;
}

/** The same refusal of the same address is logged again after this time. */
const repeatMs = 10 * 60 * 1000;
/** Refusals that are remembered. Beyond them, refusals are only counted until the oldest is forgotten. */
const maxRemembered = 256;

/** Logs each reason once per address and ten minutes. */
export class RefusalLog {
  readonly #log: Logger;
  readonly #now: () => number;
  /** When each address and reason was logged, the oldest first. */
  readonly #loggedAtMs = new Map<string, number>();

  constructor(log: Logger, now: () => number = () => performance.now()) {
    this.#log = log;
    this.#now = now;
  }

  report(peer: string, { reason, problem }: Refusal): void {
    this.#forgetOld();
    const key = `${reason} ${peer}`;
    if (this.#loggedAtMs.has(key) || this.#loggedAtMs.size >= maxRemembered) return;
    this.#loggedAtMs.set(key, this.#now());
    this.#log.warn({ peer, reason, problem }, 'connection to the agent was refused');
    if (this.#loggedAtMs.size === maxRemembered) {
      this.#log.warn(
        { maxRemembered },
        'further refused connections are only counted: many addresses were refused',
      );
    }
  }

  #forgetOld(): void {
    const oldestMs = this.#now() - repeatMs;
    for (const [key, atMs] of this.#loggedAtMs) {
      if (atMs > oldestMs) return;
      this.#loggedAtMs.delete(key);
    }
  }
}

/** Reasons by the code of the verification of the peer's certificate (openssl-verification-options(1)). */
const verificationReasons: Readonly<Record<string, RefusalReason>> = {
  CERT_HAS_EXPIRED: 'expired',
  CERT_NOT_YET_VALID: 'not-yet-valid',
};

/** The refusal of a certificate whose verification failed. */
export function refusalOfVerification(socket: Pick<TLSSocket, 'authorizationError'>): Refusal {
  // The type says Error, but it is a code.
  const code = String(socket.authorizationError);
  return {
    reason: verificationReasons[code] ?? 'untrusted',
    problem: `the certificate of the peer was not accepted: ${code}`,
  };
}

/** Reasons by the code of a handshake that failed before the certificate. */
const handshakeReasons: Readonly<Record<string, RefusalReason>> = {
  ERR_TLS_HANDSHAKE_TIMEOUT: 'handshake-timeout',
  ERR_SSL_HTTP_REQUEST: 'not-tls',
  ERR_SSL_WRONG_VERSION_NUMBER: 'not-tls',
  ERR_SSL_PACKET_LENGTH_TOO_LONG: 'not-tls',
  ERR_SSL_UNSUPPORTED_PROTOCOL: 'tls-version',
  ERR_SSL_NO_APPLICATION_PROTOCOL: 'not-http2',
};

/** The refusal of a failed handshake; undefined if the peer has only disconnected, as probes of the port do. */
export function refusalOf(error: NodeJS.ErrnoException): Refusal | undefined {
  if (error.code === 'ECONNRESET' || error.code === 'EPIPE') return undefined;
  return {
    reason: handshakeReasons[error.code ?? ''] ?? 'handshake-failed',
    problem: `the TLS handshake failed: ${error.message.trim()}`,
  };
}
