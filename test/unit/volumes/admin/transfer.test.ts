import {
  mkdir,
  readdir,
  readFile,
  rename,
  stat,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { VolumeError } from '../../../../src/errors.ts';
import { CommandError, KernelError } from '../../../../src/host/errors.ts';
import { KiB, MiB } from '../../../../src/units.ts';
import type { ExportInput } from '../../../../src/volumes/admin/transfer/export.ts';
import type {
  PathImportInput,
  StreamImportInput,
} from '../../../../src/volumes/admin/transfer/import-draft.ts';
import type { ImageChunks } from '../../../../src/volumes/admin/transfer/import-stream.ts';
import { volumeLock } from '../../../../src/volumes/engine/locks.ts';
import { claimParameters } from '../../../../src/volumes/owner.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { changeFakeSuperblock } from '../../../helpers/fake-superblock.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, capability, plainSettings, volumeInput } from '../../../helpers/scratch-node.ts';
import { until } from '../../../helpers/until.ts';

const base = {
  name: 'v',
  sizeBytes: 0n,
  fsType: undefined,
  block: false,
  keepsUuid: false,
  parameters: {},
} as const;

async function transferNode(t: ExecutionContext, options: { reflink?: boolean } = {}) {
  const node = await fakeNode(t, options);
  const { administration, volumes, domain } = await node.open([node.settings('a')]);
  const pool = domain.pools.named('a');
  const source = join(node.directory, 'source');
  const importPath = (path: string, input: Partial<PathImportInput> = {}) =>
    administration.importVolume(call(), { ...base, path, isDryRun: false, ...input });
  const importStream = (chunks: ImageChunks, input: Partial<StreamImportInput> = {}) =>
    administration.importStream(call(), { ...base, imageBytes: 16n * MiB, ...input }, chunks);
  const exportAll = async (input: Partial<ExportInput> = {}) => {
    const all = { kind: 'volume', idOrName: 'v', startingOffset: 0n, expectedState: '' } as const;
    const steps = [];
    for await (const step of administration.exportImage(call(), { ...all, ...input }))
      steps.push(step);
    const [first] = steps;
    if (first === undefined || !('start' in first)) throw new Error('no start');
    return { start: first.start, data: steps.flatMap((step) => ('data' in step ? [step] : [])) };
  };
  /** An image of another volume, as other software would leave it. */
  const makeImage = async (name = 'image') => {
    const input = volumeInput(`of-${name}`, { sizeBytes: 16n * MiB });
    const { record } = await volumes.createVolume(call(), input);
    const image = join(node.directory, name);
    await rename(pool.imagePathOf('volumes', record.id), image);
    await domain.trash.whenIdle();
    await writeFile(pool.imagePathOf('volumes', record.id), '');
    return { image, uuid: record.fsUuid };
  };
  const nothingIsLeft = async () => {
    t.deepEqual(await readdir(pool.directoryOf('tmp')), []);
    t.is(await reasonOf(administration.getVolume('v')), 'not-found');
    const { promisedBytes } = await pool.space.facts();
    t.is(
      promisedBytes,
      [...pool.volumes.values()].reduce((sum, one) => sum + one.sizeBytes, 0n),
    );
  };
  await mkdir(join(source, 'sub'), { recursive: true });
  await writeFile(join(source, 'sub', 'file'), Buffer.alloc(Number(3n * MiB), 1));
  const parts = { node, administration, volumes, domain, pool, source };
  return { ...parts, importPath, importStream, exportAll, makeImage, nothingIsLeft };
}

test('a directory becomes a volume of its size with headroom, and a repeated import finds it', async (t) => {
  const { importPath, source, node } = await transferNode(t);
  const imported = await importPath(source);
  t.like(imported, { existed: false, isDirectory: true, fsType: 'ext4', entries: 3n });
  t.true(imported.dataBytes >= 3n * MiB && imported.dataBytes < 4n * MiB);
  t.true(imported.sizeBytes >= 67n * MiB && imported.sizeBytes % MiB === 0n);
  t.true(node.host.calls.includes('trees.findDifference'));
  t.like(await importPath(source), { existed: true, volumeId: imported.volumeId });
});

