import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { nodeTagOf } from '../../src/ids.ts';
import { createLog } from '../../src/observe/log.ts';
import { GiB } from '../../src/units.ts';
import { type OpenDeps, type OpenedVolumes, openVolumes } from '../../src/volumes/open.ts';
import { type PoolSettings, poolDefaults } from '../../src/volumes/pool/settings.ts';
import { FakeHost, type FakeHostOptions } from './fake-host.ts';

export const silent = createLog({ level: 'silent' });

export const fakeSettings = {
  nodeTag: nodeTagOf('test-node'),
  defaultFsType: 'ext4',
  defaultSizeBytes: GiB,
  ephemeral: { defaultBytes: GiB, maximumBytes: GiB, poolCapBytes: GiB },
  withoutStaging: false,
  maxVolumesPerNode: 100,
  guardFreezeLimitMs: 60_000,
  groupFreezeLimitMs: 10_000,
  trimBytesPerSecond: 1024n ** 4n,
  transfers: { parallel: 2, bytesPerSecond: 0n },
} as const satisfies OpenDeps['settings'];

/** A node in memory whose pools are directories of the test; needs no root. */
export interface FakeNode {
  readonly host: FakeHost;
  readonly directory: string;
  settings(name: string, options?: Partial<PoolSettings>): PoolSettings;
  open(pools: readonly PoolSettings[], deps?: Partial<OpenDeps>): Promise<OpenedVolumes>;
}

/** Opens no driver yet. Drivers that are opened end with the test. */
export async function fakeNode(
  t: ExecutionContext,
  options: FakeHostOptions = {},
): Promise<FakeNode> {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-test-'));
  const host = new FakeHost(options);
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  return {
    host,
    directory,
    settings: (name, options = {}) => ({
      ...poolDefaults,
      name,
      path: join(directory, name),
      create: true,
      force: true,
      ...options,
    }),
    open: async (pools, deps = {}) => {
      const opened = await openVolumes({
        host,
        log: silent,
        stateDir: join(directory, 'state'),
        settings: fakeSettings,
        pools,
        ...deps,
        kubeletDir: deps.kubeletDir,
      });
      t.teardown(() => opened.close(100));
      return opened;
    },
  };
}
