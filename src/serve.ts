/** The composition root: creates the parts of a driver from its configuration, starts them in order, and stops them. */
import { withTimeout } from './async.ts';
import { type Config, configForLog } from './config/load.ts';
import { flagOf } from './config/options.ts';
import type { RunningPlugin } from './docker/server.ts';
import { limitHeapGrowth } from './heap.ts';
import type { DeviceLimits } from './host/host.ts';
import { nodeTagOf } from './ids.ts';
import type { HttpListener } from './observe/http.ts';
import { createLog, type Logger } from './observe/log.ts';
import { Metrics } from './observe/metrics.ts';
import type { RunningAgent } from './rpc/agent/server.ts';
import type { CsiContext } from './rpc/context.ts';
import type { RunningServer } from './rpc/grpc-server.ts';
import type { Registration } from './rpc/registration.ts';
import { RemoteSources } from './rpc/remote-sources.ts';
import type * as ServerModule from './rpc/server.ts';
import { requireNoListener } from './unix-socket.ts';
import { readVersion } from './version.ts';
import type { DomainSettings } from './volumes/domain.ts';
import type { Reached } from './volumes/engine/fault-points.ts';
import type { OpenedVolumes } from './volumes/open.ts';

/** Time limit of the pool queries behind /metrics. */
const poolQueryTimeoutMs = 2_000;
/**
 * Metrics are loaded this long after start, so that the first calls do not wait for a module that only scrapes need.
 */
const metricsPreloadDelayMs = 2_000;
/** Once the running operations have been aborted, their callers must receive their responses within this time. */
const responseTimeoutMs = 1_000;
/** Minimum thread pool size. In a smaller pool, file operations on a hung disk can occupy every libuv thread. */
const minThreads = 64;

interface ServeOptions {
  /** Called at every fault point; tests stop or kill the driver there. */
  readonly reached?: Reached;
  readonly log?: Logger;
  /** Replaces `io.max` of cgroup v2, in tests on machines that lack it. */
  readonly deviceLimits?: DeviceLimits;
}

export interface RunningDriver {
  readonly opened: OpenedVolumes;
  /** Port of the HTTP listener; undefined if there is none. */
  readonly httpPort: number | undefined;
  /** Port of the address for the controller; undefined if there is none. */
  readonly agentPort: number | undefined;
  /** Stops the driver as on SIGTERM: running operations get `shutdownTimeout` to finish, and mounts stay. */
  stop(): Promise<void>;
}

/**
 * Starts a driver, which recovers from a crash before it answers the first call. Throws `unavailable` if a socket or
 * address cannot be bound, and the errors of `openVolumes`.
 */
export async function serve(config: Config, options: ServeOptions = {}): Promise<RunningDriver> {
  limitHeapGrowth();
  const log = options.log ?? createLog({ level: config.logLevel });
  const version = await readVersion();
  log.info({ version, config: configForLog(config) }, 'starting');
  if (config.threadPoolSize < minThreads) {
    log.warn(
      { threads: config.threadPoolSize, minThreads },
      'UV_THREADPOOL_SIZE is too low: hung disks can stall the driver; start it with bin/loopcsi',
    );
  }
  await requireNoListener({ path: config.endpoint, flag: flagOf('endpoint') });
  const { reached, deviceLimits } = options;
  const setup: Setup = { config, log, version, reached, deviceLimits };
  // Loading grpc-js takes longer than opening the pools, so both run concurrently.
  const server = import('./rpc/server.ts');
  const { metrics, opened } = await openDomain(setup);
  const { running, context } = await startCsi(setup, { metrics, opened, server });
  const agent = await startAgent(setup, { metrics, context });
  const plugin = await startDockerPlugin(setup, { metrics, opened });
  const registration = await registerWithKubelet(config, log);
  const http = await startHttp(setup, { metrics, opened, agent });
  if (http === undefined) metrics.close();
  else preloadMetrics(metrics, log);
  const { endpoint, dockerSocket } = config;
  const ports = { httpPort: http?.port, agentPort: agent?.port };
  log.info({ endpoint, dockerSocket, ...ports }, 'serving');
  return {
    opened,
    ...ports,
    stop: async () => {
      registration?.close();
      const servers = agent === undefined ? [running] : [running, agent];
      await Promise.all([plugin?.close(), stop({ config, opened, servers })]);
      http?.close();
      metrics.close();
    },
  };
}