test('a dry run says the size and changes nothing', async (t) => {
  const { importPath, source, makeImage, nothingIsLeft } = await transferNode(t);
  t.like(await importPath(source, { isDryRun: true }), { volumeId: undefined, isDirectory: true });
  const { image } = await makeImage();
  const dry = await importPath(image, { isDryRun: true });
  t.like(dry, { volumeId: undefined, fsType: 'ext4', sizeBytes: 16n * MiB });
  await nothingIsLeft();
});

test('an image becomes a volume with a UUID of its own, or the same one if that is asked', async (t) => {
  const { importPath, makeImage } = await transferNode(t);
  const { image, uuid } = await makeImage();
  const imported = await importPath(image);
  t.like(imported, { existed: false, isDirectory: false, fsType: 'ext4', sizeBytes: 16n * MiB });
  t.not(imported.facts?.record.fsUuid, uuid);
  const kept = await importPath(image, { name: 'kept', keepsUuid: true, sizeBytes: 32n * MiB });
  t.is(kept.facts?.record.fsUuid, uuid);
  t.is(kept.sizeBytes, 32n * MiB);
  const block = await importPath(image, { name: 'block', block: true });
  t.like(block.facts?.record, { kind: 'block', fsType: null, sectorSize: 512 });
  t.like(await importPath(image), { existed: true });
});

test('an image that changed after its import is not taken for the imported one', async (t) => {
  const { importPath, makeImage } = await transferNode(t);
  const { image } = await makeImage();
  await importPath(image);
  await truncate(image, Number(17n * MiB));
  t.is(await reasonOf(importPath(image)), 'conflict');
});

test('a directory that changed after its import is not taken for the imported one', async (t) => {
  const { importPath, source } = await transferNode(t);
  await importPath(source);
  await writeFile(join(source, 'sub', 'file'), Buffer.alloc(Number(3n * MiB), 2));
  const error = await t.throwsAsync(importPath(source), { instanceOf: VolumeError });
  t.is(error.reason, 'conflict');
  t.regex(error.message, /source, which has changed since.*older data; .*delete the volume/);
});

test('a repeated import compares its source without the lock of the volume, and looks the volume up again', async (t) => {
  const { importPath, source, node, volumes, domain } = await transferNode(t);
  const { volumeId = '' } = await importPath(source);
  const walks: (() => void)[] = [];
  const { trees } = node.host;
  const measure = trees.measure.bind(trees);
  trees.measure = async (...args) => {
    await new Promise<void>((resolve) => walks.push(resolve));
    return measure(...args);
  };
  const repeated = importPath(source);
  await until('the source is being compared', () => walks.length === 1);
  const joined = importPath(source);
  const isUnlocked = () => domain.operations.locks.lockedBy(volumeLock(volumeId)) === undefined;
  await until('an equal call waits for the comparison', isUnlocked);
  t.is(await reasonOf(volumes.deleteVolume(call(), volumeId)), 'ok');
  walks[0]?.();
  await until('the deleted volume is imported again', () => walks.length === 2);
  walks[1]?.();
  t.like(await repeated, { existed: false, volumeId });
  t.like(await joined, { existed: false, volumeId });
});

test('an import of a source that is gone, or that was remounted, is repeated with success', async (t) => {
  const { importPath, source, makeImage, node } = await transferNode(t);
  await importPath(source);
  await rename(source, `${source}-moved`);
  t.like(await importPath(source), { existed: true });
  const { image } = await makeImage();
  await importPath(image, { name: 'w' });
  const status = node.host.files.status.bind(node.host.files);
  node.host.files.status = async (path) => {
    const found = await status(path);
    return path === image ? { ...found, device: found.device + 1n } : found;
  };
  t.like(await importPath(image, { name: 'w' }), { existed: true });
});

