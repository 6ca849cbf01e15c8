/** Puts `loopcsi controller` together: finds the agents, serves CSI on the socket of the sidecars, and stops. */
import { withTimeout } from '../async.ts';
import { type HttpListener, serveHttpOrWarn } from '../observe/http.ts';
import type { Logger } from '../observe/log.ts';
import type { ServerHooks } from '../rpc/call.ts';
import { callFields } from '../rpc/call-fields.ts';
import { makeService, type Service, serveOnSocket } from '../rpc/grpc-server.ts';
import { type Implementation, makeHandlers } from '../rpc/handlers.ts';
import { type IdentityContext, identityMethods } from '../rpc/identity.ts';
import { type AgentTimings, agentTimings } from './agent.ts';
import { Agents } from './agents.ts';
import type { AgentCredentials } from './connection.ts';
import type { Discovery } from './discovery/discovery.ts';
import { settleGroups } from './groups/settle.ts';
import { ControllerMetrics } from './metrics.ts';
import type { NodeStore } from './nodes/node-store.ts';
import { NodeRecords } from './nodes/records.ts';
import { controllerFeatures, type RoutedService, routedCalls } from './offered.ts';
import { findReadinessProblem } from './readiness.ts';
import { adminService } from './services/admin.ts';
import { type ControllerContext, makeQuestionLimit } from './services/context.ts';
import { controllerMethods } from './services/controller.ts';
import { makeCreateMemory } from './services/create-volume.ts';
import { groupControllerMethods } from './services/group-controller.ts';
import { nodesCalls, nodesMethods } from './services/nodes.ts';
import { snapshotMetadataMethods } from './services/snapshot-metadata.ts';

export interface ControllerOptions {
  /** Path of the socket. */
  readonly endpoint: string;
  readonly driverName: string;
  readonly version: string;
  readonly discovery: Discovery;
  readonly credentials: AgentCredentials;
  readonly log: Logger;
  /** Absent if metrics and health are not served. */
  readonly httpAddress?: { readonly host: string; readonly port: number } | undefined;
  /** Whether the controller runs without metrics and health if that address is in use. */
  readonly isHttpOptional?: boolean;
  /** Time for running calls to end after `stop`, in milliseconds. */
  readonly shutdownTimeoutMs: number;
  /** Where the records of nodes are kept; absent if no node can be forgotten. */
  readonly nodeStore?: NodeStore | undefined;
  /** For tests. */
  readonly timings?: AgentTimings;
  readonly nowMs?: () => number;
}

export interface RunningController {
  readonly agents: Agents;
  readonly records: NodeRecords;
  /** Port of the HTTP listener; undefined if there is none. */
  readonly httpPort: number | undefined;
  /** Refuses new calls, lets running ones end within the shutdown timeout, and disconnects from the agents. */
  stop(): Promise<void>;
}

/** What the services of the socket need. */
type Served = ControllerContext & { readonly records: NodeRecords };

/** Starts a controller. Throws `unavailable` if the socket, or an HTTP address that is not optional, cannot be bound. */
export async function startController(options: ControllerOptions): Promise<RunningController> {
  const { log, driverName, version, endpoint, shutdownTimeoutMs } = options;
  const metrics = new ControllerMetrics({ version, countAgents: () => agents.countStates() });
  const records = new NodeRecords({ store: options.nodeStore, log });
  const agents = new Agents(
    {
      credentials: options.credentials,
      driverName,
      version,
      timings: options.timings ?? agentTimings,
      log,
      nowMs: options.nowMs ?? (() => performance.now()),
      onCallEnded: (call) => {
        metrics.agentCallEnded(call);
      },
    },
    records,
  );
  const context = { ...newContext(agents, { driverName, version }), records };
  const server = await serveOnSocket({
    endpoint,
    log,
    callEnded: (call) => {
      metrics.callEnded(call);
    },
    fieldsOf: (request) => callFields(request, { ownerFieldsOf: () => ({}) }),
    services: (hooks) => routedServices(context, hooks),
  });
  const http = await startHttp(options, { metrics, context }).catch(async (error: unknown) => {
    await server.close();
    throw error;
  });
  followNodes({ agents, records }, options.discovery);
  const stopSettling = settleGroups(agents, log);
  log.info({ endpoint, httpPort: http?.port }, 'serving');
  return {
    agents,
    records,
    httpPort: http?.port,
    stop: async () => {
      stopSettling();
      await withTimeout(server.drain(), shutdownTimeoutMs);
      records.close();
      agents.close();
      await server.close();
      http?.close();
    },
  };
}

function newContext(
  agents: Agents,
  names: Pick<ControllerContext, 'driverName' | 'version'>,
): ControllerContext {
  const createdNames = makeCreateMemory();
  const questions = makeQuestionLimit();
  return { agents, ...names, createdNames, questions, snapshotSources: new Map() };
}

/** No node is known before it is known which ones are forgotten. */
function followNodes(
  { agents, records }: Pick<Served, 'agents' | 'records'>,
  discovery: Discovery,
): void {
  let isFollowing = false;
  records.follow(() => {
    if (isFollowing) agents.forgottenChanged();
    else agents.follow(discovery);
    isFollowing = true;
  });
}

function routedServices(context: Served, hooks: ServerHooks): readonly Service[] {
  const routed = <N extends RoutedService>(name: N, methods: Implementation<N>): Service => {
    const calls = routedCalls(name);
    return makeService(name, makeHandlers(name, methods, hooks, { calls, checksSizeLimits: true }));
  };
  return [
    routed('csi.v1.Identity', identityMethods(identityOf(context))),
    routed('csi.v1.Controller', controllerMethods(context)),
    routed('csi.v1.GroupController', groupControllerMethods(context)),
    routed('csi.v1.SnapshotMetadata', snapshotMetadataMethods(context)),
    makeService(
      'loopcsi.v1.Nodes',
      makeHandlers('loopcsi.v1.Nodes', nodesMethods(context), hooks, {
        calls: nodesCalls,
        checksSizeLimits: false,
      }),
    ),
    adminService(hooks),
  ];
}

/** The identity needs no agent. */
function identityOf({ driverName, version, agents, records }: Served): IdentityContext {
  return {
    driverName,
    version,
    features: controllerFeatures,
    isStarting: () => findReadinessProblem({ agents, records }) !== undefined,
    // Tells the command line that it talks to no driver of a node.
    manifest: { process: 'controller' },
  };
}

async function startHttp(
  { httpAddress, isHttpOptional = false, log }: ControllerOptions,
  parts: { readonly metrics: ControllerMetrics; readonly context: Served },
): Promise<HttpListener | undefined> {
  if (httpAddress === undefined) return undefined;
  const { metrics, context } = parts;
  return serveHttpOrWarn({
    ...httpAddress,
    isOptional: isHttpOptional,
    log,
    metrics: async () => ({ status: 200, ...(await metrics.render()) }),
    findReadinessProblem: async () => findReadinessProblem(context),
  });
}
