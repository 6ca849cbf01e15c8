import { networkInterfaces } from 'node:os';
import type { Logger } from '../../observe/log.ts';
import type { CallMeasurement } from '../../observe/metrics.ts';
import { FollowedCredentials } from '../../tls/credentials.ts';
import { callFields } from '../call-fields.ts';
import type { CsiContext } from '../context.ts';
import {
  type GrpcServer,
  type Keepalive,
  makeGrpcServer,
  makeHooks,
  type RunningServer,
} from '../grpc-server.ts';
import { controllerServices } from '../server.ts';
import { type AgentParts, agentService } from './agent.ts';
import { type DataServer, type DataServerOptions, makeDataServer } from './data-server.ts';
import { dataProtocol } from './frames.ts';
import { agentKeepalive } from './keepalive.ts';
import { AgentListener, type ListenerLimits } from './listener.ts';
import type { RefusalReason } from './refusals.ts';
import { remoteSourceAt } from './source-client.ts';
import { sourcesService } from './sources.ts';
import { Tickets } from './tickets.ts';

export interface AgentOptions {
  readonly address: { readonly host: string; readonly port: number };
  /** Contains ca.crt, tls.crt and tls.key; it may appear later. */
  readonly tlsDir: string;
  readonly context: CsiContext;
  readonly log: Logger;
  readonly callEnded: (call: CallMeasurement) => void;
  readonly connectionRefused: (reason: RefusalReason) => void;
  readonly keepalive?: Keepalive;
  readonly limits?: Partial<ListenerLimits>;
  /** The clock by which certificates of open connections expire. */
  readonly now?: () => number;
  /** How often the TLS directory is read. */
  readonly pollMs?: number;
}

export interface RunningAgent extends RunningServer {
  readonly port: number;
  /** Why the controller cannot use this node over the network; undefined if it can. */
  readonly findProblem: () => string | undefined;
}

/**
 * Serves the controller on the network address, over mutual TLS: csi.v1 without Node, and loopcsi.agent.v1.Agent; and other agents:
 * loopcsi.agent.v1.Sources, and the data of the sources. Other services are never served there. Throws `unavailable` if the address cannot be bound.
 */
export async function serveAgent(options: AgentOptions): Promise<RunningAgent> {
  const credentials = await followCredentials(options);
  const { controllers, peers } = makeServers(options, credentials);
  try {
    const listener = await AgentListener.listen({
      address: options.address,
      driverName: options.context.settings.driverName,
      credentials,
      servers: new Map([
        ['controller', { h2: controllers }],
        ...(peers === undefined
          ? []
          : [['agent', { h2: peers.calls, [dataProtocol]: peers.data }] as const]),
      ]),
      log: options.log,
      refused: options.connectionRefused,
      limits: options.limits ?? {},
      ...(options.now === undefined ? {} : { now: options.now }),
    });
    const stopListening = (): void => {
      listener.close();
      credentials.close();
    };
    return {
      port: listener.port,
      findProblem: () => credentials.problem,
      drain: async () => {
        stopListening();
        // Copies that other nodes read are resumed by them, so nothing waits for their end.
        peers?.data.close();
        await Promise.all([controllers.drain(), peers?.calls.close()]);
      },
      close: async () => {
        stopListening();
        peers?.data.close();
        await Promise.all([controllers.close(), peers?.calls.close()]);
      },
    };
  } catch (error) {
    credentials.close();
    throw error;
  }
}

/** The servers for other agents: for calls, and for data. */
interface PeerServers {
  readonly calls: GrpcServer;
  readonly data: DataServer;
}

/** The server for peers with role controller, and those for other agents, if copies between nodes are allowed. */
function makeServers(
  { address, context, log, callEnded, keepalive = agentKeepalive }: AgentOptions,
  followed: FollowedCredentials,
): { readonly controllers: GrpcServer; readonly peers: PeerServers | undefined } {
  const { volumes, settings } = context;
  const { driverName } = settings;
  const tickets = new Tickets();
  const parts: AgentParts = {
    tickets,
    sourceAt: (place) => remoteSourceAt(place, { followed, driverName, keepalive }),
    peerAddresses: () => peerAddresses(address.host),
  };
  const options = {
    log,
    callEnded,
    fieldsOf: (request: unknown) => callFields(request, volumes),
  };
  const hooks = makeHooks(options);
  const services = [...controllerServices(context, hooks), agentService(context, parts, hooks)];
  return {
    controllers: makeGrpcServer(services, keepalive),
    peers: volumes.allowsTransfers
      ? peerServers({ volumes, tickets, hooks: makeHooks(options), keepalive })
      : undefined,
  };
}

function peerServers(options: DataServerOptions): PeerServers {
  const { volumes, tickets, hooks, keepalive } = options;
  return {
    calls: makeGrpcServer([sourcesService(volumes, tickets, hooks)], keepalive),
    data: makeDataServer(options),
  };
}

/** The addresses of this node's interfaces. Those of the loopback belong to it only if all agents are on one machine. */
function peerAddresses(listensOn: string): readonly string[] {
  const all = Object.values(networkInterfaces()).flatMap((addresses = []) => addresses);
  const isLocal = all.some(({ internal, address }) => internal && address === listensOn);
  return all.filter(({ internal }) => isLocal || !internal).map(({ address }) => address);
}

async function followCredentials(options: AgentOptions): Promise<FollowedCredentials> {
  return FollowedCredentials.follow({
    directory: options.tlsDir,
    driverName: options.context.settings.driverName,
    role: 'agent',
    log: options.log,
    ...(options.pollMs === undefined ? {} : { pollMs: options.pollMs }),
  });
}