for (const [difference, input] of [
  ['keep-uuid is false, not true', { keepsUuid: true }],
  ['provisioning is thin, not thick', { parameters: { provisioning: 'thick' } }],
  ['sectorSize is 4096, not 512', { parameters: { sectorSize: '512' } }],
  ['pool is a, not b', { parameters: { pool: 'b' } }],
  ['filesystem is ext4, not xfs', { fsType: 'xfs' }],
  ['kind is mount, not block', { block: true }],
  ['size is 16 MiB, not 1 GiB or more', { sizeBytes: 1024n * MiB }],
  [
    'owner is none, not claim shop/data',
    { parameters: claimParameters({ namespace: 'shop', name: 'data' }) },
  ],
] as const) {
  test(`a repeated import with other arguments is a conflict: ${difference}`, async (t) => {
    const { importPath, makeImage } = await transferNode(t);
    const { image } = await makeImage();
    await importPath(image);
    const error = await t.throwsAsync(importPath(image, input), { instanceOf: VolumeError });
    t.is(error.reason, 'conflict');
    t.true(error.message.includes(difference), error.message);
  });
}

type Node = Awaited<ReturnType<typeof transferNode>>;

const refusals: readonly {
  readonly name: string;
  readonly reason: string;
  readonly message: RegExp;
  readonly work: (node: Node) => Promise<unknown>;
}[] = [
  {
    name: 'a path that the driver cannot see',
    reason: 'not-found',
    message: /cannot see \/nowhere.*container/,
    work: ({ importPath }) => importPath('/nowhere'),
  },
  {
    name: 'a symlink',
    reason: 'invalid',
    message: /neither a directory nor a regular file/,
    work: async ({ importPath, node, source }) => {
      await symlink(source, join(node.directory, 'link'));
      await importPath(join(node.directory, 'link'));
    },
  },
  {
    name: 'a directory in a pool',
    reason: 'invalid',
    message: /is in pool 'a'/,
    work: ({ importPath, pool }) => importPath(join(pool.root, 'volumes')),
  },
  {
    name: 'a directory that contains a pool',
    reason: 'invalid',
    message: /contains pool 'a'/,
    work: ({ importPath, node }) => importPath(node.directory),
  },
  {
    name: 'a directory with block or keep-uuid',
    reason: 'invalid',
    message: /is a directory/,
    work: ({ importPath, source }) => importPath(source, { keepsUuid: true }),
  },
  {
    name: 'a directory larger than the requested size',
    reason: 'out-of-range',
    message:
      /2 MiB is too small for .*, which contains 3 MiB in 3 files and directories; request \d/,
    work: ({ importPath, source }) => importPath(source, { sizeBytes: 2n * MiB }),
  },
  {
    name: 'a directory that changed while it was copied',
    reason: 'wrong-state',
    message: /differ.*source\/sub\/file: its content differs; stop the application/,
    work: async ({ importPath, source, node }) => {
      node.host.trees.findDifference = async () => `${source}/sub/file: its content differs`;
      await importPath(source);
    },
  },
  {
    name: 'a directory that cp cannot copy',
    reason: 'wrong-state',
    message: /could not be copied completely: cp exited/,
    work: async ({ importPath, source, node }) => {
      const failure = new CommandError('setpriv', { message: 'cp exited with code 1' });
      node.host.failNext('trees.copyIntoImage', failure);
      await importPath(source);
    },
  },
  {
    name: 'a directory whose files do not fit',
    reason: 'out-of-range',
    message: /do not fit into .*; request a larger size/,
    work: async ({ importPath, source, node }) => {
      node.host.failNext('trees.copyIntoImage', new KernelError('cp', 'ENOSPC', source));
      await importPath(source);
    },
  },
  {
    name: 'a directory with another filesystem in it',
    reason: 'invalid',
    message: /mounted at \/somewhere/,
    work: async ({ importPath, source, node }) => {
      node.host.failNext('trees.measure', new KernelError('copy', 'EXDEV', '/somewhere'));
      await importPath(source);
    },
  },
  {
    name: 'an image without a filesystem',
    reason: 'invalid',
    message: /no ext4, xfs or btrfs.*--block/,
    work: async ({ importPath, node }) => {
      const image = join(node.directory, 'empty');
      await writeFile(image, '');
      await truncate(image, Number(MiB));
      await importPath(image);
    },
  },
  {
    name: 'an image with another filesystem than requested',
    reason: 'invalid',
    message: /contains ext4, not xfs/,
    work: async ({ importPath, makeImage }) =>
      importPath((await makeImage()).image, { fsType: 'xfs' }),
  },
  {
    name: 'a truncated image',
    reason: 'wrong-state',
    message: /was truncated: it has 8 MiB .*16 MiB/,
    work: async ({ importPath, makeImage }) => {
      const { image } = await makeImage();
      await truncate(image, Number(8n * MiB));
      await importPath(image);
    },
  },
  {
    name: 'an image with errors',
    reason: 'wrong-state',
    message: /has errors.*e2fsck -f/,
    work: async ({ importPath, makeImage }) => {
      const { image } = await makeImage();
      await changeFakeSuperblock(image, { state: 'has-errors' });
      await importPath(image);
    },
  },
  {
    name: 'an image that is attached',
    reason: 'wrong-state',
    message: /attached to \/dev\/loop\d+; stop its pods/,
    work: async ({ importPath, makeImage, node }) => {
      const { image } = await makeImage();
      const options = { sectorSize: 512, readOnly: false, directIo: true, discard: true } as const;
      await node.host.loops.attach(image, { ...options, label: 'other' });
      await importPath(image);
    },
  },
  {
    name: 'an image that changed while it was copied',
    reason: 'wrong-state',
    message: /changed while it was copied/,
    work: async ({ importPath, makeImage, node }) => {
      const { image } = await makeImage();
      const copies = { ...node.host.copies };
      node.host.copies.copySparse = async (from, to, options) => {
        await copies.copySparse(from, to, options);
        await truncate(image, Number(17n * MiB));
      };
      await importPath(image);
    },
  },
  {
    name: 'a size below that of the image',
    reason: 'out-of-range',
    message: /8 MiB is less than the 16 MiB/,
    work: async ({ importPath, makeImage }) =>
      importPath((await makeImage()).image, { sizeBytes: 8n * MiB }),
  },
  {
    name: 'an unknown parameter',
    reason: 'invalid',
    message: /colour/,
    work: ({ importPath, source }) => importPath(source, { parameters: { colour: 'red' } }),
  },
];
for (const { name, reason, message, work } of refusals) {
  test(`an import is refused without effect: ${name}`, async (t) => {
    const node = await transferNode(t);
    const error = await t.throwsAsync(work(node), { instanceOf: VolumeError });
    t.is(error.reason, reason as VolumeError['reason']);
    t.regex(error.message, message);
    await node.nothingIsLeft();
  });
}

