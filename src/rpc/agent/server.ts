import { networkInterfaces } from 'node:os';
import type { Logger } from '../../observe/log.ts';
import type { CallMeasurement } from '../../observe/metrics.ts';
import { FollowedCredentials } from '../../tls/credentials.ts';
import type { Role } from '../../tls/roles.ts';
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

/** The controller is a client that reconnects, so a connection whose other side does not answer is closed early. */
const agentKeepalive: Keepalive = { pingMs: 10_000, timeoutMs: 5_000 };

/**
 * Serves the controller on the network address, over mutual TLS: csi.v1 without Node, and loopcsi.agent.v1.Agent; and other agents:
 * loopcsi.agent.v1.Sources. Other services are never served there. Throws `unavailable` if the address cannot be bound.
 */
export async function serveAgent(options: AgentOptions): Promise<RunningAgent> {
  const credentials = await followCredentials(options);
  const { controllers, peers } = makeServers(options, credentials);
  try {
    const listener = await AgentListener.listen({
      address: options.address,
      driverName: options.context.settings.driverName,
      credentials,
      servers: new Map<Role, GrpcServer>([
        ['controller', controllers],
        ...(peers === undefined ? [] : [['agent', peers] as const]),
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
        await Promise.all([controllers.drain(), peers?.close()]);
      },
      close: async () => {
        stopListening();
        await Promise.all([controllers.close(), peers?.close()]);
      },
    };
  } catch (error) {
    credentials.close();
    throw error;
  }
}

/** The server for peers with role controller, and the one for other agents, if copies between nodes are allowed. */
function makeServers(
  { address, context, log, callEnded, keepalive = agentKeepalive }: AgentOptions,
  followed: FollowedCredentials,
): { readonly controllers: GrpcServer; readonly peers: GrpcServer | undefined } {
  const { volumes, settings } = context;
  const { driverName } = settings;
  const tickets = new Tickets();
  const parts: AgentParts = {
    tickets,
    sourceAt: (place) => remoteSourceAt(place, { followed, driverName }),
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
      ? makeGrpcServer([sourcesService(volumes, tickets, makeHooks(options))], keepalive)
      : undefined,
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
