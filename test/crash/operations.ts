/**
 * The rows of the crash matrix: every call that changes state, as a container platform makes it. A row has the preparation,
 * the call, and the check afterwards. A first run without a kill finds the fault points that the row passes.
 */
import { mkdir, open, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { MiB } from '../../src/units.ts';
import type { PoolFs } from '../helpers/scratch-pool.ts';
import type { Kind } from './calls.ts';
import * as calls from './calls.ts';
import { peerOf } from './peer.ts';
import type { TestNode } from './test-node.ts';

export interface Operation {
  readonly name: string;
  readonly poolFs: PoolFs;
  /** Additional flags of the driver; rows with the same flags share a node. */
  readonly flags?: (directory: string) => readonly string[];
  /** Whether its node serves its network address, for copies from and to another node. */
  readonly hasPeer?: boolean;
  /** Prepares the node for the call, without a kill. */
  readonly prepare?: (testNode: TestNode) => Promise<void>;
  /** The call. It must have the same answer each time it succeeds. */
  readonly call: (testNode: TestNode) => Promise<unknown>;
  /** Throws if the call has not had its effect. */
  readonly check?: (testNode: TestNode) => Promise<void>;
}

const fileKinds = ['ext4', 'xfs', 'btrfs'] as const;
const kinds = [...fileKinds, 'block'] as const satisfies readonly Kind[];
const fileText = 'synced before the call';

async function staged(testNode: TestNode, name: string, kind: Kind): Promise<void> {
  await calls.create(testNode, name, { kind });
  await calls.stage(testNode, name, kind);
  const path = await testNode.stagingPathOf(name);
  if (kind !== 'block') await calls.writeSynced(path, 'file', fileText);
}

async function published(testNode: TestNode, name: string, kind: Kind): Promise<void> {
  await staged(testNode, name, kind);
  await calls.publish(testNode, name, { kind });
}

/** Creates a volume, writes a file and unstages it. */
async function idle(testNode: TestNode, name: string, kind: Kind): Promise<void> {
  await staged(testNode, name, kind);
  await calls.unstage(testNode, name);
}

async function requireFile(testNode: TestNode, name: string): Promise<void> {
  await calls.requireText(await testNode.stagingPathOf(name), 'file', fileText);
}

/** Stages a volume and checks its file, which may have been copied from another volume. */
async function requireCopied(testNode: TestNode, name: string, kind: Kind): Promise<void> {
  await calls.stage(testNode, name, kind);
  await requireFile(testNode, name);
  await calls.unstage(testNode, name);
}

/** Fills the first bytes of a raw block volume. */
async function fillBlock(testNode: TestNode, name: string, bytes: bigint): Promise<void> {
  const device = await open(join(await testNode.stagingPathOf(name), 'device'), 'r+');
  try {
    const chunk = Buffer.alloc(Number(4n * MiB), 'loopcsi');
    for (let at = 0n; at < bytes; at += 4n * MiB)
      await device.write(chunk, 0, chunk.length, Number(at));
    await device.sync();
  } finally {
    await device.close();
  }
}

/** An idle raw block volume with that much data. */
async function filledBlock(testNode: TestNode, name: string, bytes: bigint): Promise<void> {
  await calls.create(testNode, name, { kind: 'block', sizeBytes: bytes });
  await calls.stage(testNode, name, 'block');
  await fillBlock(testNode, name, bytes);
  await calls.unstage(testNode, name);
}

/** An idle raw block volume with more data than a call copies. */
const longBlock = (testNode: TestNode, name: string): Promise<void> =>
  filledBlock(testNode, name, longCopyBytes);

/** Throws when the first bytes are not what `fillBlock` wrote. */
async function requireBlock(testNode: TestNode, name: string, bytes: bigint): Promise<void> {
  const device = await open(join(await testNode.stagingPathOf(name), 'device'));
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
      call: (testNode) => calls.create(testNode, 'new', { kind }),
      check: async (testNode) => {
        await calls.stage(testNode, 'new', kind);
        await calls.unstage(testNode, 'new');
      },
    }),
  ),
  {
    name: 'create thick ext4',
    poolFs: 'directory',
    call: (testNode) =>
      calls.create(testNode, 'thick', { kind: 'ext4', parameters: { provisioning: 'thick' } }),
  },
  ...(['ext4', 'block'] as const).map(
    (kind): Operation => ({
      name: `delete ${kind}`,
      poolFs: 'directory',
      prepare: async (testNode) => {
        await idle(testNode, 'old', kind);
      },
      call: (testNode) => calls.destroy(testNode, 'old'),
    }),
  ),
];