test('another volume of the name is a conflict', async (t) => {
  const { importPath, volumes, source } = await transferNode(t);
  await volumes.createVolume(call(), volumeInput('v', { sizeBytes: 128n * MiB }));
  t.is(await reasonOf(importPath(source)), 'conflict');
});

test('a delete of the name ends an import in progress, and nothing is left', async (t) => {
  const { importPath, volumes, source, node, administration, nothingIsLeft } =
    await transferNode(t);
  t.is(administration.volumeBeingCreated('v'), undefined);
  let begun = (): void => undefined;
  const copying = new Promise<void>((resolve) => {
    begun = resolve;
  });
  node.host.trees.copyIntoImage = async (_image, { signal }) => {
    begun();
    await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
    throw new CommandError('setpriv', { message: 'setpriv was cancelled' });
  };
  const importing = reasonOf(importPath(source));
  await copying;
  const id = administration.volumeBeingCreated('v') ?? '';
  t.is(await reasonOf(volumes.deleteVolume(call(), id)), 'busy');
  t.is(await importing, 'cancelled');
  await nothingIsLeft();
});

async function* chunksOf(
  ...steps: readonly ({ offset: bigint; data: Buffer } | bigint)[]
): ImageChunks {
  for (const step of steps) yield typeof step === 'bigint' ? { endBytes: step } : step;
}

const block = { block: true } as const;
const data = (offset: bigint, fill = 7) => ({
  offset,
  data: Buffer.alloc(Number(64n * KiB), fill),
});

