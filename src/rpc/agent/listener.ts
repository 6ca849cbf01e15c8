/**
 * The network address of the agent: TLS 1.3, with a certificate of the peer. The role in the certificate, and the protocol that the peer
 * asks for, decide which server gets the connection, so no method has to check who calls it.
 */
import { constants } from 'node:crypto';
import type { Socket } from 'node:net';
import { createServer, type DetailedPeerCertificate, type Server, type TLSSocket } from 'node:tls';
import { callPeriodically } from '../../async.ts';
import { messageOf, VolumeError } from '../../errors.ts';
import type { Logger } from '../../observe/log.ts';
import type { Credentials, FollowedCredentials } from '../../tls/credentials.ts';
import { type Role, roleOf } from '../../tls/roles.ts';
import type { ConnectionServer } from '../grpc-server.ts';
import { dataProtocol } from './frames.ts';
import {
  type Refusal,
  RefusalLog,
  type RefusalReason,
  refusalOf,
  refusalOfVerification,
} from './refusals.ts';

export interface ListenerLimits {
  /** Time limit from the connection to the end of the TLS handshake. */
  readonly handshakeTimeoutMs: number;
  /** Connections whose peer was verified. */
  readonly maxConnections: number;
  /** Connections whose handshake has not ended. A further one closes the oldest of them. */
  readonly maxHandshakes: number;
  /** How often the certificates of open connections are checked. */
  readonly checkMs: number;
}

const defaultLimits: ListenerLimits = {
  handshakeTimeoutMs: 10_000,
  maxConnections: 128,
  maxHandshakes: 64,
  checkMs: 60_000,
};

/** Protocols by their names in the TLS handshake (ALPN). `h2` is that of gRPC. */
const protocols = ['h2', dataProtocol] as const;
type Protocol = (typeof protocols)[number];

/** The servers for a role. */
type RoleServers = Readonly<Partial<Record<Protocol, ConnectionServer>>>;

export interface ListenerOptions {
  readonly address: { readonly host: string; readonly port: number };
  readonly driverName: string;
  readonly credentials: FollowedCredentials;
  /** The servers for each role. A peer with another role, or that asks for another protocol, is refused. */
  readonly servers: ReadonlyMap<Role, RoleServers>;
  readonly log: Logger;
  /** Counts a refused connection. */
  readonly refused: (reason: RefusalReason) => void;
  readonly limits?: Partial<ListenerLimits>;
  /** The clock by which certificates of open connections expire. */
  readonly now?: () => number;
}

/** A connection whose peer was verified. */
interface Verified {
  readonly role: Role;
  readonly server: ConnectionServer;
  /** When the first certificate of its chain expires. */
  readonly expiresAtMs: number;
  /** Of the authority at the end of the chain. */
  readonly authorityFingerprint: string;
}

/** For both the first certificates and later ones. */
const tlsOptions = {
  minVersion: 'TLSv1.3',
  maxVersion: 'TLSv1.3',
  // Keys and signatures of at least 112 bits: RSA from 2048 bits on, no SHA-1.
  ciphers: 'DEFAULT@SECLEVEL=2',
  // A resumed session would not present a certificate again.
  secureOptions: constants.SSL_OP_NO_TICKET,
} as const;

export class AgentListener {
  readonly #options: ListenerOptions;
  readonly #limits: ListenerLimits;
  readonly #refusals: RefusalLog;
  readonly #server: Server;
  /** Connections whose handshake has not ended, the oldest first. */
  readonly #handshakes = new Map<
    string,
    { readonly socket: Socket; readonly timer: NodeJS.Timeout }
  >();
  readonly #verified = new Map<TLSSocket, Verified>();
  readonly #stops: (() => void)[] = [];

