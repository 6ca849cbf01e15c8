/**
 * The rows of the crash matrix: every call that changes state, as a container platform makes it. A row has the preparation,
 * the call, and the check afterwards. A first run without a kill finds the fault points that the row passes.
 */
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { MiB } from '../../src/units.ts';
import type { PoolFs } from '../helpers/scratch-pool.ts';
import type { Kind } from './calls.ts';
import * as calls from './calls.ts';
import type { World } from './test-node.ts';

export interface Operation {
  readonly name: string;
  readonly poolFs: PoolFs;
  /** Additional flags of the driver; rows with the same flags share a node. */
  readonly flags?: (directory: string) => readonly string[];
  /** Prepares the node for the call, without a kill. */
  readonly prepare?: (world: World) => Promise<void>;
  /** The call. It must have the same answer each time it succeeds. */
  readonly call: (world: World) => Promise<unknown>;
  /** Throws if the call has not had its effect. */
  readonly check?: (world: World) => Promise<void>;
}

const fileKinds = ['ext4', 'xfs', 'btrfs'] as const;
const kinds = [...fileKinds, 'block'] as const satisfies readonly Kind[];
const fileText = 'synced before the call';

async function staged(world: World, name: string, kind: Kind): Promise<void> {
  await calls.create(world, name, { kind });
  await calls.stage(world, name, kind);
  const path = await world.stagingPathOf(name);
  if (kind !== 'block') await calls.writeSynced(path, 'file', fileText);
}

async function published(world: World, name: string, kind: Kind): Promise<void> {
  await staged(world, name, kind);
  await calls.publish(world, name, { kind });
}

/** Creates a volume, writes a file and unstages it. */
async function idle(world: World, name: string, kind: Kind): Promise<void> {
  await staged(world, name, kind);
  await calls.unstage(world, name);
}

async function requireFile(world: World, name: string): Promise<void> {
  await calls.requireText(await world.stagingPathOf(name), 'file', fileText);
}

/** Stages a volume and checks its file, which may have been copied from another volume. */
async function requireCopied(world: World, name: string, kind: Kind): Promise<void> {
  await calls.stage(world, name, kind);
  await requireFile(world, name);
  await calls.unstage(world, name);
}

/** Fills the first bytes of a raw block volume. */
async function fillBlock(world: World, name: string, bytes: bigint): Promise<void> {
  const device = await open(join(await world.stagingPathOf(name), 'device'), 'r+');
  try {
    const chunk = Buffer.alloc(Number(4n * MiB), 'loopcsi');
    for (let at = 0n; at < bytes; at += 4n * MiB)
      await device.write(chunk, 0, chunk.length, Number(at));
    await device.sync();
  } finally {
    await device.close();
  }
}

/** An idle raw block volume with more data than is copied at once. */
async function longBlock(world: World, name: string): Promise<void> {
  await calls.create(world, name, { kind: 'block', sizeBytes: longCopyBytes });
  await calls.stage(world, name, 'block');
  await fillBlock(world, name, longCopyBytes);
  await calls.unstage(world, name);
}

/** Throws when the first bytes are not what `fillBlock` wrote. */
async function requireBlock(world: World, name: string, bytes: bigint): Promise<void> {
  const device = await open(join(await world.stagingPathOf(name), 'device'));
  const chunk = Buffer.alloc(Number(4n * MiB));
  const expected = Buffer.alloc(chunk.length, 'loopcsi');
  try {
    for (let at = 0n; at < bytes; at += 4n * MiB) {
      await device.read(chunk, 0, chunk.length, Number(at));
      if (!chunk.equals(expected)) throw new Error(`${name} differs after byte ${at}`);
    }
  } finally {
    await device.close();
  }
}

const creating: readonly Operation[] = [
  ...kinds.map(
    (kind): Operation => ({
      name: `create ${kind}`,
      poolFs: 'directory',
      call: (world) => calls.create(world, 'new', { kind }),
      check: async (world) => {
        await calls.stage(world, 'new', kind);
        await calls.unstage(world, 'new');
      },
    }),
  ),
  {
    name: 'create thick ext4',
    poolFs: 'directory',
    call: (world) =>
      calls.create(world, 'thick', { kind: 'ext4', parameters: { provisioning: 'thick' } }),
  },
  ...(['ext4', 'block'] as const).map(
    (kind): Operation => ({
      name: `delete ${kind}`,
      poolFs: 'directory',
      prepare: async (world) => {
        await idle(world, 'old', kind);
      },
      call: (world) => calls.destroy(world, 'old'),
    }),
  ),
];