test('a stream becomes the image of a block volume, zeros included', async (t) => {
  const { importStream, pool } = await transferNode(t);
  const chunks = chunksOf(data(MiB), data(8n * MiB, 9), 16n * MiB);
  const { volumeId, dataBytes } = await importStream(chunks, block);
  t.is(dataBytes, 128n * KiB);
  if (volumeId === undefined) throw new Error('no volume');
  const image = await readFile(pool.imagePathOf('volumes', volumeId));
  t.is(BigInt(image.length), 16n * MiB);
  t.is(image[Number(MiB)], 7);
  t.is(image[Number(8n * MiB)], 9);
  t.is(
    image.reduce((sum, byte) => sum + (byte === 0 ? 0 : 1), 0),
    Number(128n * KiB),
  );
  t.is(await reasonOf(importStream(chunksOf(16n * MiB), block)), 'conflict');
});

for (const [name, reason, make] of [
  ['that ends early', 'invalid', () => chunksOf(data(0n))],
  ['with another length', 'invalid', () => chunksOf(data(0n), 8n * MiB)],
  ['beyond its size', 'invalid', () => chunksOf(data(16n * MiB), 16n * MiB)],
  ['out of order', 'invalid', () => chunksOf(data(MiB), data(0n), 16n * MiB)],
  [
    'whose caller disconnects',
    'cancelled',
    async function* (): ImageChunks {
      yield data(0n);
      throw new VolumeError('cancelled', 'the caller has disconnected');
    },
  ],
] as const) {
  test(`a stream ${name} leaves nothing`, async (t) => {
    const { importStream, nothingIsLeft } = await transferNode(t);
    t.is(await reasonOf(importStream(make(), block)), reason);
    await nothingIsLeft();
  });
}

test('a delete of the name ends an import whose stream has stalled', async (t) => {
  const { importStream, volumes, administration, nothingIsLeft } = await transferNode(t);
  let begun = (): void => undefined;
  const waiting = new Promise<void>((resolve) => {
    begun = resolve;
  });
  const importing = reasonOf(
    importStream(
      (async function* (): ImageChunks {
        yield data(0n);
        begun();
        await new Promise(() => undefined);
      })(),
      block,
    ),
  );
  await waiting;
  const id = administration.volumeBeingCreated('v') ?? '';
  t.is(await reasonOf(volumes.deleteVolume(call(), id)), 'busy');
  t.is(await importing, 'cancelled');
  await nothingIsLeft();
});

async function blockVolume(node: Node) {
  const input = volumeInput('v', { kind: 'block', sizeBytes: 4n * MiB });
  const { record } = await node.volumes.createVolume(call(), input);
  const image = node.pool.imagePathOf('volumes', record.id);
  const content = Buffer.alloc(Number(4n * MiB));
  content.fill(5, Number(2n * MiB), Number(3n * MiB));
  await writeFile(image, content);
  return record.id;
}

test('an export is what the image contains, and can be continued while the data is unchanged', async (t) => {
  const node = await transferNode(t);
  const id = await blockVolume(node);
  const image = node.pool.imagePathOf('volumes', id);
  const { start, data } = await node.exportAll();
  t.like(start, { name: 'v', sizeBytes: 4n * MiB, fsType: null });
  const written = Buffer.alloc(Number(4n * MiB));
  for (const { offset, data: bytes } of data) written.set(bytes, Number(offset));
  t.true(written.equals(await readFile(image)));
  const rest = { startingOffset: 2n * MiB, expectedState: start.state };
  t.true((await node.exportAll(rest)).data.every(({ offset }) => offset >= 2n * MiB));
  await writeFile(image, Buffer.alloc(Number(4n * MiB), 1));
  t.is(await reasonOf(node.exportAll(rest)), 'wrong-state');
  t.is(await reasonOf(node.exportAll({ startingOffset: 5n * MiB })), 'out-of-range');
  t.is(await reasonOf(node.exportAll({ idOrName: 'nothing' })), 'not-found');
});

test('an idle volume is locked while it is exported from a pool that cannot share blocks', async (t) => {
  const node = await transferNode(t);
  const id = await blockVolume(node);
  const all = { kind: 'volume', idOrName: 'v', startingOffset: 0n, expectedState: '' } as const;
  const steps = node.administration.exportImage(call(), all)[Symbol.asyncIterator]();
  await steps.next();
  t.is(await reasonOf(node.volumes.deleteVolume(call(), id)), 'busy');
  await steps.return?.();
  t.is(await reasonOf(node.volumes.deleteVolume(call(), id)), 'ok');
});