  private constructor(options: ListenerOptions) {
    this.#options = options;
    this.#limits = { ...defaultLimits, ...options.limits };
    this.#refusals = new RefusalLog(options.log);
    this.#server = createServer({
      ...tlsOptions,
      ALPNProtocols: protocolsOf(options.servers),
      requestCert: true,
      // Node would close the connection without a word about the reason. #accept refuses every peer that was not verified.
      rejectUnauthorized: false,
    });
    this.#server.on('connection', (socket: Socket) => this.#beginHandshake(socket));
    this.#server.on('secureConnection', (socket) => this.#accept(socket));
    this.#server.on('tlsClientError', (error, socket) => {
      const refusal = refusalOf(error);
      if (refusal !== undefined) this.#refuseHandshake(socket, refusal);
      socket.destroy();
    });
  }

  /** Listens on the address, also while there are no certificates. Throws `unavailable` if it cannot be bound. */
  static async listen(options: ListenerOptions): Promise<AgentListener> {
    const listener = new AgentListener(options);
    await listener.#bind();
    const { checkMs } = listener.#limits;
    listener.#stops.push(
      options.credentials.subscribe((credentials) => listener.#use(credentials)),
      callPeriodically(async () => {
        listener.#closeOutdated();
        return checkMs;
      }, checkMs),
    );
    return listener;
  }

  /** The port; it differs from the configured one if that is 0. */
  get port(): number {
    const address = this.#server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  }

  /** Refuses new connections. Verified ones are kept, until their server closes them. */
  close(): void {
    for (const stop of this.#stops.splice(0)) stop();
    if (this.#server.listening) this.#server.close();
    for (const { socket } of this.#handshakes.values()) socket.destroy();
  }

  async #bind(): Promise<void> {
    const { host, port } = this.#options.address;
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', (error) => {
        const problem = `--agent-address: cannot listen on ${host} port ${port}: ${messageOf(error)}`;
        reject(new VolumeError('unavailable', problem, { cause: error }));
      });
      this.#server.listen({ host, port }, resolve);
    });
    this.#server.on('error', ({ message }) => {
      this.#options.log.error({ problem: message }, 'listener of the agent failed');
    });
  }

  #use({ authorities, certificate, key }: Credentials): void {
    this.#server.setSecureContext({ ...tlsOptions, ca: authorities, cert: certificate, key });
    this.#closeOutdated();
  }

  /** Limits the number and the time of handshakes, which anyone can begin. */
  #beginHandshake(socket: Socket): void {
    // Handles errors such as ECONNRESET, also before TLS owns the socket.
    socket.on('error', ({ message }) => {
      this.#options.log.debug({ problem: message }, 'connection failed');
    });
    if (this.#options.credentials.current === undefined) {
      const problem = 'this node has no certificates yet; its log says which files it awaits';
      this.#refuse(socket, { reason: 'no-credentials', problem });
      return;
    }
    const [oldest] = this.#handshakes.values();
    if (oldest !== undefined && this.#handshakes.size >= this.#limits.maxHandshakes) {
      const problem = `it had not ended its handshake, and ${this.#limits.maxHandshakes} other connections had not either`;
      this.#refuseHandshake(oldest.socket, { reason: 'too-many-connections', problem });
    }
    const { handshakeTimeoutMs } = this.#limits;
    // Node's own limit starts again with every byte that arrives.
    const timer = setTimeout(() => {
      const problem = `the TLS handshake did not end within ${handshakeTimeoutMs} ms`;
      this.#refuseHandshake(socket, { reason: 'handshake-timeout', problem });
    }, handshakeTimeoutMs);
    const key = keyOf(socket);
    this.#handshakes.set(key, { socket, timer });
    socket.once('close', () => this.#endHandshake(key));
  }

  #endHandshake(key: string): void {
    clearTimeout(this.#handshakes.get(key)?.timer);
    this.#handshakes.delete(key);
  }

  /** A connection whose handshake was refused once may report further errors while it is closed. */
  #refuseHandshake(socket: Socket, refusal: Refusal): void {
    const key = keyOf(socket);
    if (!this.#handshakes.has(key)) return;
    this.#endHandshake(key);
    this.#refuse(socket, refusal);
  }

  #accept(socket: TLSSocket): void {
    this.#endHandshake(keyOf(socket));
    socket.on('error', ({ message }) => {
      this.#options.log.debug({ problem: message }, 'connection failed');
    });
    const verified = this.#verify(socket);
    if ('reason' in verified) {
      this.#refuse(socket, verified);
      return;
    }
    this.#verified.set(socket, verified);
    socket.once('close', () => this.#verified.delete(socket));
    verified.server.serve(socket);
  }

  #verify(socket: TLSSocket): Verified | Refusal {
    const { driverName, servers } = this.#options;
    const certificate = socket.getPeerX509Certificate();
    if (certificate === undefined)
      return { reason: 'no-certificate', problem: 'the peer presented no certificate' };
    if (!socket.authorized || socket.isSessionReused()) return refusalOfVerification(socket);
    const protocol = protocols.find((one) => one === socket.alpnProtocol);
    if (protocol === undefined)
      return { reason: 'not-http2', problem: 'the peer did not ask for HTTP/2 (ALPN)' };
    const { role, problem: reason, text } = roleOf(certificate, driverName);
    if (role === undefined) return { reason, problem: text };
    const ofRole = servers.get(role);
    if (ofRole === undefined)
      return { reason: 'wrong-role', problem: `this node serves nothing to role ${role}` };
    const server = ofRole[protocol];
    if (server === undefined)
      return { reason: 'not-http2', problem: `role ${role} must ask for HTTP/2 (ALPN)` };
    const { maxConnections } = this.#limits;
    // Other agents leave room for the controller.
    const limit = role === 'agent' ? maxConnections / 2 : maxConnections;
    const open = [...this.#verified.values()].filter((one) => one.role === role).length;
    if (open >= limit || this.#verified.size >= maxConnections)
      return { reason: 'too-many-connections', problem: `${open} of role ${role} are open` };
    return { role, server, ...chainOf(socket.getPeerCertificate(true)) };
  }

  #refuse(socket: Socket, refusal: Refusal): void {
    this.#options.refused(refusal.reason);
    this.#refusals.report(socket.remoteAddress ?? 'unknown', refusal);
    socket.destroy();
  }

  /** A connection ends with the certificates that opened it: when one expires, or when its authority is no longer trusted. */
  #closeOutdated(): void {
    const { now = Date.now } = this.#options;
    const trusted = this.#options.credentials.current?.authorityFingerprints;
    for (const [socket, { expiresAtMs, authorityFingerprint }] of this.#verified) {
      const isTrusted = trusted?.has(authorityFingerprint) ?? true;
      if (isTrusted && now() < expiresAtMs) continue;
      this.#options.log.info(
        { peer: socket.remoteAddress, expires: new Date(expiresAtMs).toISOString(), isTrusted },
        'connection to the agent was closed: its certificate is no longer valid',
      );
      socket.destroy();
    }
  }
}

/** Those of all roles. A handshake that asks only for others fails. */
function protocolsOf(servers: ReadonlyMap<Role, RoleServers>): Protocol[] {
  const all = [...servers.values()];
  return protocols.filter((protocol) => all.some((ofRole) => ofRole[protocol] !== undefined));
}

/** Identifies an open connection: the socket and the TLS socket on it are different objects. */
function keyOf({ remoteAddress, remotePort, localAddress }: Socket): string {
  return [remoteAddress, remotePort, localAddress].join(' ');
}

/** The earliest expiry in a chain, and the authority at its end. */
function chainOf(
  leaf: DetailedPeerCertificate,
): Pick<Verified, 'expiresAtMs' | 'authorityFingerprint'> {
  let last = leaf;
  let expiresAtMs = Date.parse(leaf.valid_to);
  // The issuer of a self-signed certificate is the certificate itself.
  while (last.issuerCertificate !== undefined && last.issuerCertificate !== last) {
    last = last.issuerCertificate;
    expiresAtMs = Math.min(expiresAtMs, Date.parse(last.valid_to));
  }
  return { expiresAtMs, authorityFingerprint: last.fingerprint256 };
}