const staging: readonly Operation[] = [
  ...kinds.map(
    (kind): Operation => ({
      name: `stage ${kind}`,
      poolFs: 'directory',
      prepare: async (testNode) => {
        await calls.create(testNode, 'v', { kind });
      },
      call: (testNode) => calls.stage(testNode, 'v', kind),
    }),
  ),
  ...(['ext4', 'xfs'] as const).map(
    (kind): Operation => ({
      name: `stage ${kind} grown while it was idle`,
      poolFs: 'directory',
      prepare: async (testNode) => {
        await idle(testNode, 'v', kind);
        await calls.expand(testNode, 'v', 2n * calls.sizes[kind]);
      },
      call: (testNode) => calls.stage(testNode, 'v', kind),
      check: (testNode) => requireFile(testNode, 'v'),
    }),
  ),
  ...(['ext4', 'xfs'] as const).map(
    (kind): Operation => ({
      name: `stage ${kind} with ro, grown while it was idle`,
      poolFs: 'directory',
      prepare: async (testNode) => {
        await idle(testNode, 'v', kind);
        await calls.expand(testNode, 'v', 2n * calls.sizes[kind]);
      },
      call: (testNode) => calls.stage(testNode, 'v', kind, ['ro']),
      check: (testNode) => requireFile(testNode, 'v'),
    }),
  ),
  {
    name: 'stage ext4 whose growth was recorded only',
    poolFs: 'directory',
    prepare: async (testNode) => {
      await idle(testNode, 'v', 'ext4');
      await testNode.arm('promise', { point: 'expand:promised', nth: 1 });
      await calls.expand(testNode, 'v', 64n * MiB).catch(() => undefined);
      await testNode.driver.ended;
      await testNode.restart();
    },
    call: (testNode) => calls.stage(testNode, 'v', 'ext4'),
    check: (testNode) => requireFile(testNode, 'v'),
  },
  ...kinds.map(
    (kind): Operation => ({
      name: `unstage ${kind}`,
      poolFs: 'directory',
      prepare: (testNode) => staged(testNode, 'v', kind),
      call: (testNode) => calls.unstage(testNode, 'v'),
      check: async (testNode) => {
        if (kind !== 'block') await requireCopied(testNode, 'v', kind);
      },
    }),
  ),
];

const publishing: readonly Operation[] = [
  ...(['ext4', 'block'] as const).flatMap((kind): readonly Operation[] => [
    {
      name: `publish ${kind}`,
      poolFs: 'directory',
      prepare: (testNode) => staged(testNode, 'v', kind),
      call: (testNode) => calls.publish(testNode, 'v', { kind }),
    },
    {
      name: `publish ${kind} read-only`,
      poolFs: 'directory',
      prepare: (testNode) => staged(testNode, 'v', kind),
      call: (testNode) => calls.publish(testNode, 'v', { kind, readOnly: true }),
    },
    {
      name: `publish ${kind} a second time`,
      poolFs: 'directory',
      prepare: (testNode) => published(testNode, 'v', kind),
      call: (testNode) => calls.publish(testNode, 'v', { kind, target: 'second' }),
    },
    {
      name: `unpublish ${kind}`,
      poolFs: 'directory',
      prepare: (testNode) => published(testNode, 'v', kind),
      call: (testNode) => calls.unpublish(testNode, 'v'),
    },
  ]),
  {
    name: 'unpublish block read-only',
    poolFs: 'directory',
    prepare: async (testNode) => {
      await staged(testNode, 'v', 'block');
      await calls.publish(testNode, 'v', { kind: 'block', readOnly: true });
    },
    call: (testNode) => calls.unpublish(testNode, 'v'),
  },
  {
    name: 'publish inline ephemeral',
    poolFs: 'directory',
    call: (testNode) => calls.publishInline(testNode, 'inline'),
    check: (testNode) => calls.writeSynced(calls.targetOf(testNode, 'inline'), 'file', fileText),
  },
  {
    name: 'unpublish inline ephemeral',
    poolFs: 'directory',
    prepare: async (testNode) => {
      await calls.publishInline(testNode, 'inline');
    },
    call: (testNode) => calls.unpublishInline(testNode, 'inline'),
  },
  ...(['publish', 'unpublish'] as const).map(
    (what): Operation => ({
      name: `${what} without staging`,
      poolFs: 'directory',
      flags: () => ['--without-staging'],
      prepare: async (testNode) => {
        await calls.create(testNode, 'v', { kind: 'ext4' });
        if (what === 'unpublish')
          await calls.publish(testNode, 'v', { kind: 'ext4', staged: false });
      },
      call: (testNode) =>
        what === 'publish'
          ? calls.publish(testNode, 'v', { kind: 'ext4', staged: false })
          : calls.unpublish(testNode, 'v'),
    }),
  ),
];

