import { loadConfig } from '../config.ts';
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
