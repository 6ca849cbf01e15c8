/** `loopcsi controller` as a process: its certificates, its discovery, and the controller itself. */
import type { Logger } from '../observe/log.ts';
import { FollowedCredentials } from '../tls/credentials.ts';
import { startController } from './controller.ts';
import { staticDiscovery } from './discovery/static.ts';
import { tlsCredentials } from './tls.ts';

interface RunOptions {
  /** Path of the socket. */
  readonly endpoint: string;
  readonly agents: { readonly kind: 'static'; readonly addresses: readonly string[] };
  readonly tlsDir: string;
  readonly driverName: string;
  readonly httpAddress: { readonly host: string; readonly port: number } | undefined;
  /** In milliseconds. */
  readonly shutdownTimeout: number;
}

/** Runs a controller until `stop`. Throws `unavailable` if its socket or HTTP address cannot be bound. */
export async function runController(
  config: RunOptions,
  { log, version }: { readonly log: Logger; readonly version: string },
): Promise<{ stop(): Promise<void> }> {
  const { endpoint, driverName, httpAddress, tlsDir, shutdownTimeout } = config;
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
    discovery: staticDiscovery(config.agents.addresses),
    credentials: tlsCredentials(followed, driverName),
    log,
    httpAddress,
    shutdownTimeoutMs: shutdownTimeout,
  });
  return {
    stop: async () => {
      await running.stop();
      followed.close();
    },
  };
}