const growing: readonly Operation[] = [
  {
    name: 'controller expands idle ext4',
    poolFs: 'directory',
    prepare: (testNode) => idle(testNode, 'v', 'ext4'),
    call: (testNode) => calls.expand(testNode, 'v', 64n * MiB),
    check: (testNode) => requireCopied(testNode, 'v', 'ext4'),
  },
  {
    name: 'controller expands thick ext4',
    poolFs: 'directory',
    prepare: async (testNode) => {
      await calls.create(testNode, 'v', { kind: 'ext4', parameters: { provisioning: 'thick' } });
    },
    call: (testNode) => calls.expand(testNode, 'v', 64n * MiB),
  },
  ...kinds.map(
    (kind): Operation => ({
      name: `node expands staged ${kind}`,
      poolFs: 'directory',
      prepare: async (testNode) => {
        await staged(testNode, 'v', kind);
        await calls.expand(testNode, 'v', 2n * calls.sizes[kind]);
      },
      call: (testNode) => calls.nodeExpand(testNode, 'v', 2n * calls.sizes[kind]),
      check: async (testNode) => {
        if (kind !== 'block') await requireFile(testNode, 'v');
      },
    }),
  ),
  {
    name: 'node alone expands published xfs',
    poolFs: 'directory',
    prepare: (testNode) => published(testNode, 'v', 'xfs'),
    call: (testNode) => calls.nodeExpand(testNode, 'v', 600n * MiB),
    check: (testNode) => requireFile(testNode, 'v'),
  },
];

const ioLimits = { writeBytesPerSecond: '1Mi', readIops: '500' } as const;
const limitFlags = (directory: string): readonly string[] => [
  `--pods-cgroup=${join(directory, 'io.max')}`,
];

/** Throws unless exactly the devices of one limited volume have limits, or none has. */
async function requireLimited(testNode: TestNode, line: string | undefined): Promise<void> {
  const text = await readFile(testNode.pathOf('io.max'), 'utf8').catch(() => '');
  const lines = text.split('\n').filter((one) => one !== '');
  const expected = line === undefined ? 0 : 1;
  const fits = lines.length === expected && lines.every((one) => one.endsWith(line ?? ''));
  if (!fits) throw new Error(`io.max has ${JSON.stringify(lines)}, not ${line ?? 'nothing'}`);
}

const limitLine = ' rbps=max wbps=1048576 riops=500 wiops=max';

