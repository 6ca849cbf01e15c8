import { X509Certificate } from 'node:crypto';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import { Client as Channel, credentials } from '@grpc/grpc-js';
import type { ExecutionContext } from 'ava';
import { makeClientOn } from '../../src/csi/client.ts';
import { type AgentOptions, type RunningAgent, serveAgent } from '../../src/rpc/agent/server.ts';
import type { KeyPair } from '../../src/tls/authority.ts';
import { findPeerProblem } from '../../src/tls/roles.ts';
import type { Volumes } from '../../src/volumes/api.ts';
import {
  type Certificates,
  makeCertificates,
  temporaryDirectory,
  writeTlsFiles,
} from './certificates.ts';
import { csiContext, memoryLog } from './csi-server.ts';
import { fakeVolumes, type Recorded } from './fake-volumes.ts';

interface ServedAgent {
  readonly agent: RunningAgent;
  readonly tlsDir: string;
  readonly certificates: Certificates;
  readonly calls: readonly Recorded[];
  readonly lines: readonly string[];
  /** The reasons of the refused connections, in their order. */
  readonly refused: readonly string[];
}

/** An agent on a port of the loopback address, with a domain that only records. Ends with the test. */
export async function serveFakeAgent(
  t: ExecutionContext,
  given: Partial<Pick<AgentOptions, 'limits' | 'keepalive' | 'now'>> & {
    readonly volumes?: Partial<Volumes>;
    readonly certificates?: Certificates;
    /** Of the agent, if they are not those of `certificates`; undefined for none yet. */
    readonly hasFiles?: boolean;
  } = {},
): Promise<ServedAgent> {
  const certificates = given.certificates ?? (await makeCertificates());
  const tlsDir = await temporaryDirectory(t);
  if (given.hasFiles ?? true)
    await writeTlsFiles(tlsDir, certificates.agent, certificates.authority.certificate);
  const { volumes, calls } = fakeVolumes(given.volumes);
  const { log, lines } = memoryLog();
  const refused: string[] = [];
  const agent = await serveAgent({
    address: { host: '127.0.0.1', port: 0 },
    tlsDir,
    context: csiContext(volumes),
    log,
    callEnded: () => undefined,
    connectionRefused: (reason) => refused.push(reason),
    pollMs: 20,
    ...(given.limits === undefined ? {} : { limits: given.limits }),
    ...(given.now === undefined ? {} : { now: given.now }),
    ...(given.keepalive === undefined ? {} : { keepalive: given.keepalive }),
  });
  t.teardown(async () => agent.close());
  return { agent, tlsDir, certificates, calls, lines, refused };
}

/** A channel of grpc-js that trusts the authorities and an agent's certificate only. Ends with the test. */
export function channelTo(
  t: ExecutionContext,
  port: number,
  { authorities, pair }: { readonly authorities: string; readonly pair: KeyPair },
): Channel {
  const channel = new Channel(
    `127.0.0.1:${port}`,
    credentials.createSsl(
      Buffer.from(authorities),
      Buffer.from(pair.key),
      Buffer.from(pair.certificate),
      {
        checkServerIdentity: (_host, { raw }) =>
          findPeerProblem(new X509Certificate(raw), { driverName: 'loopcsi.io', role: 'agent' }),
      },
    ),
    {
      'grpc.use_local_subchannel_pool': 1,
      // An address is not allowed as the name of a server in TLS.
      'grpc.ssl_target_name_override': 'loopcsi-agent',
    },
  );
  t.teardown(() => {
    channel.close();
  });
  return channel;
}

/** A controller's clients of an agent. */
export function controllerOf(t: ExecutionContext, port: number, certificates: Certificates) {
  const channel = channelTo(t, port, {
    authorities: certificates.authority.certificate,
    pair: certificates.controller,
  });
  return {
    channel,
    agent: makeClientOn('loopcsi.agent.v1.Agent', channel),
    identity: makeClientOn('csi.v1.Identity', channel),
    controller: makeClientOn('csi.v1.Controller', channel),
  };
}

/** A TLS connection of a client that trusts any server. Ends with the test. */
export function connectTls(
  t: ExecutionContext,
  port: number,
  options: ConnectionOptions & { readonly pair?: KeyPair | undefined },
): TLSSocket {
  const { pair, ...others } = options;
  const socket = connect({
    host: '127.0.0.1',
    port,
    rejectUnauthorized: false,
    ALPNProtocols: ['h2'],
    // Newer versions of Node would refuse to present a weak key themselves.
    ciphers: 'DEFAULT@SECLEVEL=0',
    ...(pair === undefined ? {} : { cert: pair.certificate, key: pair.key }),
    ...others,
  });
  socket.on('error', () => undefined);
  socket.resume();
  t.teardown(() => {
    socket.destroy();
  });
  return socket;
}
