import { X509Certificate } from 'node:crypto';
import type { ConnectionOptions, SecureContext } from 'node:tls';
import { type ChannelCredentials, type ChannelOptions, credentials } from '@grpc/grpc-js';
import { findPeerProblem } from './roles.ts';

/** The name of every agent in the TLS handshake. Certificates are checked by their role, not by a name. */
const serverName = 'loopcsi-agent';

/** Options of every channel to an agent. */
export const agentChannelOptions: ChannelOptions = {
  'grpc.ssl_target_name_override': serverName,
  // Every channel has its own connection, also after its credentials have changed.
  'grpc.use_local_subchannel_pool': 1,
  'grpc.service_config_disable_resolution': 1,
  // Whether a call may be repeated is decided by its caller.
  'grpc.enable_retries': 0,
  // A proxy for the internet would see the connections to nodes.
  'grpc.enable_http_proxy': 0,
  'grpc.enable_channelz': 0,
};

/** Is told about the certificate of the peer of a channel. */
export interface PeerListener {
  /** Why it is refused. */
  readonly onRefused?: (why: string) => void;
  /** When it expires, in milliseconds since 1970, if it is accepted. */
  readonly onAccepted?: (expiresAtMs: number) => void;
}

/** Credentials of a channel to an agent of this driver, by the role in its certificate. The names of hosts are not checked. */
export function agentChannelCredentials(
  context: SecureContext,
  driverName: string,
  listener: PeerListener = {},
): ChannelCredentials {
  return credentials.createFromSecureContext(context, {
    checkServerIdentity: identityCheck(driverName, listener),
  });
}

/** Options of a TLS connection to an agent without gRPC, which checks the agent like a channel. */
export function agentConnectionOptions(
  secureContext: SecureContext,
  driverName: string,
): ConnectionOptions {
  return {
    secureContext,
    servername: serverName,
    checkServerIdentity: identityCheck(driverName, {}),
  };
}

function identityCheck(
  driverName: string,
  { onRefused, onAccepted }: PeerListener,
): NonNullable<ConnectionOptions['checkServerIdentity']> {
  return (_host, { raw }) => {
    const certificate = new X509Certificate(raw);
    const problem = findPeerProblem(certificate, { driverName, role: 'agent' });
    if (problem === undefined) onAccepted?.(Date.parse(certificate.validTo));
    else onRefused?.(problem.message);
    return problem;
  };
}