const limiting: readonly Operation[] = [
  ...(['ext4', 'block'] as const).flatMap((kind): readonly Operation[] => [
    {
      name: `stage limited ${kind}`,
      poolFs: 'directory',
      flags: limitFlags,
      prepare: async (testNode) => {
        await calls.create(testNode, 'v', { kind, parameters: ioLimits });
      },
      call: (testNode) => calls.stage(testNode, 'v', kind),
      check: (testNode) => requireLimited(testNode, limitLine),
    },
    {
      name: `unstage limited ${kind}`,
      poolFs: 'directory',
      flags: limitFlags,
      prepare: async (testNode) => {
        await calls.create(testNode, 'v', { kind, parameters: ioLimits });
        await calls.stage(testNode, 'v', kind);
      },
      call: (testNode) => calls.unstage(testNode, 'v'),
      check: (testNode) => requireLimited(testNode, undefined),
    },
    {
      name: `limit staged ${kind}`,
      poolFs: 'directory',
      flags: limitFlags,
      prepare: (testNode) => staged(testNode, 'v', kind),
      call: (testNode) => calls.modify(testNode, 'v', ioLimits),
      check: (testNode) => requireLimited(testNode, limitLine),
    },
  ]),
  {
    name: 'unlimit staged ext4',
    poolFs: 'directory',
    flags: limitFlags,
    prepare: async (testNode) => {
      await calls.create(testNode, 'v', { kind: 'ext4', parameters: ioLimits });
      await calls.stage(testNode, 'v', 'ext4');
    },
    call: (testNode) =>
      calls.modify(testNode, 'v', { writeBytesPerSecond: 'max', readIops: 'max' }),
    check: (testNode) => requireLimited(testNode, undefined),
  },
];

const docker: readonly Operation[] = [
  {
    name: 'Docker creates',
    poolFs: 'directory',
    call: (testNode) => dockerCreate(testNode),
  },
  {
    name: 'Docker mounts',
    poolFs: 'directory',
    prepare: async (testNode) => {
      await dockerCreate(testNode);
    },
    call: (testNode) => dockerMount(testNode),
    check: (testNode) =>
      calls.writeSynced(testNode.pathOf('docker', calls.volumeIdOf('data')), 'file', fileText),
  },
  {
    name: 'Docker unmounts',
    poolFs: 'directory',
    prepare: async (testNode) => {
      await dockerCreate(testNode);
      await dockerMount(testNode);
    },
    call: (testNode) => testNode.docker('Unmount', { Name: 'data', ID: 'one' }),
  },
  {
    name: 'Docker removes',
    poolFs: 'directory',
    prepare: async (testNode) => {
      await dockerCreate(testNode);
    },
    // Docker forgets a volume when the driver answers that there is none.
    call: async (testNode) => {
      await testNode.docker('Remove', { Name: 'data' }).catch((error: unknown) => {
        if (!String(error).includes('there is no volume')) throw error;
      });
    },
  },
];

async function dockerCreate(testNode: TestNode): Promise<unknown> {
  testNode.recordUndo(() => calls.destroy(testNode, 'data'));
  return testNode.docker('Create', { Name: 'data', Opts: { size: '32Mi' } });
}

async function dockerMount(testNode: TestNode): Promise<unknown> {
  testNode.recordUndo(() => testNode.docker('Unmount', { Name: 'data', ID: 'one' }));
  return testNode.docker('Mount', { Name: 'data', ID: 'one' });
}

/** More bytes than a call copies itself on a pool that cannot share blocks. */
const longCopyBytes = 272n * MiB;

