/** The connections to agents with mutual TLS: only an agent of this driver, by the role in its certificate, is talked to. */
import { agentChannelCredentials } from '../tls/agent-channel.ts';
import type { FollowedCredentials } from '../tls/credentials.ts';
import type { AgentCredentials } from './connection.ts';
import { makeHandshakes } from './handshakes.ts';

/** Uses the certificates of a TLS directory, and those of each change. The names of hosts are not checked. */
export function tlsCredentials(
  followed: FollowedCredentials,
  driverName: string,
): AgentCredentials {
  const handshakes = makeHandshakes();
  return {
    forChannel: (listener) => {
      const { current } = followed;
      if (current === undefined) {
        throw new Error(followed.problem ?? 'the TLS certificates have not been read yet');
      }
      return handshakes.limit(agentChannelCredentials(current.context, driverName, listener));
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