test('the state of an export is the same after the pool got another device number', async (t) => {
  const node = await transferNode(t);
  const image = node.pool.imagePathOf('volumes', await blockVolume(node));
  const { start } = await node.exportAll();
  const { files } = node.node.host;
  const status = files.status.bind(files);
  files.status = async (path) => {
    const found = await status(path);
    return path === image ? { ...found, device: found.device + 1n } : found;
  };
  t.is((await node.exportAll()).start.state, start.state);
});

test('an inline volume is locked by the id of its calls while it is captured', async (t) => {
  const node = await transferNode(t, { reflink: true });
  const volumeId = 'csi-of-a-pod';
  await node.volumes.publishVolume(call(), {
    volumeId,
    stagingTargetPath: '',
    targetPath: join(node.node.directory, 'target'),
    capability: capability(),
    readOnly: false,
    ephemeral: { sizeBytes: 16n * MiB, settings: plainSettings },
  });
  const { copies } = node.node.host;
  const reflink = copies.reflink.bind(copies);
  const locked: unknown[] = [];
  copies.reflink = (from, to) => {
    locked.push(node.domain.operations.locks.lockedBy(volumeLock(volumeId)));
    return reflink(from, to);
  };
  await node.exportAll({ idOrName: volumeId });
  t.deepEqual(locked, ['ExportImage']);
});

for (const reflink of [true, false]) {
  test(`a mounted volume is ${reflink ? 'captured and stays usable' : 'refused with advice'} with reflink ${String(reflink)}`, async (t) => {
    const node = await transferNode(t, { reflink });
    const { record } = await node.volumes.createVolume(
      call(),
      volumeInput('v', { sizeBytes: 16n * MiB }),
    );
    const stagingTargetPath = join(node.node.directory, 'staging');
    await mkdir(stagingTargetPath);
    const asked = { volumeId: record.id, stagingTargetPath, capability: capability({}) };
    await node.volumes.stageVolume(call(), asked);
    if (!reflink) {
      const error = await t.throwsAsync(node.exportAll(), { instanceOf: VolumeError });
      t.is(error.reason, 'wrong-state');
      t.is(error.message.match(/volume '/g)?.length, 1, error.message);
      return;
    }
    const all = { kind: 'volume', idOrName: 'v', startingOffset: 0n, expectedState: '' } as const;
    const steps = node.administration.exportImage(call(), all)[Symbol.asyncIterator]();
    const first = await steps.next();
    t.like(first.value, { start: { state: '', sizeBytes: 16n * MiB } });
    const isEffect = (one: string): boolean => /freeze|reflink/.test(one);
    t.true(node.node.host.calls.some(isEffect));
    const before = node.node.host.calls.length;
    t.is(await reasonOf(node.exportAll({ expectedState: 'of an idle volume' })), 'wrong-state');
    const effects = node.node.host.calls.slice(before).filter(isEffect);
    t.deepEqual(effects, [], 'a refused export has no effect');
    t.is((await readdir(node.pool.directoryOf('tmp'))).length, 1);
    const unstage = { volumeId: record.id, stagingTargetPath };
    t.is(await reasonOf(node.volumes.unstageVolume(call(), unstage)), 'ok');
    await steps.return?.();
    t.deepEqual(await readdir(node.pool.directoryOf('tmp')), []);
  });
}

test('the size of a directory counts hard links once and holes not at all', async (t) => {
  const { node, source } = await transferNode(t);
  await writeFile(join(source, 'sparse'), 'x');
  await truncate(join(source, 'sparse'), Number(512n * MiB));
  const { signal } = new AbortController();
  const { dataBytes, entries } = await node.host.trees.measure(source, signal);
  t.is(entries, 4n);
  t.true(dataBytes < 4n * MiB, String(dataBytes));
  t.is((await stat(join(source, 'sparse'))).size, Number(512n * MiB));
});