const snapshots: readonly Operation[] = [
  {
    name: 'snapshot of idle ext4, copied',
    poolFs: 'directory',
    prepare: (testNode) => idle(testNode, 'v', 'ext4'),
    call: (testNode) => calls.snapshot(testNode, 's', 'v'),
    check: async (testNode) => {
      await calls.create(testNode, 'r', { kind: 'ext4', snapshot: 's' });
      await requireCopied(testNode, 'r', 'ext4');
    },
  },
  {
    name: 'snapshot of idle block, copied for long',
    poolFs: 'directory',
    prepare: (testNode) => longBlock(testNode, 'v'),
    call: (testNode) => calls.snapshot(testNode, 's', 'v'),
  },
  {
    name: 'restore block, copied for long',
    poolFs: 'directory',
    prepare: async (testNode) => {
      await longBlock(testNode, 'v');
      await calls.snapshot(testNode, 's', 'v');
    },
    call: (testNode) =>
      calls.create(testNode, 'r', { kind: 'block', sizeBytes: longCopyBytes, snapshot: 's' }),
    check: async (testNode) => {
      await calls.stage(testNode, 'r', 'block');
      await requireBlock(testNode, 'r', longCopyBytes);
      await calls.unstage(testNode, 'r');
    },
  },
  {
    name: 'snapshot of staged ext4, copied while frozen',
    poolFs: 'directory',
    prepare: (testNode) => staged(testNode, 'v', 'ext4'),
    call: (testNode) => calls.snapshot(testNode, 's', 'v', { freeze: 'yes' }),
    check: async (testNode) => {
      await calls.writeSynced(await testNode.stagingPathOf('v'), 'later', fileText);
    },
  },
  ...(['xfs', 'btrfs'] as const).flatMap((poolFs) => [
    ...(poolFs === 'xfs' ? kinds : (['ext4', 'btrfs'] as const)).map(
      (kind): Operation => ({
        name: `snapshot of staged ${kind}`,
        poolFs,
        prepare: (testNode) => staged(testNode, 'v', kind),
        call: (testNode) => calls.snapshot(testNode, 's', 'v'),
      }),
    ),
    ...fileKinds.map(
      (kind): Operation => ({
        name: `restore ${kind} larger`,
        poolFs,
        prepare: async (testNode) => {
          await staged(testNode, 'v', kind);
          await calls.snapshot(testNode, 's', 'v');
        },
        call: (testNode) =>
          calls.create(testNode, 'r', { kind, snapshot: 's', sizeBytes: 2n * calls.sizes[kind] }),
        check: (testNode) => requireCopied(testNode, 'r', kind),
      }),
    ),
    ...fileKinds.map(
      (kind): Operation => ({
        name: `clone staged ${kind}`,
        poolFs,
        prepare: (testNode) => staged(testNode, 'v', kind),
        call: (testNode) => calls.create(testNode, 'c', { kind, volume: 'v' }),
        check: (testNode) => requireCopied(testNode, 'c', kind),
      }),
    ),
  ]),
  {
    name: 'clone staged block',
    poolFs: 'xfs',
    prepare: (testNode) => staged(testNode, 'v', 'block'),
    call: (testNode) => calls.create(testNode, 'c', { kind: 'block', volume: 'v' }),
  },
  {
    name: 'stage a block clone of staged xfs as a filesystem',
    poolFs: 'xfs',
    prepare: async (testNode) => {
      await staged(testNode, 'v', 'xfs');
      await calls.create(testNode, 'b', { kind: 'block', volume: 'v', sizeBytes: calls.sizes.xfs });
    },
    call: (testNode) => calls.stage(testNode, 'b', 'xfs'),
    check: async (testNode) => {
      await requireFile(testNode, 'b');
      await requireFile(testNode, 'v');
    },
  },
  {
    name: 'clone a block clone of staged ext4 as a filesystem',
    poolFs: 'xfs',
    prepare: async (testNode) => {
      await staged(testNode, 'v', 'ext4');
      await calls.create(testNode, 'b', {
        kind: 'block',
        volume: 'v',
        sizeBytes: calls.sizes.ext4,
      });
    },
    call: (testNode) => calls.create(testNode, 'c', { kind: 'ext4', volume: 'b' }),
    check: (testNode) => requireCopied(testNode, 'c', 'ext4'),
  },
  {
    name: 'delete snapshot',
    poolFs: 'xfs',
    prepare: async (testNode) => {
      await staged(testNode, 'v', 'ext4');
      await calls.snapshot(testNode, 's', 'v');
    },
    call: (testNode) => calls.deleteSnapshot(testNode, 's'),
    check: (testNode) => requireFile(testNode, 'v'),
  },
  {
    name: 'group snapshot of two staged volumes',
    poolFs: 'xfs',
    prepare: async (testNode) => {
      await staged(testNode, 'v', 'ext4');
      await staged(testNode, 'w', 'xfs');
    },
    call: (testNode) => calls.groupSnapshot(testNode, 'g', ['v', 'w']),
  },
  {
    name: 'delete group snapshot',
    poolFs: 'xfs',
    prepare: async (testNode) => {
      await staged(testNode, 'v', 'ext4');
      await idle(testNode, 'w', 'ext4');
      await calls.groupSnapshot(testNode, 'g', ['v', 'w']);
    },
    call: (testNode) => calls.deleteGroup(testNode, 'g', ['v', 'w']),
  },
];

