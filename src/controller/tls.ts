/** The connections to agents with mutual TLS: only an agent of this driver, by the role in its certificate, is talked to. */
import { X509Certificate } from 'node:crypto';
import { credentials } from '@grpc/grpc-js';
import type { FollowedCredentials } from '../tls/credentials.ts';
import { findPeerProblem } from '../tls/roles.ts';
import type { AgentCredentials } from './connection.ts';
import { makeHandshakes } from './handshakes.ts';

/** Uses the certificates of a TLS directory, and those of each change. The names of hosts are not checked. */
export function tlsCredentials(
  followed: FollowedCredentials,
  driverName: string,
): AgentCredentials {
  const handshakes = makeHandshakes();
  return {
    forChannel: ({ onRefused, onAccepted }) => {
      const { current } = followed;
      if (current === undefined) {
        throw new Error(followed.problem ?? 'the TLS certificates have not been read yet');
      }
      const made = credentials.createFromSecureContext(current.context, {
        checkServerIdentity: (_host, { raw }) => {
          const certificate = new X509Certificate(raw);
          const problem = findPeerProblem(certificate, { driverName, role: 'agent' });
          if (problem === undefined) onAccepted(Date.parse(certificate.validTo));
          else onRefused(problem.message);
          return problem;
        },
      });
      return handshakes.limit(made);
    },
    watch: (onChange) => {
      // The first call is at once, about the certificates that are in use already.
      let isKnown = followed.current !== undefined;
      return followed.subscribe(() => {
        if (!isKnown) onChange();
        isKnown = false;
      });
    },
  };
}
