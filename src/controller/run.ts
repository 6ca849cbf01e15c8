/** `loopcsi controller` as a process: its certificates, its discovery, and the controller itself. */
import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { VolumeError } from '../errors.ts';
import { limitHeapGrowth } from '../heap.ts';
import type { Logger } from '../observe/log.ts';
import { FollowedCredentials } from '../tls/credentials.ts';
import { manageCertificates, parseCertificates } from './certificates/manage.ts';
import { type RunningController, startController } from './controller.ts';
import { openDiscovery, parseAgents } from './discovery/agents-option.ts';
import { withFileLimit } from './discovery/open-files.ts';
import { inClusterAccess, type KubeClient, makeKubeClient } from './kube/client.ts';
import { leadByLease } from './kube/lease.ts';
import { openRecords, parseRecords, type RecordsOption } from './nodes/records-option.ts';
import { watchLosses } from './nodes/watch-losses.ts';
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
  readonly nodeLossPolicy: 'keep' | 'forget';
  /** In milliseconds. */
  readonly forgetDeletedNodesAfter: number;
  readonly claimEvents: boolean;
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
  const { manageCertificates: secrets, nodeRecords } = config;
  limitHeapGrowth();
  const agents = parseAgents(config.agents);
  const kept = secrets === undefined ? undefined : parseCertificates(secrets);
  let client: KubeClient | undefined;
  const kube = (): KubeClient => (client ??= makeKubeClient(inClusterAccess(variables)));
  const discovery = await withFileLimit(openDiscovery(agents, { log, kube }), log);
  const records = nodeRecords === undefined ? undefined : parseRecords(nodeRecords);
  const watched = watchedRecords(config, records);
  const nodeStore = records === undefined ? undefined : await openRecords(records, { log, kube });
  log.info({ version, config }, 'starting');
  const trust = { directory: tlsDir, driverName, log, role: 'controller' } as const;
  const followed = await FollowedCredentials.follow(trust);
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
  const own = { driverName, identity, log };
  const { signal } = stopping;
  const leading: Promise<void>[] = [];
  if (kept !== undefined)
    leading.push(manageCertificates({ ...kept, ...own, client: kube() }, signal));
  if (watched !== undefined)
    leading.push(leadLosses({ ...watched, ...own, ...running, client: kube(), config }, signal));
  return {
    stop: async () => {
      stopping.abort();
      await Promise.all([running.stop(), ...leading]);
      followed.close();
      client?.close();
    },
  };
}

/** The ConfigMap of the records, if this controller has to look after lost nodes. Throws `invalid` for other records. */
function watchedRecords(
  { nodeLossPolicy, claimEvents }: RunOptions,
  records: RecordsOption | undefined,
): (RecordsOption & { readonly kind: 'configmap' }) | undefined {
  if (nodeLossPolicy === 'keep' && !claimEvents) return undefined;
  if (records?.kind === 'configmap') return records;
  throw new VolumeError(
    'invalid',
    '--node-loss-policy forget and --claim-events need Kubernetes; add --node-records configmap://NAMESPACE/NAME, or remove them',
  );
}

/** One of several controllers looks after lost nodes. Its Lease has the name of the ConfigMap. */
async function leadLosses(
  options: {
    readonly namespace: string;
    readonly name: string;
    readonly client: KubeClient;
    readonly driverName: string;
    readonly identity: string;
    readonly log: Logger;
    readonly config: RunOptions;
  } & Pick<RunningController, 'agents' | 'records'>,
  signal: AbortSignal,
): Promise<void> {
  const { namespace, name, client, identity, log, config, driverName, agents, records } = options;
  const watching = {
    ...{ client, driverName, agents, records, log },
    policy: config.nodeLossPolicy,
    afterDeletedMs: config.forgetDeletedNodesAfter,
    hasEvents: config.claimEvents,
    instance: identity,
  };
  const lead = (leading: AbortSignal) => watchLosses(watching, leading);
  await leadByLease({ client, namespace, name, identity, log, signal, lead });
}