/** The directory or image of other software that is imported. */
async function sourceOf(testNode: TestNode): Promise<string> {
  const source = testNode.pathOf('source');
  await mkdir(source, { recursive: true });
  await writeFile(join(source, 'file'), fileText);
  return source;
}

async function ext4Image(testNode: TestNode): Promise<string> {
  const image = testNode.pathOf('image');
  await rm(image, { force: true });
  await execa('mkfs.ext4', ['-q', '-F', '-d', await sourceOf(testNode), image, '32M']);
  return image;
}

const importing: readonly Operation[] = [
  {
    name: 'import a directory',
    poolFs: 'directory',
    prepare: async (testNode) => {
      await sourceOf(testNode);
    },
    call: (testNode) => calls.importPath(testNode, 'v', { path: testNode.pathOf('source') }),
    check: (testNode) => requireCopied(testNode, 'v', 'ext4'),
  },
  {
    name: 'import an ext4 image',
    poolFs: 'xfs',
    prepare: async (testNode) => {
      await ext4Image(testNode);
    },
    call: (testNode) => calls.importPath(testNode, 'v', { path: testNode.pathOf('image') }),
    check: (testNode) => requireCopied(testNode, 'v', 'ext4'),
  },
  {
    name: 'import a block image, copied for long',
    poolFs: 'directory',
    prepare: async (testNode) => {
      const image = await open(testNode.pathOf('image'), 'w');
      const chunk = Buffer.alloc(Number(4n * MiB), 'loopcsi');
      for (let at = 0n; at < longCopyBytes; at += 4n * MiB) await image.write(chunk);
      await image.close();
    },
    call: (testNode) =>
      calls.importPath(testNode, 'v', { path: testNode.pathOf('image'), kind: 'block' }),
    check: async (testNode) => {
      await calls.stage(testNode, 'v', 'block');
      await requireBlock(testNode, 'v', longCopyBytes);
      await calls.unstage(testNode, 'v');
    },
  },
  {
    name: 'import a stream',
    poolFs: 'directory',
    prepare: async (testNode) => {
      await ext4Image(testNode);
    },
    call: (testNode) => calls.importStream(testNode, 'v', testNode.pathOf('image')),
    check: (testNode) => requireCopied(testNode, 'v', 'ext4'),
  },
];