/** Arguments common to all parts of the driver. */
interface Setup {
  readonly config: Config;
  readonly log: Logger;
  readonly version: string;
  readonly reached: Reached | undefined;
  readonly deviceLimits: DeviceLimits | undefined;
}

interface OpenDomain {
  readonly metrics: Metrics;
  readonly opened: OpenedVolumes;
}

async function openDomain(setup: Setup): Promise<OpenDomain> {
  const { config, log, version, reached } = setup;
  const [{ makeRealHost }, { gate }, { openVolumes }, { makeMeasure }] = await Promise.all([
    import('./host/real-host.ts'),
    import('./host/kernel/gate.ts'),
    import('./volumes/open.ts'),
    import('./volumes/admin/metrics/measure.ts'),
  ]);
  const metrics = new Metrics({
    version,
    observe: async () => ({
      ...(await measure()),
      kernelCalls: gate.load,
      stuckLanes: gate.stuckCalls().length,
      runningOperations: opened.domain.operations.runningCount,
    }),
  });
  const host = makeRealHost({
    podsCgroup: config.podsCgroup,
    deviceLimits: setup.deviceLimits,
    onCommand: ({ file, args, exitCode, durationMs }) => {
      log.debug({ file, args, exitCode, durationMs: Math.round(durationMs) }, 'command ended');
      metrics.commandEnded({ file, result: exitCode?.toString() ?? 'none', durationMs });
    },
  });
  const opened = await openVolumes({
    host,
    log,
    observer: metrics,
    whenReturned: (lane) => gate.whenReturned(lane),
    longestWaitMs: (pool) => gate.oldestCallMs(pool),
    pools: config.pools,
    stateDir: config.stateDir,
    settings: domainSettings(config),
    kubeletDir: config.kubeletDir,
    mountDir: config.withoutStaging || config.dockerSocket ? config.mountDir : undefined,
    ...(reached === undefined ? {} : { reached }),
  });
  const measure = makeMeasure(opened.domain, { timeoutMs: poolQueryTimeoutMs });
  return { metrics, opened };
}

/** Writers of a group over several nodes wait until the slowest node has thawed. No fault may make it longer than this. */
const groupFreezeLimitMs = 10_000;

/** Converts the configuration to the domain's units and terms. */
function domainSettings(config: Config): DomainSettings {
  return {
    nodeTag: nodeTagOf(config.nodeId),
    defaultFsType: config.defaultFstype,
    defaultSizeBytes: config.defaultSize,
    ephemeral: {
      defaultBytes: config.ephemeralDefaultSize,
      maximumBytes: config.ephemeralMaxSize,
      poolCapBytes: config.ephemeralPoolCap,
    },
    maxVolumesPerNode: config.maxVolumes,
    guardFreezeLimitMs: config.guardFreezeLimit,
    groupFreezeLimitMs,
    trimBytesPerSecond: config.trimRate,
    transfers: {
      parallel: config.agentAddress === undefined ? 0 : config.transfers,
      bytesPerSecond: config.transferRate ?? 0n,
    },
    withoutStaging: config.withoutStaging,
    podsCgroup: config.podsCgroup,
  };
}

