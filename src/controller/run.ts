/** `loopcsi controller` as a process: its certificates, its discovery, and the controller itself. */
import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import type { Logger } from '../observe/log.ts';
import { FollowedCredentials } from '../tls/credentials.ts';
import { manageCertificates, parseCertificates } from './certificates/manage.ts';
import { startController } from './controller.ts';
import { openDiscovery, parseAgents } from './discovery/agents-option.ts';
import { maxOpenFiles, withFileLimit } from './discovery/open-files.ts';
import { inClusterAccess, type KubeClient, makeKubeClient } from './kube/client.ts';
import { openRecords, parseRecords } from './nodes/records-option.ts';
import { tlsCredentials } from './tls.ts';

interface RunOptions {
  /** Path of the socket. */
  readonly endpoint: string;
  /** The source of the agents (discovery/agents-option.ts). */
  readonly agents: string;
  readonly tlsDir: string;
  /** The Secrets that this process keeps (certificates/manage.ts); undefined if it keeps none. */
  readonly manageCertificates: string | undefined;
  /** Where the records of nodes are kept (nodes/records-option.ts); undefined if no node can be forgotten. */
  readonly nodeRecords: string | undefined;
  readonly driverName: string;
  readonly httpAddress: { readonly host: string; readonly port: number } | undefined;
  /** Options that were set explicitly, as opposed to defaults. */
  readonly explicit: ReadonlySet<string>;
  /** In milliseconds. */
  readonly shutdownTimeout: number;
}

interface Surroundings {
  readonly log: Logger;
  readonly version: string;
  /** The environment, which says where the Kubernetes API is. */
  readonly variables: Readonly<Record<string, string | undefined>>;
}

/**
 * Runs a controller until `stop`. Throws `invalid` for options that cannot be used, and `unavailable` if its socket, or an
 * HTTP address that was set explicitly, cannot be bound.
 */
export async function runController(
  config: RunOptions,
  { log, version, variables }: Surroundings,
): Promise<{ stop(): Promise<void> }> {
  const { endpoint, driverName, httpAddress, tlsDir, shutdownTimeout } = config;
  const agents = parseAgents(config.agents);
  const kept =
    config.manageCertificates === undefined
      ? undefined
      : parseCertificates(config.manageCertificates);
  let client: KubeClient | undefined;
  const kube = (): KubeClient => (client ??= makeKubeClient(inClusterAccess(variables)));
  const limit = await maxOpenFiles();
  const discovery = withFileLimit(openDiscovery(agents, { log, kube }), { log, limit });
  const nodeStore =
    config.nodeRecords === undefined
      ? undefined
      : await openRecords(parseRecords(config.nodeRecords), { log, kube });
  log.info({ version, config }, 'starting');
  const followed = await FollowedCredentials.follow({
    directory: tlsDir,
    driverName,
    role: 'controller',
    log,
  });
  const running = await startController({
    endpoint,
    driverName,
    version,
    discovery,
    nodeStore,
    credentials: tlsCredentials(followed, driverName),
    log,
    httpAddress,
    isHttpOptional: !config.explicit.has('httpAddress'),
    shutdownTimeoutMs: shutdownTimeout,
  });
  const stopping = new AbortController();
  // The host name of a pod is its name, but may be cut off.
  const identity = `${hostname()}_${randomUUID()}`;
  const leading = [
    ...(kept === undefined
      ? []
      : [
          manageCertificates(
            { ...kept, client: kube(), driverName, identity, log },
            stopping.signal,
          ),
        ]),
  ];
  return {
    stop: async () => {
      stopping.abort();
      await Promise.all([running.stop(), ...leading]);
      followed.close();
      client?.close();
    },
  };
}
