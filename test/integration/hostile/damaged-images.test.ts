import { createHash, randomBytes } from 'node:crypto';
import { open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { VolumeError } from '../../../src/errors.ts';
import { fsTypes } from '../../../src/host/host.ts';
import { MiB } from '../../../src/units.ts';
import { makeRandom, type Random } from '../../crash/random.ts';
import { onNode } from '../../helpers/on-node.ts';
import {
  call,
  mountVolume,
  type ScratchNode,
  scratchNode,
  unmountVolume,
  volumeInput,
} from '../../helpers/scratch-node.ts';

const seed = Number(process.env['LOOPCSI_FUZZ_SEED'] ?? Math.floor(Date.now() / 86_400_000));
const rounds = Number(process.env['LOOPCSI_FUZZ_RUNS'] ?? 6);
const sizes = { ext4: 32n * MiB, xfs: 300n * MiB, btrfs: 128n * MiB } as const;

/** Flips bits in the image: in the first 64 KiB, where superblocks are, or in allocated blocks. */
async function damage(path: string, random: Random): Promise<void> {
  const { stdout } = await execa('filefrag', ['-b4096', '-e', path], { reject: false });
  const blocks = [...stdout.matchAll(/^\s*\d+:\s*(\d+)\.\.\s*(\d+):/gm)].map(([, from, to]) => ({
    from: Number(from),
    count: Number(to) - Number(from) + 1,
  }));
  const handle = await open(path, 'r+');
  try {
    for (let flips = 1 + random.below(8); flips > 0; flips -= 1) {
      const extent = blocks[random.below(blocks.length)];
      const inSuperblock = random.below(3) === 0 || extent === undefined;
      const at = inSuperblock
        ? random.below(72 * 1024)
        : (extent.from + random.below(extent.count)) * 4096 + random.below(4096);
      const byte = Buffer.alloc(1);
      await handle.read(byte, 0, 1, at);
      byte.writeUInt8(byte.readUInt8(0) ^ (1 << random.below(8)));
      await handle.write(byte, 0, 1, at);
    }
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function made(node: ScratchNode, name: string, fsType: (typeof fsTypes)[number]) {
  const input = volumeInput(name, { fsType, sizeBytes: sizes[fsType] });
  const { record } = await node.volumes.createVolume(call(), input);
  const paths = await mountVolume(node, record.id);
  const bytes = randomBytes(2_000_000);
  await writeFile(join(paths.targetPath, 'file'), bytes, { flush: true });
  return { id: record.id, paths, hash: createHash('sha256').update(bytes).digest('hex') };
}

for (const fsType of fsTypes) {
  onNode(
    `${fsType} with flipped bits is refused or served, and another volume is not affected`,
    async (t) => {
      t.timeout(5 * 60_000);
      t.log(`seed ${seed}`);
      const random = makeRandom(seed);
      const node = await scratchNode(t);
      const neighbour = await made(node, 'neighbour', fsType);
      const outcomes = new Map<string, number>();
      for (let round = 0; round < rounds; round += 1) {
        const { id, paths } = await made(node, `victim-${round}`, fsType);
        const image = join(node.poolPath, 'volumes', id, 'disk.img');
        // Every second image is as after a power failure: with a journal or log that the mount replays.
        const isCrashed = round % 2 === 1;
        const crashImage = node.pathOf(`crash-${round}.img`);
        if (isCrashed) await execa('cp', ['--sparse=always', image, crashImage]);
        await unmountVolume(node, id, paths);
        if (isCrashed) await execa('cp', ['--sparse=always', crashImage, image]);
        await damage(image, random);
        const outcome = await mountVolume(node, id).then(
          async () => {
            // Reads of files may fail; unpublish and unstage must succeed.
            const read = await readFile(join(paths.targetPath, 'file')).then(
              () => 'served',
              () => 'served, reading fails',
            );
            await unmountVolume(node, id, paths);
            return read;
          },
          (error: unknown) => {
            if (!(error instanceof VolumeError)) return `no reason: ${String(error)}`;
            return error.reason === 'wrong-state' ? 'refused' : `${error.reason}: ${error.message}`;
          },
        );
        outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
        t.true(['served', 'served, reading fails', 'refused'].includes(outcome), outcome);
        const bytes = await readFile(join(neighbour.paths.targetPath, 'file'));
        t.is(createHash('sha256').update(bytes).digest('hex'), neighbour.hash);
        await node.volumes.unstageVolume(call(), {
          volumeId: id,
          stagingTargetPath: paths.stagingTargetPath,
        });
        await node.volumes.deleteVolume(call(), id);
      }
      t.log(JSON.stringify(Object.fromEntries(outcomes)));
      await unmountVolume(node, neighbour.id, neighbour.paths);
      await node.volumes.deleteVolume(call(), neighbour.id);
    },
  );
}
