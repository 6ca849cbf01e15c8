/** The composition root of a driver: makes its parts from the configuration, starts them in order, and stops them. */
import { setTimeout as delay } from 'node:timers/promises';
import { type Config, configForLog } from './config/load.ts';
import type { RunningPlugin } from './docker/server.ts';
import { messageOf, VolumeError } from './errors.ts';
import type { HttpListener } from './observe/http.ts';
import { createLog, type Logger } from './observe/log.ts';
import { Metrics } from './observe/metrics.ts';
import type { Registration } from './rpc/registration.ts';
import type * as ServerModule from './rpc/server.ts';
import type { RunningServer } from './rpc/server.ts';
import { readVersion } from './version.ts';
import type { Volumes } from './volumes/api.ts';
import type { DomainSettings } from './volumes/domain.ts';
import type { Reached } from './volumes/fault-points.ts';
import { nodeTagOf } from './volumes/ids.ts';
import type { OpenedVolumes } from './volumes/open.ts';

/** How long what looks at the pools for a watcher may take. */
const lookBoundMs = 2_000;

export interface ServeOptions {
  /** Called after every effect; tests stop or kill the driver there. */
  readonly reached?: Reached;
  readonly log?: Logger;
}

/** A driver that serves. */
export interface Running {
  readonly opened: OpenedVolumes;
  /** Port of the HTTP listener; undefined without one. */
  readonly httpPort: number | undefined;
  /** Ends it as SIGTERM does: running operations may end within the bound, mounts stay. */
  stop(): Promise<void>;
}

/**
 * Serves until stopped. Settles what a crash left before the first call is answered. Throws `unavailable` when the socket
 * cannot be had, and what `openVolumes` throws.
 */
export async function serve(config: Config, options: ServeOptions = {}): Promise<Running> {
  const log = options.log ?? createLog({ level: config.logLevel });
  const version = await readVersion();
  log.info({ version, config: configForLog(config) }, 'starting');
  if (config.threadPoolSize < 64) {
    log.warn(
      { threads: config.threadPoolSize },
      'UV_THREADPOOL_SIZE is below 64: hung disks can stall the driver; start it by bin/loopcsi',
    );
  }
  const parts: Parts = { config, log, version, reached: options.reached };
  // grpc-js takes longer to load than the pools to open, so both happen at once.
  const server = import('./rpc/server.ts');
  const { metrics, opened } = await openDomain(parts);
  const running = await startServer(parts, { metrics, opened, server });
  const plugin = await servePlugin(parts, { metrics, opened });
  const registration = await register(config, log);
  const http = await watchable(parts, { metrics, opened });
  if (http === undefined) metrics.close();
  else loadSoon(metrics, log);
  log.info({ endpoint: config.endpoint, httpPort: http?.port }, 'serving');
  return {
    opened,
    httpPort: http?.port,
    stop: async () => {
      registration?.close();
      await Promise.all([plugin?.close(), stop({ config, opened, running })]);
      http?.close();
      metrics.close();
    },
  };
}

interface Parts {
  readonly config: Config;
  readonly log: Logger;
  readonly version: string;
  readonly reached: Reached | undefined;
}

interface Domained {
  readonly metrics: Metrics;
  readonly opened: OpenedVolumes;
}

async function openDomain({ config, log, version, reached }: Parts): Promise<Domained> {
  const [{ makeRealHost }, { gate, ownedBy }, { openVolumes }, { measurePools }] =
    await Promise.all([
      import('./host/real-host.ts'),
      import('./host/kernel/gate.ts'),
      import('./volumes/open.ts'),
      import('./volumes/pools/pool-measures.ts'),
    ]);
  const metrics = new Metrics({
    version,
    observe: async () => ({
      pools: await measurePools(opened.domain, lookBoundMs),
      stuckOwners: gate.stuckOwners().length,
      runningOperations: opened.domain.operations.runningCount,
    }),
  });
  const host = makeRealHost({
    onCommand: ({ file, args, exitCode, durationMs }) => {
      log.debug({ file, args, exitCode, durationMs: Math.round(durationMs) }, 'command ended');
      metrics.commandEnded({ file, result: exitCode?.toString() ?? 'none', durationMs });
    },
  });
  const opened = await openVolumes({
    host,
    log,
    ownedBy,
    whenReturned: (owner) => gate.whenReturned(owner),
    longestWaitMs: (pool) => gate.longestOn(pool),
    pools: config.pools,
    stateDir: config.stateDir,
    settings: domainSettings(config),
    ...(reached === undefined ? {} : { reached }),
  });
  return { metrics, opened };
}