async function startCsi(
  { config, log, version }: Setup,
  from: OpenDomain & { readonly server: Promise<typeof ServerModule> },
): Promise<{ readonly running: RunningServer; readonly context: CsiContext }> {
  const { metrics, opened } = from;
  const [{ serveCsi }, { topologyOfNode }, { adminService }] = await Promise.all([
    from.server,
    import('./rpc/topology.ts'),
    import('./rpc/admin.ts'),
  ]);
  const thisNode = topologyOfNode(config.driverName, config.nodeId);
  const { volumes } = opened;
  const remoteSources = new RemoteSources();
  const context: CsiContext = { settings: config, version, volumes, remoteSources, thisNode };
  const running = await serveCsi({
    endpoint: config.endpoint,
    context,
    log,
    callEnded: (call) => {
      metrics.callEnded(call);
    },
    otherServices: (hooks) => [adminService(opened, hooks)],
  });
  return { running, context };
}

/** Serves the controller over the network, if configured. */
async function startAgent(
  { config, log }: Setup,
  { metrics, context }: { readonly metrics: Metrics; readonly context: CsiContext },
): Promise<RunningAgent | undefined> {
  const { agentAddress: address, tlsDir } = config;
  if (address === undefined || tlsDir === undefined) return undefined;
  const { serveAgent } = await import('./rpc/agent/server.ts');
  return serveAgent({
    address,
    tlsDir,
    context,
    log,
    callEnded: (call) => metrics.callEnded(call),
    connectionRefused: (reason) => metrics.connectionRefused(reason),
  });
}

/** Serves Docker's volume plugin API, if configured, with the same volumes, records and locks as CSI. */
async function startDockerPlugin(
  { config, log }: Setup,
  { metrics, opened }: OpenDomain,
): Promise<RunningPlugin | undefined> {
  const { dockerSocket: socket, nodeId, defaultFstype: defaultFsType } = config;
  if (socket === undefined) return undefined;
  const { serveDocker } = await import('./docker/server.ts');
  const front = { volumes: opened.volumes, docker: opened.docker, nodeId, defaultFsType };
  return serveDocker({ socket, front, log, callEnded: (call) => metrics.callEnded(call) });
}

/** Registers with the kubelet, if configured. CSI must already be served, since the kubelet calls back immediately. */
async function registerWithKubelet(config: Config, log: Logger): Promise<Registration | undefined> {
  const { registrationDir: directory, driverName } = config;
  if (directory === undefined) return undefined;
  const { serveRegistration } = await import('./rpc/registration.ts');
  const endpoint = config.kubeletSocket ?? config.endpoint;
  return serveRegistration({ directory, driverName, endpoint, log });
}

/**
 * Starts the HTTP listener, if configured. If the default address is in use, most likely by another driver on this
 * machine, the driver runs without a listener; an explicitly configured address must be free.
 */
async function startHttp(
  { config, log }: Setup,
  { metrics, opened, agent }: OpenDomain & { readonly agent: RunningAgent | undefined },
): Promise<HttpListener | undefined> {
  if (config.httpAddress === undefined) return undefined;
  const { serveHttpOrWarn } = await import('./observe/http.ts');
  return serveHttpOrWarn({
    ...config.httpAddress,
    isOptional: !config.explicit.has('httpAddress'),
    log,
    metrics: async () => {
      const { contentType, body } = await metrics.render();
      return { status: 200, contentType, body };
    },
    findReadinessProblem: async () =>
      (await opened.volumes.findReadinessProblem()) ?? agent?.findProblem(),
  });
}

function preloadMetrics(metrics: Metrics, log: Logger): void {
  const load = (): void => {
    metrics.load().catch((error: unknown) => {
      log.error({ err: error }, 'loading metrics failed');
    });
  };
  setTimeout(load, metricsPreloadDelayMs).unref();
}

async function stop(parts: {
  readonly config: Config;
  readonly opened: OpenedVolumes;
  readonly servers: readonly RunningServer[];
}): Promise<void> {
  const { config, opened, servers } = parts;
  // From here on, no new connections or calls are accepted; running calls still get their responses.
  const drained = Promise.all(servers.map((server) => server.drain()));
  // Running operations get half of the time to finish. Then they are aborted and get the other half to clean up.
  await opened.close(config.shutdownTimeout / 2);
  await withTimeout(drained, responseTimeoutMs);
  await Promise.all(servers.map((server) => server.close()));
}