const staging: readonly Operation[] = [
  ...kinds.map(
    (kind): Operation => ({
      name: `stage ${kind}`,
      poolFs: 'directory',
      prepare: async (world) => {
        await calls.create(world, 'v', { kind });
      },
      call: (world) => calls.stage(world, 'v', kind),
    }),
  ),
  ...(['ext4', 'xfs'] as const).map(
    (kind): Operation => ({
      name: `stage ${kind} grown while it was idle`,
      poolFs: 'directory',
      prepare: async (world) => {
        await idle(world, 'v', kind);
        await calls.expand(world, 'v', 2n * calls.sizes[kind]);
      },
      call: (world) => calls.stage(world, 'v', kind),
      check: (world) => requireFile(world, 'v'),
    }),
  ),
  {
    name: 'stage ext4 whose growth was recorded only',
    poolFs: 'directory',
    prepare: async (world) => {
      await idle(world, 'v', 'ext4');
      await world.arm('promise', { point: 'expand:promised', nth: 1 });
      await calls.expand(world, 'v', 64n * MiB).catch(() => undefined);
      await world.driver.ended;
      await world.restart();
    },
    call: (world) => calls.stage(world, 'v', 'ext4'),
    check: (world) => requireFile(world, 'v'),
  },
  ...kinds.map(
    (kind): Operation => ({
      name: `unstage ${kind}`,
      poolFs: 'directory',
      prepare: (world) => staged(world, 'v', kind),
      call: (world) => calls.unstage(world, 'v'),
      check: async (world) => {
        if (kind !== 'block') await requireCopied(world, 'v', kind);
      },
    }),
  ),
];

const publishing: readonly Operation[] = [
  ...(['ext4', 'block'] as const).flatMap((kind): readonly Operation[] => [
    {
      name: `publish ${kind}`,
      poolFs: 'directory',
      prepare: (world) => staged(world, 'v', kind),
      call: (world) => calls.publish(world, 'v', { kind }),
    },
    {
      name: `publish ${kind} read-only`,
      poolFs: 'directory',
      prepare: (world) => staged(world, 'v', kind),
      call: (world) => calls.publish(world, 'v', { kind, readOnly: true }),
    },
    {
      name: `publish ${kind} a second time`,
      poolFs: 'directory',
      prepare: (world) => published(world, 'v', kind),
      call: (world) => calls.publish(world, 'v', { kind, target: 'second' }),
    },
    {
      name: `unpublish ${kind}`,
      poolFs: 'directory',
      prepare: (world) => published(world, 'v', kind),
      call: (world) => calls.unpublish(world, 'v'),
    },
  ]),
  {
    name: 'unpublish block read-only',
    poolFs: 'directory',
    prepare: async (world) => {
      await staged(world, 'v', 'block');
      await calls.publish(world, 'v', { kind: 'block', readOnly: true });
    },
    call: (world) => calls.unpublish(world, 'v'),
  },
  {
    name: 'publish inline ephemeral',
    poolFs: 'directory',
    call: (world) => calls.publishInline(world, 'inline'),
    check: (world) => calls.writeSynced(calls.targetOf(world, 'inline'), 'file', fileText),
  },
  {
    name: 'unpublish inline ephemeral',
    poolFs: 'directory',
    prepare: async (world) => {
      await calls.publishInline(world, 'inline');
    },
    call: (world) => calls.unpublishInline(world, 'inline'),
  },
  ...(['publish', 'unpublish'] as const).map(
    (what): Operation => ({
      name: `${what} without staging`,
      poolFs: 'directory',
      flags: () => ['--without-staging'],
      prepare: async (world) => {
        await calls.create(world, 'v', { kind: 'ext4' });
        if (what === 'unpublish') await calls.publish(world, 'v', { kind: 'ext4', staged: false });
      },
      call: (world) =>
        what === 'publish'
          ? calls.publish(world, 'v', { kind: 'ext4', staged: false })
          : calls.unpublish(world, 'v'),
    }),
  ),
];

