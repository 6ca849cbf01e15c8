import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, readFile, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { VolumeError } from '../../src/errors.ts';
import { fsTypes } from '../../src/host/host.ts';
import { GiB, MiB } from '../../src/units.ts';
import { makeMeasure } from '../../src/volumes/admin/metrics/measure.ts';
import { chunkBytes, chunkOf } from '../helpers/fsync-writer.ts';
import { onNode } from '../helpers/on-node.ts';
import {
  call,
  mountVolume,
  type ScratchNode,
  scratchNode,
  unmountVolume,
  volumeInput,
} from '../helpers/scratch-node.ts';
import { until } from '../helpers/until.ts';

const writerProgram = join(import.meta.dirname, '..', 'helpers', 'fsync-writer.js');

interface Writer {
  readonly process: ChildProcess;
  readonly ended: Promise<unknown>;
  acknowledged: number;
}

function startWriter(file: string, chunks: number): Writer {
  const child = spawn(process.execPath, [writerProgram, file, String(chunks)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const writer: Writer = { process: child, ended: once(child, 'exit'), acknowledged: 0 };
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    writer.acknowledged += text.split('\n').length - 1;
  });
  return writer;
}

async function countWrong(file: string, chunks: number): Promise<number> {
  const handle = await open(file, 'r');
  try {
    let wrong = 0;
    const found = Buffer.alloc(chunkBytes);
    for (let number = 0; number < chunks; number += 1) {
      await handle.read(found, 0, chunkBytes, number * chunkBytes);
      if (!found.equals(chunkOf(number))) wrong += 1;
    }
    return wrong;
  } finally {
    await handle.close();
  }
}

async function isReadOnly(node: ScratchNode, target: string): Promise<boolean> {
  const mount = await node.host.mounts.at(target);
  return (
    mount?.superOptions.some((option) => /^(?:ro|emergency_ro|shutdown)$/.test(option)) ?? true
  );
}

for (const fsType of fsTypes) {
  onNode(
    `${fsType}: three overcommitted volumes that are filled at once wait for free space and lose nothing`,
    async (t) => {
      const node = await scratchNode(t, {
        poolFs: 'ext4',
        poolFsBytes: 2n * GiB,
        pool: { overcommitPerMille: 4000, reserve: { bytes: 0n } },
      });
      const ballast = join(node.poolPath, 'ballast');
      await execa('fallocate', ['--length', String(700n * MiB), ballast]);
      const chunks = 120;
      const volumes = await Promise.all(
        ['a', 'b', 'c'].map(async (name) => {
          const input = volumeInput(name, { fsType, sizeBytes: GiB });
          const { record } = await node.volumes.createVolume(call(), input);
          const paths = await mountVolume(node, record.id);
          const file = join(paths.targetPath, 'file');
          return { id: record.id, paths, file, writer: startWriter(file, chunks) };
        }),
      );
      t.teardown(async () => {
        await node.domain.guard.stop();
        for (const { writer } of volumes) writer.process.kill('SIGKILL');
        await Promise.all(volumes.map(({ writer }) => writer.ended));
      });
      await until('all three are frozen', () => node.domain.guard.frozenCount === 3);
      const { bavail, bsize } = await statfs(node.poolPath, { bigint: true });
      t.true(bavail * bsize > 0n, 'the pool has space for what the freeze flushed');
      for (const { id } of volumes) {
        const conditions = await node.volumes.volumeHealth(id);
        t.true(
          conditions.some(({ reason }) => reason === 'FrozenForRoom'),
          JSON.stringify(conditions),
        );
      }
      const [measures] = (await makeMeasure(node.domain, { timeoutMs: 5_000 })()).pools;
      t.is(measures?.frozenVolumes, 3);
      const [condition] = await node.volumes.storageHealth();
      t.like(condition, { status: 'STORAGE_DEGRADED', reason: 'PoolNearlyFull' });
      t.regex(condition?.message ?? '', /nothing new is created/);
      const refused = await t.throwsAsync(
        node.volumes.createVolume(call(), volumeInput('late', { sizeBytes: 64n * MiB })),
        { instanceOf: VolumeError },
      );
      t.is(refused?.reason, 'no-space');

      await rm(ballast);
      await Promise.all(volumes.map(({ writer }) => writer.ended));
      for (const { id, paths, file, writer } of volumes) {
        t.is(writer.process.exitCode, 0, 'no write failed');
        t.is(writer.acknowledged, chunks);
        t.false(await isReadOnly(node, paths.targetPath), 'no filesystem is read-only');
        t.is(await countWrong(file, chunks), 0, 'no acknowledged data is lost');
        await unmountVolume(node, id, paths);
        await mountVolume(node, id);
        t.is(await countWrong(file, chunks), 0, 'and again after a mount');
        await unmountVolume(node, id, paths);
        await node.volumes.deleteVolume(call(), id);
      }
    },
  );
}

onNode('a freeze ends at its time limit, at unstage, and when the driver stops', async (t) => {
  const node = await scratchNode(t, {
    poolFs: 'ext4',
    poolFsBytes: GiB,
    pool: { overcommitPerMille: 4000, reserve: { bytes: 0n } },
    settings: { guardFreezeLimitMs: 1_500 },
  });
  const make = async (name: string) => {
    const { record } = await node.volumes.createVolume(
      call(),
      volumeInput(name, { sizeBytes: 256n * MiB }),
    );
    return { id: record.id, paths: await mountVolume(node, record.id) };
  };
  const [a, b] = [await make('a'), await make('b')];
  const ballast = join(node.poolPath, 'ballast');
  const { bavail, bsize } = await statfs(node.poolPath, { bigint: true });
  await execa('fallocate', ['--length', String(bavail * bsize - 8n * MiB), ballast]);
  await until('both are frozen', () => node.domain.guard.frozenCount === 2);

  await unmountVolume(node, b.id, b.paths);
  t.is(node.domain.guard.frozenSince(b.id), undefined, 'unstage thaws');
  await until('the time limit has expired', () => node.domain.guard.isExpired(a.id));
  const file = await open(join(a.paths.targetPath, 'after'), 'w');
  await file.writeFile('writes continue');
  await file.sync();
  await file.close();
  t.is(await readFile(join(a.paths.targetPath, 'after'), 'utf8'), 'writes continue');

  await rm(ballast);
  await until('space is free again', () => !node.domain.guard.isExpired(a.id));
  await execa('fallocate', ['--length', String(bavail * bsize - 8n * MiB), ballast]);
  await until('it is frozen again', () => node.domain.guard.frozenCount === 1);
  await node.restart({
    whileClosed: async () => {
      // A stopped driver freezes nothing: a writer on a frozen filesystem would hang here forever.
      const again = await open(join(a.paths.targetPath, 'restarted'), 'w');
      await again.close();
      // The next driver finds free space, so its guard does not freeze during the calls below.
      await rm(ballast);
    },
  });
  await unmountVolume(node, a.id, a.paths);
});