const starting: readonly Operation[] = [
  {
    name: 'start with a lost inline ephemeral volume',
    poolFs: 'directory',
    prepare: async (testNode) => {
      await calls.publishInline(testNode, 'inline');
      await execa('umount', [calls.targetOf(testNode, 'inline')]);
      await rm(calls.targetOf(testNode, 'inline'), { recursive: true });
    },
    call: (testNode) => testNode.stopAndStart(),
  },
  {
    name: 'first start in an empty directory',
    poolFs: 'directory',
    prepare: (testNode) => testNode.stopAndForget(),
    call: (testNode) => testNode.stopAndStart(),
  },
  {
    name: 'first start with an embedded pool',
    poolFs: 'directory',
    flags: (directory) => [
      `--pool=default=${join(directory, 'pool')},create,overcommit=20`,
      `--pool=embedded=${join(directory, 'embedded')},create,reflink=320Mi`,
    ],
    prepare: async (testNode) => {
      await testNode.stopAndForget();
      await testNode.dropEmbedded();
    },
    call: (testNode) => testNode.stopAndStart(),
    check: async (testNode) => {
      const { pools } = await testNode.admin.ListPools({});
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
    prepare: async (testNode) => {
      await testNode.stopAndForget();
      await testNode.startAs('another-node');
      const volume_id = (
        await testNode.controller.CreateVolume({
          name: 'v',
          capacity_range: { required_bytes: 32n * MiB },
          volume_capabilities: [calls.capabilityFor('ext4')],
        })
      ).volume?.volume_id;
      if (volume_id === calls.volumeIdOf('v')) throw new Error('the node has the same tag');
      testNode.recordUndo(() => calls.destroy(testNode, 'v'));
      await testNode.stopAndStart();
    },
    call: async (testNode) => {
      const { pool } = await testNode.admin.AdoptPool({ name: 'default' });
      return pool?.name;
    },
    check: async (testNode) => {
      await calls.stage(testNode, 'v', 'ext4');
      await calls.unstage(testNode, 'v');
    },
  },
];

/** Enough that the progress is recorded on the way. */
const sentBytes = 144n * MiB;

/** Copies between the node of the matrix, which is killed, and a peer. */
const copying: readonly Operation[] = [
  {
    name: 'receive a snapshot of another node',
    poolFs: 'directory',
    hasPeer: true,
    prepare: async (testNode) => {
      const peer = await peerOf(testNode);
      await peer.filledBlock('v', sentBytes);
      await peer.snapshot('s', 'v');
    },
    call: async (testNode) => (await peerOf(testNode)).receive('r', { snapshot: 's' }),
    check: async (testNode) => (await peerOf(testNode)).requireReceived('r', { snapshot: 's' }),
  },
  {
    name: 'receive a larger clone of a staged volume of another node',
    poolFs: 'xfs',
    hasPeer: true,
    prepare: async (testNode) => {
      await (await peerOf(testNode)).stagedExt4('v', fileText);
    },
    call: async (testNode) =>
      (await peerOf(testNode)).receive('c', { volume: 'v', sizeBytes: 2n * calls.sizes.ext4 }),
    check: (testNode) => requireCopied(testNode, 'c', 'ext4'),
  },
  {
    name: 'send a snapshot to another node',
    poolFs: 'directory',
    hasPeer: true,
    prepare: async (testNode) => {
      await peerOf(testNode);
      await filledBlock(testNode, 'v', sentBytes);
      await calls.snapshot(testNode, 's', 'v');
    },
    call: async (testNode) => (await peerOf(testNode)).take('r', { snapshot: 's' }),
    check: async (testNode) => (await peerOf(testNode)).requireTaken('r', { snapshot: 's' }),
  },
  {
    name: 'send an idle volume to another node',
    poolFs: 'directory',
    hasPeer: true,
    prepare: async (testNode) => {
      await peerOf(testNode);
      await filledBlock(testNode, 'v', sentBytes);
    },
    call: async (testNode) => (await peerOf(testNode)).take('r', { volume: 'v' }),
    check: async (testNode) => {
      await (await peerOf(testNode)).requireTaken('r', { volume: 'v' });
      // It is not locked any more.
      await calls.stage(testNode, 'v', 'block');
      await calls.unstage(testNode, 'v');
    },
  },
  {
    name: 'send a clone of a staged volume to another node',
    poolFs: 'xfs',
    hasPeer: true,
    prepare: async (testNode) => {
      await peerOf(testNode);
      await staged(testNode, 'v', 'ext4');
    },
    call: async (testNode) => (await peerOf(testNode)).take('c', { volume: 'v' }),
    check: async (testNode) => (await peerOf(testNode)).requireFile('c', fileText),
  },
];

/** Group snapshots of a volume of the node of the matrix, which is killed, and one of a peer. */
const grouping: readonly Operation[] = (
  [
    ['with the record', 'a'],
    ['without the record', 'z'],
  ] as const
).flatMap(([role, own]) => {
  const members = { own, peer: 'v' } as const;
  const prepare = async (testNode: TestNode): Promise<void> => {
    await staged(testNode, own, 'ext4');
    await (await peerOf(testNode)).stagedExt4('v', fileText);
  };
  const check = (testNode: TestNode): Promise<void> => requireFile(testNode, own);
  return [
    {
      name: `group snapshot over two nodes, on the node ${role}`,
      poolFs: 'xfs',
      hasPeer: true,
      prepare,
      call: async (testNode) => (await peerOf(testNode)).takeGroup('g', members),
      check,
    },
    {
      name: `delete a group snapshot over two nodes, on the node ${role}`,
      poolFs: 'xfs',
      hasPeer: true,
      prepare: async (testNode) => {
        await prepare(testNode);
        await (await peerOf(testNode)).takeGroup('g', members);
      },
      call: async (testNode) => (await peerOf(testNode)).deleteGroup('g', members),
      check,
    },
  ];
});

export const operations: readonly Operation[] = [
  ...creating,
  ...staging,
  ...publishing,
  ...growing,
  ...limiting,
  ...docker,
  ...snapshots,
  ...importing,
  ...copying,
  ...grouping,
  ...starting,
];