const growing: readonly Operation[] = [
  {
    name: 'controller expands idle ext4',
    poolFs: 'directory',
    prepare: (world) => idle(world, 'v', 'ext4'),
    call: (world) => calls.expand(world, 'v', 64n * MiB),
    check: (world) => requireCopied(world, 'v', 'ext4'),
  },
  {
    name: 'controller expands thick ext4',
    poolFs: 'directory',
    prepare: async (world) => {
      await calls.create(world, 'v', { kind: 'ext4', parameters: { provisioning: 'thick' } });
    },
    call: (world) => calls.expand(world, 'v', 64n * MiB),
  },
  ...kinds.map(
    (kind): Operation => ({
      name: `node expands staged ${kind}`,
      poolFs: 'directory',
      prepare: async (world) => {
        await staged(world, 'v', kind);
        await calls.expand(world, 'v', 2n * calls.sizes[kind]);
      },
      call: (world) => calls.nodeExpand(world, 'v', 2n * calls.sizes[kind]),
      check: async (world) => {
        if (kind !== 'block') await requireFile(world, 'v');
      },
    }),
  ),
  {
    name: 'node alone expands published xfs',
    poolFs: 'directory',
    prepare: (world) => published(world, 'v', 'xfs'),
    call: (world) => calls.nodeExpand(world, 'v', 600n * MiB),
    check: (world) => requireFile(world, 'v'),
  },
];

const docker: readonly Operation[] = [
  {
    name: 'Docker creates',
    poolFs: 'directory',
    call: (world) => dockerCreate(world),
  },
  {
    name: 'Docker mounts',
    poolFs: 'directory',
    prepare: async (world) => {
      await dockerCreate(world);
    },
    call: (world) => dockerMount(world),
    check: (world) =>
      calls.writeSynced(world.pathOf('docker', calls.volumeIdOf('data')), 'file', fileText),
  },
  {
    name: 'Docker unmounts',
    poolFs: 'directory',
    prepare: async (world) => {
      await dockerCreate(world);
      await dockerMount(world);
    },
    call: (world) => world.docker('Unmount', { Name: 'data', ID: 'one' }),
  },
  {
    name: 'Docker removes',
    poolFs: 'directory',
    prepare: async (world) => {
      await dockerCreate(world);
    },
    // Docker forgets a volume when the driver answers that there is none.
    call: async (world) => {
      await world.docker('Remove', { Name: 'data' }).catch((error: unknown) => {
        if (!String(error).includes('there is no volume')) throw error;
      });
    },
  },
];

async function dockerCreate(world: World): Promise<unknown> {
  world.recordUndo(() => calls.destroy(world, 'data'));
  return world.docker('Create', { Name: 'data', Opts: { size: '32Mi' } });
}

async function dockerMount(world: World): Promise<unknown> {
  world.recordUndo(() => world.docker('Unmount', { Name: 'data', ID: 'one' }));
  return world.docker('Mount', { Name: 'data', ID: 'one' });
}

/** More bytes than a call copies itself on a pool that cannot share blocks. */
const longCopyBytes = 272n * MiB;