/** What of the configuration the domain has to know. */
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
    kubeletDir: config.kubeletDir,
    maxVolumesPerNode: config.maxVolumes,
    guardFreezeLimitMs: config.guardFreezeLimit,
    withoutStaging: config.withoutStaging,
    mountDir: config.withoutStaging || config.dockerSocket ? config.mountDir : undefined,
  };
}

async function startServer(
  { config, log, version }: Parts,
  from: Domained & { readonly server: Promise<typeof ServerModule> },
): Promise<RunningServer> {
  const { metrics, opened } = from;
  const [{ serveCsi }, { nodeTopology }, { adminServer }] = await Promise.all([
    from.server,
    import('./rpc/topology.ts'),
    import('./rpc/admin.ts'),
  ]);
  const settings = {
    driverName: config.driverName,
    version,
    nodeId: config.nodeId,
    defaultFsType: config.defaultFstype,
    clusterPools: config.clusterPools,
    expansion: config.expansion,
    withoutStaging: config.withoutStaging,
  };
  const here = nodeTopology(config.driverName, config.nodeId);
  return serveCsi({
    endpoint: config.endpoint,
    front: { settings, volumes: opened.volumes, here },
    log,
    callEnded: (call) => {
      metrics.callEnded(call);
    },
    others: (edge) => [adminServer(opened, edge)],
  });
}

/** The volume plugin API of Docker, where it is wanted: the same volumes, records and locks. */
async function servePlugin(
  { config, log }: Parts,
  { metrics, opened }: Domained,
): Promise<RunningPlugin | undefined> {
  const { dockerSocket: socket, nodeId, defaultFstype: defaultFsType } = config;
  if (socket === undefined) return undefined;
  const { serveDocker } = await import('./docker/server.ts');
  const front = { volumes: opened.volumes, local: opened.local, nodeId, defaultFsType };
  return serveDocker({ socket, front, log, callEnded: (call) => metrics.callEnded(call) });
}

/** Once CSI answers, since the kubelet calls back at once. */
async function register(config: Config, log: Logger): Promise<Registration | undefined> {
  const { registrationDir: directory, driverName } = config;
  if (directory === undefined) return undefined;
  const { serveRegistration } = await import('./rpc/registration.ts');
  const endpoint = config.kubeletSocket ?? config.endpoint;
  return serveRegistration({ directory, driverName, endpoint, log });
}

/** The HTTP listener, where one is configured. An address that is only the default may be taken: by another driver of this machine, most likely. */
async function watchable(
  { config, log }: Parts,
  { metrics, opened }: Domained,
): Promise<HttpListener | undefined> {
  if (config.httpAddress === undefined) return undefined;
  const { host, port } = config.httpAddress;
  const { serveHttp } = await import('./observe/http.ts');
  try {
    return await serveHttp({
      host,
      port,
      metrics: async () => {
        const { contentType, body } = await metrics.render();
        return { status: 200, contentType, body };
      },
      findUnready: () => findUnready(opened.volumes, log),
    });
  } catch (error) {
    if (config.explicit.has('httpAddress')) {
      throw new VolumeError('unavailable', `--http-address: ${messageOf(error)}`, { cause: error });
    }
    log.warn({ host, port, err: error }, 'no metrics and health over HTTP: the address is taken');
    return undefined;
  }
}

/** Not at once: the first calls of a start should not wait for what only a scrape needs. */
function loadSoon(metrics: Metrics, log: Logger): void {
  const load = (): void => {
    metrics.load().catch((error: unknown) => {
      log.error({ err: error }, 'metrics cannot be loaded');
    });
  };
  setTimeout(load, 2_000).unref();
}

async function findUnready(volumes: Volumes, log: Logger): Promise<string | undefined> {
  return volumes.findUnready({ log, signal: AbortSignal.timeout(lookBoundMs) });
}

async function stop(parts: {
  readonly config: Config;
  readonly opened: OpenedVolumes;
  readonly running: RunningServer;
}): Promise<void> {
  const { config, opened, running } = parts;
  // No new connections and calls from here on; those under way are told how they ended.
  const drained = running.drain();
  // Half of the time to end by themselves, half to end after they were told to.
  await opened.close(config.shutdownTimeout / 2);
  await Promise.race([drained, delay(1_000, undefined, { ref: false })]);
  await running.close();
}
