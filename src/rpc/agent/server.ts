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
import { agentService } from './agent.ts';
import { AgentListener, type ListenerLimits } from './listener.ts';
import type { RefusalReason } from './refusals.ts';

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
 * Serves the controller on the network address, over mutual TLS: csi.v1 without Node, and loopcsi.agent.v1.Agent. Other services are
 * never served there. Throws `unavailable` if the address cannot be bound.
 */
export async function serveAgent(options: AgentOptions): Promise<RunningAgent> {
  const server = makeControllersServer(options);
  const credentials = await followCredentials(options);
  try {
    const listener = await AgentListener.listen({
      address: options.address,
      driverName: options.context.settings.driverName,
      credentials,
      servers: new Map([['controller', server]]),
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
        await server.drain();
      },
      close: async () => {
        stopListening();
        await server.close();
      },
    };
  } catch (error) {
    credentials.close();
    throw error;
  }
}

/** The server for peers with role controller. */
function makeControllersServer({ context, log, callEnded, keepalive }: AgentOptions): GrpcServer {
  const hooks = makeHooks({
    log,
    callEnded,
    fieldsOf: (request) => callFields(request, context.volumes),
  });
  const services = [...controllerServices(context, hooks), agentService(context, hooks)];
  return makeGrpcServer(services, keepalive ?? agentKeepalive);
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