const snapshots: readonly Operation[] = [
  {
    name: 'snapshot of idle ext4, copied',
    poolFs: 'directory',
    prepare: (world) => idle(world, 'v', 'ext4'),
    call: (world) => calls.snapshot(world, 's', 'v'),
    check: async (world) => {
      await calls.create(world, 'r', { kind: 'ext4', snapshot: 's' });
      await requireCopied(world, 'r', 'ext4');
    },
  },
  {
    name: 'snapshot of idle block, copied for long',
    poolFs: 'directory',
    prepare: (world) => longBlock(world, 'v'),
    call: (world) => calls.snapshot(world, 's', 'v'),
  },
  {
    name: 'restore block, copied for long',
    poolFs: 'directory',
    prepare: async (world) => {
      await longBlock(world, 'v');
      await calls.snapshot(world, 's', 'v');
    },
    call: (world) =>
      calls.create(world, 'r', { kind: 'block', sizeBytes: longCopyBytes, snapshot: 's' }),
    check: async (world) => {
      await calls.stage(world, 'r', 'block');
      await requireBlock(world, 'r', longCopyBytes);
      await calls.unstage(world, 'r');
    },
  },
  {
    name: 'snapshot of staged ext4, copied while frozen',
    poolFs: 'directory',
    prepare: (world) => staged(world, 'v', 'ext4'),
    call: (world) => calls.snapshot(world, 's', 'v', { freeze: 'yes' }),
    check: async (world) => {
      await calls.writeSynced(await world.stagingPathOf('v'), 'later', fileText);
    },
  },
  ...(['xfs', 'btrfs'] as const).flatMap((poolFs) => [
    ...(poolFs === 'xfs' ? kinds : (['ext4', 'btrfs'] as const)).map(
      (kind): Operation => ({
        name: `snapshot of staged ${kind}`,
        poolFs,
        prepare: (world) => staged(world, 'v', kind),
        call: (world) => calls.snapshot(world, 's', 'v'),
      }),
    ),
    ...fileKinds.map(
      (kind): Operation => ({
        name: `restore ${kind} larger`,
        poolFs,
        prepare: async (world) => {
          await staged(world, 'v', kind);
          await calls.snapshot(world, 's', 'v');
        },
        call: (world) =>
          calls.create(world, 'r', { kind, snapshot: 's', sizeBytes: 2n * calls.sizes[kind] }),
        check: (world) => requireCopied(world, 'r', kind),
      }),
    ),
    ...fileKinds.map(
      (kind): Operation => ({
        name: `clone staged ${kind}`,
        poolFs,
        prepare: (world) => staged(world, 'v', kind),
        call: (world) => calls.create(world, 'c', { kind, volume: 'v' }),
        check: (world) => requireCopied(world, 'c', kind),
      }),
    ),
  ]),
  {
    name: 'clone staged block',
    poolFs: 'xfs',
    prepare: (world) => staged(world, 'v', 'block'),
    call: (world) => calls.create(world, 'c', { kind: 'block', volume: 'v' }),
  },
  {
    name: 'delete snapshot',
    poolFs: 'xfs',
    prepare: async (world) => {
      await staged(world, 'v', 'ext4');
      await calls.snapshot(world, 's', 'v');
    },
    call: (world) => calls.deleteSnapshot(world, 's'),
    check: (world) => requireFile(world, 'v'),
  },
  {
    name: 'group snapshot of two staged volumes',
    poolFs: 'xfs',
    prepare: async (world) => {
      await staged(world, 'v', 'ext4');
      await staged(world, 'w', 'xfs');
    },
    call: (world) => calls.groupSnapshot(world, 'g', ['v', 'w']),
  },
  {
    name: 'delete group snapshot',
    poolFs: 'xfs',
    prepare: async (world) => {
      await staged(world, 'v', 'ext4');
      await idle(world, 'w', 'ext4');
      await calls.groupSnapshot(world, 'g', ['v', 'w']);
    },
    call: (world) => calls.deleteGroup(world, 'g', ['v', 'w']),
  },
];

const starting: readonly Operation[] = [
  {
    name: 'start with a lost inline ephemeral volume',
    poolFs: 'directory',
    prepare: async (world) => {
      await calls.publishInline(world, 'inline');
      await execa('umount', [calls.targetOf(world, 'inline')]);
      await rm(calls.targetOf(world, 'inline'), { recursive: true });
    },
    call: (world) => world.stopAndStart(),
  },
  {
    name: 'first start in an empty directory',
    poolFs: 'directory',
    prepare: (world) => world.stopAndForget(),
    call: (world) => world.stopAndStart(),
  },
  {
    name: 'first start with an embedded pool',
    poolFs: 'directory',
    flags: (directory) => [
      `--pool=default=${join(directory, 'pool')},create,overcommit=20`,
      `--pool=embedded=${join(directory, 'embedded')},create,reflink=320Mi`,
    ],
    prepare: async (world) => {
      await world.stopAndForget();
      await world.dropEmbedded();
    },
    call: (world) => world.stopAndStart(),
    check: async (world) => {
      const { pools } = await world.admin.ListPools({});
      if (!pools.every(({ reason }) => reason === '')) throw new Error('a pool is not served');
    },
  },
  {
    name: 'adopt a pool of another node',
    poolFs: 'directory',
    flags: (directory) => [
      `--pool=default=${join(directory, 'pool')},create,overcommit=20`,
      `--pool=second=${join(directory, 'second')},create,overcommit=20`,
    ],
    prepare: async (world) => {
      await world.stopAndForget();
      await world.startAs('another-node');
      const volume_id = (
        await world.controller.CreateVolume({
          name: 'v',
          capacity_range: { required_bytes: 32n * MiB },
          volume_capabilities: [calls.capabilityFor('ext4')],
        })
      ).volume?.volume_id;
      if (volume_id === calls.volumeIdOf('v')) throw new Error('the node has the same tag');
      world.recordUndo(() => calls.destroy(world, 'v'));
      await world.stopAndStart();
    },
    call: async (world) => {
      const { pool } = await world.admin.AdoptPool({ name: 'default' });
      return pool?.name;
    },
    check: async (world) => {
      await calls.stage(world, 'v', 'ext4');
      await calls.unstage(world, 'v');
    },
  },
];

export const operations: readonly Operation[] = [
  ...creating,
  ...staging,
  ...publishing,
  ...growing,
  ...docker,
  ...snapshots,
  ...starting,
];
