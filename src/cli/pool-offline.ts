import { loadConfig } from '../config/load.ts';
import { poolDefaults, poolNameForm } from '../volumes/pools/pool-settings.ts';
import { UsageError } from './errors.ts';
import type { Session } from './session.ts';

/** `pool init` where no driver runs: writes the marker for the node id and the state folder a driver will be started with. */
export async function initPoolAlone(
  session: Session,
  asked: {
    readonly name: string;
    readonly path: string;
    readonly embeddedBytes: bigint | undefined;
    readonly force: boolean;
  },
  options: { readonly nodeId?: string; readonly stateDir?: string },
): Promise<void> {
  const { name, embeddedBytes } = asked;
  if (!poolNameForm.test(name)) {
    throw new UsageError(`'${name}' is no name of a pool; take lower-case letters, digits and '-'`);
  }
  const config = await loadConfig({ ...options }, session.environment);
  const configured = config.pools.find((pool) => pool.name === name);
  const path = asked.path === '' ? configured?.path : asked.path;
  if (path === undefined) {
    throw new UsageError(
      `no driver runs and LOOPCSI_POOL names no pool '${name}'; write '${name}=DIR'`,
    );
  }
  const [{ makeRealHost }, { initPoolAlone: init }] = await Promise.all([
    import('../host/real-host.ts'),
    import('../volumes/pools/pool-init.ts'),
  ]);
  const { root, existed } = await init(
    { ...poolDefaults, name, path, force: asked.force, reflinkBytes: embeddedBytes },
    { host: makeRealHost(), stateDir: config.stateDir, nodeId: config.nodeId },
  );
  await session.show(
    { name, path: root, state: 'unavailable', existed, nodeId: config.nodeId },
    () =>
      [
        `Pool '${name}' ${existed ? 'was there already' : 'is made'} at ${root}, for node id '${config.nodeId}'.`,
        `No driver runs; serve it with: loopcsi serve --pool ${name}=${root}`,
      ].join('\n'),
  );
}

/** What `pool forget` gives up. */
export interface Remembered {
  readonly path: string;
  readonly uuid: string;
  readonly volumeIds: readonly string[];
}

/** `pool forget` where no driver runs, with the state folder that a driver will be started with. */
export async function forgetAlone(
  session: Session,
  asked: { readonly name: string; readonly path: string },
  options: { readonly stateDir?: string },
): Promise<{ look: () => Promise<Remembered>; forget: (uuid: string) => Promise<void> }> {
  const { stateDir: given } = options;
  const config = await loadConfig(
    given === undefined ? {} : { stateDir: given },
    session.environment,
  );
  const configured = config.pools.find(({ name }) => name === asked.name)?.path;
  const path = asked.path === '' ? configured : asked.path;
  if (path === undefined) {
    throw new UsageError(
      `no driver runs and LOOPCSI_POOL names no pool '${asked.name}'; write '${asked.name}=DIR'`,
    );
  }
  const [{ makeRealHost }, { createLog }, { lookAtRemembered, forgetPool }] = await Promise.all([
    import('../host/real-host.ts'),
    import('../observe/log.ts'),
    import('../volumes/pools/pool-forget.ts'),
  ]);
  const deps = {
    host: makeRealHost(),
    log: createLog({ level: 'silent' }),
    stateDir: config.stateDir,
  };
  const look = () => lookAtRemembered(deps, { name: asked.name, path });
  return {
    look,
    forget: async () => {
      await forgetPool(deps, await look());
    },
  };
}
