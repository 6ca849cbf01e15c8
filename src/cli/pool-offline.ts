/** Pool commands without a running driver: this process itself changes the pool and the node's state directory. */
import { type Config, loadConfig } from '../config/load.ts';
import { poolNamePattern } from '../ids.ts';
import { poolDefaults } from '../volumes/pool/settings.ts';
import { FailedError, UsageError } from './errors.ts';
import type { Session } from './session.ts';

/** Initializes a pool for a driver that is started later with this node id and state directory. */
export async function initPoolWithoutDriver(
  session: Session,
  pool: {
    readonly name: string;
    readonly path: string;
    readonly embeddedBytes: bigint | undefined;
    readonly force: boolean;
  },
  options: { readonly nodeId?: string; readonly stateDir?: string },
): Promise<void> {
  const { name, embeddedBytes: reflinkBytes, force } = pool;
  if (!poolNamePattern.test(name)) {
    throw new UsageError(`'${name}' is not a pool name; use lower-case letters, digits and '-'`);
  }
  const config = await loadConfig({ ...options }, session.environment);
  const { stateDir, nodeId } = config;
  const path = pathOf(pool, config);
  const [{ makeRealHost }, { initPoolOffline }] = await Promise.all([
    import('../host/real-host.ts'),
    import('../volumes/admin/pools/init.ts'),
  ]);
  const { root, existed } = await initPoolOffline(
    { ...poolDefaults, name, path, force, reflinkBytes },
    { host: makeRealHost(), stateDir, nodeId },
  );
  await session.show({ name, path: root, state: 'unavailable', existed, nodeId }, () =>
    [
      `Pool '${name}' ${existed ? 'already exists' : 'was created'} at ${root}, for node id '${nodeId}'.`,
      `No driver is running; serve the pool with: loopcsi serve --pool ${name}=${root}`,
    ].join('\n'),
  );
}

/** A pool that `pool forget` removes from the state of the node. */
export interface LostPool {
  readonly inspect: () => Promise<LostPoolFacts>;
  /** Fails unless the lost pool still has this uuid. */
  readonly forget: (uuid: string) => Promise<void>;
}

interface LostPoolFacts {
  readonly path: string;
  readonly uuid: string;
  readonly volumeIds: readonly string[];
}

export async function openLostPoolWithoutDriver(
  session: Session,
  pool: { readonly name: string; readonly path: string },
  options: { readonly stateDir?: string },
): Promise<LostPool> {
  const { stateDir: flag } = options;
  const config = await loadConfig(
    flag === undefined ? {} : { stateDir: flag },
    session.environment,
  );
  const { name } = pool;
  const path = pathOf(pool, config);
  const [{ makeRealHost }, { createLog }, { inspectRememberedPool, forgetPool }] =
    await Promise.all([
      import('../host/real-host.ts'),
      import('../observe/log.ts'),
      import('../volumes/admin/pools/forget.ts'),
    ]);
  const { stateDir } = config;
  const deps = { host: makeRealHost(), log: createLog({ level: 'silent' }), stateDir };
  const inspect = () => inspectRememberedPool(deps, { name, path });
  return {
    inspect,
    forget: async (uuid) => {
      const found = await inspect();
      if (found.uuid !== uuid) {
        throw new FailedError(
          `pool '${name}': ${path} now belongs to pool ${found.uuid}; try again`,
        );
      }
      await forgetPool(deps, found);
    },
  };
}

/** Returns the path from the command line, else the path of the configured pool with this name. */
function pathOf({ name, path }: { name: string; path: string }, { pools }: Config): string {
  if (path !== '') return path;
  const configured = pools.find((pool) => pool.name === name);
  if (configured !== undefined) return configured.path;
  throw new UsageError(
    `no driver is running and LOOPCSI_POOL does not name pool '${name}'; write '${name}=DIR'`,
  );
}
