import { X509Certificate } from 'node:crypto';
import type { SecureContext } from 'node:tls';
import { type ChannelCredentials, credentials } from '@grpc/grpc-js';
import { findPeerProblem } from './roles.ts';

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
  { onRefused, onAccepted }: PeerListener = {},
): ChannelCredentials {
  return credentials.createFromSecureContext(context, {
    checkServerIdentity: (_host, { raw }) => {
      const certificate = new X509Certificate(raw);
      const problem = findPeerProblem(certificate, { driverName, role: 'agent' });
      if (problem === undefined) onAccepted?.(Date.parse(certificate.validTo));
      else onRefused?.(problem.message);
      return problem;
    },
  });
}
