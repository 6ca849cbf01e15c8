import { mkdir, mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import type { Host } from '../../src/host/host.ts';
import { noLimits } from '../../src/host/loop/io-limits.ts';
import { makeRealHost } from '../../src/host/real-host.ts';
import { nodeTagOf } from '../../src/ids.ts';
import { createLog } from '../../src/observe/log.ts';
import { GiB } from '../../src/units.ts';
import type { Reached } from '../../src/volumes/engine/fault-points.ts';
import type { Call } from '../../src/volumes/engine/operations.ts';
import type {
  AccessMode,
  Capability,
  CreateVolumeInput,
  VolumeSettings,
} from '../../src/volumes/model.ts';
import { type OpenDeps, type OpenedVolumes, openVolumes } from '../../src/volumes/open.ts';
import { type PoolSettings, poolDefaults } from '../../src/volumes/pool/settings.ts';
import { RestartableDriver } from './restartable-driver.ts';
import { makePoolFs, type PoolFs, removeAll } from './scratch-pool.ts';

export interface ScratchOptions {
  readonly poolFs?: PoolFs;
  /** Size of the pool's filesystem. */
  readonly poolFsBytes?: bigint;
  /** More mkfs options for it. */
  readonly poolFsOptions?: readonly string[];
  readonly pool?: Partial<PoolSettings>;
  readonly reached?: Reached;
  readonly host?: (host: Host) => Host;
  /** Gives the driver a directory for mounts without a staging path: `DIRECTORY/state/docker`, as by default. */
  readonly mountDir?: boolean;
  readonly settings?: Partial<OpenDeps['settings']>;
}

interface RestartOptions {
  readonly reached?: Reached;
  readonly pool?: Partial<PoolSettings>;
  /** Runs before the driver opens again; simulates a reboot, for example. */
  readonly whileClosed?: () => Promise<void>;
}

/** A node with one pool in a scratch directory, real loop devices and real mounts. Its end checks that none is left. */
export interface ScratchNode extends RestartableDriver {
  readonly directory: string;
  /** The pool's directory. */
  readonly poolPath: string;
  readonly host: Host;
  /** A path below the scratch directory that does not exist yet; its parent does. */
  pathOf(name: string): string;
  /** Closes the driver as SIGTERM does and opens it again, as a new process would. */
  restart(options?: RestartOptions): Promise<void>;
}

export const call = (): Call => ({
  signal: new AbortController().signal,
  log: createLog({ level: 'silent' }),
});

export const plainSettings: VolumeSettings = {
  pool: undefined,
  provisioning: 'thin',
  mkfsOptions: [],
  sectorSize: undefined,
  trim: 'periodic',
  directIo: true,
  limits: noLimits,
};

export function volumeInput(
  name: string,
  options: Partial<CreateVolumeInput> & { sizeBytes?: bigint } = {},
): CreateVolumeInput {
  const { sizeBytes = 0n, ...rest } = options;
  const kind = rest.kind ?? 'mount';
  return {
    name,
    range: { requiredBytes: sizeBytes, limitBytes: 0n },
    kind,
    fsType: kind === 'block' ? null : 'ext4',
    settings: plainSettings,
    parameters: {},
    source: null,
    ...rest,
  };
}

export function capability(options: Partial<Capability> = {}): Capability {
  const accessMode: AccessMode = 'SINGLE_NODE_WRITER';
  return { kind: 'mount', fsType: '', mountFlags: [], accessMode, ...options };
}

/** Opens the node. The test's teardown closes it and checks that nothing is left. */
export async function scratchNode(
  t: ExecutionContext,
  options: ScratchOptions = {},
): Promise<ScratchNode> {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-test-'));
  const host = (options.host ?? ((same) => same))(makeRealHost());
  const poolPath = join(directory, 'pool');
  t.teardown(async () => {
    const left = await removeAll(directory);
    // AVA ignores assertions in a teardown; an error still fails the test.
    if (left.length > 0) throw new Error(`left over: ${left.join(', ')}`);
  });
  await makePoolFs(directory, options);
  const open = (
    reached: Reached | undefined,
    pool: Partial<PoolSettings> | undefined = options.pool,
  ): Promise<OpenedVolumes> =>
    openVolumes({
      host,
      log: createLog({ level: process.env['LOOPCSI_TEST_LOG'] === '1' ? 'debug' : 'silent' }),
      stateDir: join(directory, 'state'),
      settings: { ...testSettings, ...options.settings },
      kubeletDir: undefined,
      mountDir: options.mountDir === true ? join(directory, 'state', 'docker') : undefined,
      pools: [{ ...poolDefaults, name: 'default', path: poolPath, create: true, ...pool }],
      ...(reached === undefined ? {} : { reached }),
    });
  const driver = new RestartableDriver(await open(options.reached));
  t.teardown(() => driver.close());
  return Object.assign(driver, {
    directory,
    poolPath,
    host,
    pathOf: (name: string) => join(directory, name),
    restart: ({ reached, pool, whileClosed }: RestartOptions = {}) =>
      driver.reopen(() => open(reached, pool), whileClosed),
  });
}

export const testSettings = {
  nodeTag: nodeTagOf('test-node'),
  defaultFsType: 'ext4',
  defaultSizeBytes: GiB,
  ephemeral: { defaultBytes: GiB, maximumBytes: 4n * GiB, poolCapBytes: 8n * GiB },
  withoutStaging: false,
  maxVolumesPerNode: 100,
  guardFreezeLimitMs: 60_000,
  groupFreezeLimitMs: 10_000,
  trimBytesPerSecond: 1024n ** 4n,
  transfers: { parallel: 2, bytesPerSecond: 0n },
} as const satisfies OpenDeps['settings'];

/** Stages and publishes a volume, and returns both paths. */
export async function mountVolume(
  node: ScratchNode,
  volumeId: string,
  options: Partial<Capability> & { target?: string; readOnly?: boolean } = {},
): Promise<{ stagingTargetPath: string; targetPath: string }> {
  const { target = `target-${volumeId}`, readOnly = false, ...rest } = options;
  const stagingTargetPath = node.pathOf(`staging-${volumeId}`);
  const targetPath = node.pathOf(target);
  const asked = capability(rest);
  await mkdir(stagingTargetPath, { recursive: true });
  await node.volumes.stageVolume(call(), { volumeId, stagingTargetPath, capability: asked });
  await node.volumes.publishVolume(call(), {
    volumeId,
    stagingTargetPath,
    targetPath,
    capability: asked,
    readOnly,
  });
  return { stagingTargetPath, targetPath };
}

export async function unmountVolume(
  node: ScratchNode,
  volumeId: string,
  paths: { stagingTargetPath: string; targetPath: string },
): Promise<void> {
  await node.volumes.unpublishVolume(call(), { volumeId, targetPath: paths.targetPath });
  await node.volumes.unstageVolume(call(), {
    volumeId,
    stagingTargetPath: paths.stagingTargetPath,
  });
}
